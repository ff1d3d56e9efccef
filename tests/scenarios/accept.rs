//! Acceptance: rendered scenes of seeds used nowhere else, through H.264 and the whole daemon, scored against what is
//! true of them; and the same with simpler logic in place of the plugins, which must clearly fail.
//!
//! In: seeds 9001 to 9020; three of them here, one live over RTSP, all with `WATCHPOST_ACCEPT=all` (`make
//! accept`). Out: a table, and passes where every fight has one alert in time, nothing else has any, identities are
//! kept (IDF1) and the framed people are inside the view.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::daemon::Daemon;
use e2e::mosquitto::Mosquitto;
use e2e::rtsp::RtspServer;
use e2e::score::{self, Alert, AlertScore, Seen, Subject, TrackScore, Truth};
use e2e::trace::Trace;
use tracker::baseline::GreedyIou;
use tracker::{Bounds, Detection};
use violence_alert::baseline::SingleThreshold;
use watchpost::flow::Rect;
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::SceneSpec;

/// The seed that is played live over RTSP, the others from files.
const LIVE: u64 = 9008;
/// Least IDF1, over the people of all twenty scenes.
const IDF1: f64 = 0.85;
/// Least share of frames with the framed people inside the view.
const FRAMED: f64 = 0.98;
/// Confidences and overlaps among which the greedy tracker may choose its best.
const GREEDY: [(f32, f32); 6] = [(0.3, 0.3), (0.5, 0.3), (0.6, 0.3), (0.3, 0.5), (0.5, 0.5), (0.6, 0.5)];
/// Thresholds among which the single threshold may choose its best.
const SINGLE: [f32; 5] = [0.3, 0.5, 0.7, 0.8, 0.9];

/// The seeds to run: `WATCHPOST_ACCEPT` is `all`, or a range `LOW-HIGH` for whoever tunes on other seeds.
fn seeds() -> Vec<u64> {
    match std::env::var("WATCHPOST_ACCEPT").as_deref() {
        Ok("all") => (9001..=9020).collect(),
        Ok(range) => {
            let (low, high) = range.split_once('-').expect("WATCHPOST_ACCEPT: expected all or LOW-HIGH");
            (low.parse().unwrap()..=high.parse().unwrap()).collect()
        }
        Err(_) => vec![9001, LIVE, 9015],
    }
}

/// Renders a seed's scene into `folder`.
fn render(seed: u64, folder: &Path) -> (PathBuf, Truth) {
    let uri = format!("scene://people?seed={seed}&size=640x360&fps=25&seconds=60");
    let quiet = ExportOptions { progress: false, ..ExportOptions::default() };
    let done = export(&SceneSpec::parse(&uri).unwrap(), folder, &quiet).unwrap();
    let truth = Truth::read(&done.truth);
    assert!(truth.scene.crossings.len() >= 15, "seed {seed}: {} crossings", truth.scene.crossings.len());
    (done.video, truth)
}

/// Where to keep traces for a closer look; a temporary folder where nobody asks.
fn trace_file(seed: u64, folder: &Path) -> PathBuf {
    let kept = std::env::var_os("WATCHPOST_ACCEPT_TRACES").map(PathBuf::from);
    kept.unwrap_or_else(|| folder.to_owned()).join(format!("{seed}.jsonl"))
}

/// Plays a source to its end, or for `seconds` of a live one. Out: the trace, and the alerts as they came over MQTT.
fn play(seed: u64, source: &str, folder: &Path, seconds: Option<f64>) -> (Trace, Vec<Alert>) {
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/#");
    let file = trace_file(seed, folder);
    let config = format!(
        "box.name = \"gate\"\nmqtt.url = \"{}\"\nmodels.people.path = \"people\"\nmodels.violence.path = \"violence\"\n\
         [streams.yard]\nsource = \"{source}\"\ntrace = \"{}\"\nmodels.people = {{}}\nmodels.violence = {{}}\n\
         plugins.tracker = {{ order = 1 }}\nplugins.fights = {{ order = 2, use = \"violence-alert\" }}\n\
         plugins.follow = {{ order = 3, use = \"camera-framing\", mode = \"group\" }}\n",
        broker.url(),
        file.display(),
    );
    let daemon = Daemon::start(folder, &config);
    let status = "watchpost/gate/streams/yard/status";
    let patience = Instant::now() + Duration::from_secs(300);
    let mut running = None;
    loop {
        let messages = inbox.messages();
        let state = messages.iter().rev().find(|m| m.topic == status).map(|m| m.json()["state"].clone());
        let state = state.as_ref().and_then(|state| state.as_str());
        if state == Some("running") {
            running.get_or_insert_with(Instant::now);
        }
        let over = |begun: Instant| seconds.is_some_and(|s| begun.elapsed().as_secs_f64() > s);
        if state == Some("ended") || running.is_some_and(over) {
            break;
        }
        assert!(
            state != Some("failed") && Instant::now() < patience,
            "seed {seed}: {state:?}\n{}",
            daemon.log()
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(daemon.stop().success());
    let alerts = inbox
        .messages()
        .iter()
        .filter(|message| message.topic.contains("/events/"))
        .map(|message| message.json())
        .filter(|event| event["change"] == "begin")
        .map(|event| Alert { begin: event["pts"].as_f64().unwrap() })
        .collect();
    (Trace::read(&file), alerts)
}

/// What the greedy tracker makes of the same detections.
fn greedy(trace: &Trace, person: (u32, u32), (least_score, least_overlap): (f32, f32)) -> Vec<Seen> {
    let (mut tracker, mut next, mut ids) = (GreedyIou::default(), 0, Vec::new());
    let mut seen = Vec::new();
    for line in &trace.frames {
        let of = |o: &&e2e::trace::Object| (o.model, o.class) == person && o.score >= least_score;
        let found: Vec<Detection> = line
            .found
            .iter()
            .filter(of)
            .map(|o| {
                let [x, y, w, h] = o.bounds;
                Detection { model: 0, class: 0, kind: 0, score: o.score, bounds: Bounds::new(x, y, w, h) }
            })
            .collect();
        let mut new_id = || {
            next += 1;
            next
        };
        tracker.step(&found, (least_overlap, 25), &mut new_id, &mut ids);
        let place =
            |(id, d): (&u64, &Detection)| (*id, Rect::new(d.bounds.x, d.bounds.y, d.bounds.w, d.bounds.h));
        seen.push(Seen { pts: line.pts, tracks: ids.iter().zip(&found).map(place).collect() });
    }
    seen
}

/// The alerts of a single threshold on the same scores.
fn single(trace: &Trace, fight: (u32, u32), threshold: f32) -> Vec<Alert> {
    let mut logic = SingleThreshold::default();
    let mut alerts = Vec::new();
    for line in &trace.frames {
        for score in line.scores.iter().filter(|s| (s.model, s.class) == fight) {
            let now = line.pts as f64 * 1e-9;
            let score = violence_alert::Score { value: score.value, begin: now, end: now, region: None };
            if logic.score(&score, threshold) == Some(true) {
                alerts.push(Alert { begin: now });
            }
        }
    }
    alerts
}

/// Everything about one scene.
struct Outcome {
    seed: u64,
    crossings: usize,
    tracks: TrackScore,
    alerts: AlertScore,
    framed: f64,
    greedy: Vec<TrackScore>,
    single: Vec<AlertScore>,
}

fn outcome(seed: u64, live: bool) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (video, truth) = render(seed, &folder.path().join("scene"));
    let (trace, mut alerts) = if live {
        let camera = RtspServer::serve(&video);
        // The camera plays the file over and over: what comes after its end is cut off below.
        let seconds = truth.frames.len() as f64 / truth.scene.fps + 3.0;
        play(seed, &camera.url("/main"), folder.path(), Some(seconds))
    } else {
        play(seed, &video.display().to_string(), folder.path(), None)
    };
    let (person, fight) = (trace.class("people", "person"), trace.class("violence", "fight"));
    let mut tracks = trace.tracks(person);
    let mut views = trace.views("follow/main");
    // A live stream's clock begins when the daemon joins.
    let shift = if live { score::align(&truth, &tracks, 2.0) } else { 0 };
    let later = |pts: u64| pts.saturating_add_signed(shift);
    tracks.iter_mut().for_each(|seen| seen.pts = later(seen.pts));
    views.iter_mut().for_each(|view| view.0 = later(view.0));
    let end = truth.frames.len() as f64 / truth.scene.fps;
    let in_scene = |mut alerts: Vec<Alert>| {
        alerts.iter_mut().for_each(|alert| alert.begin += shift as f64 * 1e-9);
        alerts.retain(|alert| alert.begin < end);
        alerts
    };
    alerts = in_scene(alerts);
    let by_greedy = |how| {
        let mut seen = greedy(&trace, person, how);
        seen.iter_mut().for_each(|seen| seen.pts = later(seen.pts));
        score::tracks(&truth, &seen)
    };
    Outcome {
        seed,
        crossings: truth.scene.crossings.len(),
        tracks: score::tracks(&truth, &tracks),
        alerts: score::alerts(&truth, &alerts),
        framed: score::framing(&truth, &views, Subject::Group),
        greedy: GREEDY.into_iter().map(by_greedy).collect(),
        single: SINGLE
            .into_iter()
            .map(|threshold| score::alerts(&truth, &in_scene(single(&trace, fight, threshold))))
            .collect(),
    }
}

/// IDF1 over several scenes: identities of different scenes are different, so right and all boxes add up.
fn pooled<'a>(scores: impl Iterator<Item = &'a TrackScore> + Clone) -> f64 {
    let right: f64 = scores.clone().map(|s| s.idf1 * (s.boxes + s.reported) as f64).sum();
    right / scores.map(|s| (s.boxes + s.reported) as f64).sum::<f64>()
}

fn wrong(score: &AlertScore) -> usize {
    score.late + score.missed + score.doubled + score.false_alerts
}

#[test]
fn scenes_that_nobody_has_seen() {
    let seeds = seeds();
    let mut outcomes: Vec<Outcome> = Vec::new();
    println!(
        "seed  crossings  IDF1   MOTA  switches  greedy  fights: on time late missed doubled false  delays  framed"
    );
    for seed in &seeds {
        let live = *seed == LIVE;
        let o = outcome(*seed, live);
        let greedy = o.greedy.iter().map(|s| s.idf1).fold(0.0, f64::max);
        let a = &o.alerts;
        println!(
            "{}{}  {:9}  {:.3}  {:.3}  {:8}  {greedy:.3}   {:15} {:4} {:6} {:7} {:5}  {:.1?}  {:.2} %",
            o.seed,
            if live { "L" } else { " " },
            o.crossings,
            o.tracks.idf1,
            o.tracks.mota,
            o.tracks.switches,
            a.on_time,
            a.late,
            a.missed,
            a.doubled,
            a.false_alerts,
            a.delays,
            o.framed * 100.0
        );
        outcomes.push(o);
    }
    let ours = pooled(outcomes.iter().map(|o| &o.tracks));
    let greedy = (0..GREEDY.len()).map(|i| pooled(outcomes.iter().map(|o| &o.greedy[i]))).fold(0.0, f64::max);
    let fights: usize = outcomes.iter().map(|o| o.alerts.on_time + o.alerts.late + o.alerts.missed).sum();
    let errors: usize = outcomes.iter().map(|o| wrong(&o.alerts)).sum();
    let by_threshold: Vec<usize> =
        (0..SINGLE.len()).map(|i| outcomes.iter().map(|o| wrong(&o.single[i])).sum()).collect();
    let single = by_threshold.iter().copied().min().unwrap_or(0);
    println!("IDF1 {ours:.3}, greedy IoU at its best {greedy:.3} ({:+.3})", greedy - ours);
    println!("{fights} fights, {errors} wrong alerts; a single threshold {by_threshold:?} at {SINGLE:?}");
    assert!(errors == 0, "{errors} alerts are late, missing, double or false");
    for o in &outcomes {
        assert!(o.framed >= FRAMED, "seed {}: framed in {:.2} % of the frames", o.seed, o.framed * 100.0);
    }
    assert!(greedy < ours - 0.1, "the greedy tracker does not clearly fail: {greedy:.3}");
    // Both are averages over scenes: three say less, and one of them is live on whatever machine this is.
    let (least, mistakes) = if outcomes.len() >= 10 { (IDF1, 3) } else { (IDF1 - 0.1, 0) };
    assert!(ours >= least, "IDF1 {ours:.3}, expected {least}");
    assert!(single >= mistakes, "the single threshold does not clearly fail: {single} wrong");
}
