//! Rendered scenes: what they promise, and later the whole daemon on twenty of them.
//!
//! In: `scene://` URIs. Out: passes where pictures and truth agree and every promise is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use e2e::score::{self, Seen, Truth};
use gstreamer as gst;
use gstreamer::prelude::*;
use tracker::baseline::GreedyIou;
use tracker::{Bounds, Coasting, Config, Detection, Tracker, Tuning};
use watchpost::flow::{Matrix, Picture, Rect};
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::{Action, FrameTruth, LiveScene, Scene, SceneSpec};

fn spec(uri: &str) -> SceneSpec {
    SceneSpec::parse(uri).unwrap()
}

fn hash(picture: &Picture) -> u64 {
    let mut hasher = DefaultHasher::new();
    picture.plane(0).hash(&mut hasher);
    picture.plane(1).hash(&mut hasher);
    hasher.finish()
}

#[test]
fn the_same_uri_renders_the_same_bytes_in_any_order() {
    for uri in ["scene://people?seed=5&size=320x180", "scene://ball?seed=5&size=320x180&seconds=20"] {
        let mut forward = Scene::new(&spec(uri));
        let mut hashes = BTreeMap::new();
        for index in 0..300 {
            hashes.insert(index, hash(&forward.frame(index).0));
        }
        let mut jumping = Scene::new(&spec(uri));
        for index in [299, 0, 120, 121, 7] {
            assert_eq!(hash(&jumping.frame(index).0), hashes[&index], "{uri} frame {index}");
        }
        let mut other = Scene::new(&spec(&uri.replace("seed=5", "seed=6")));
        assert_ne!(hash(&other.frame(10).0), hashes[&10]);
    }
}

#[test]
fn rate_and_size_do_not_change_what_happens() {
    let at = |uri: &str, second: u64| -> FrameTruth {
        let spec = spec(uri);
        let index = second * u64::from(spec.rate.0) / u64::from(spec.rate.1);
        Scene::new(&spec).frame(index).1
    };
    for kind in ["people", "ball"] {
        for second in [2, 9, 17] {
            let base = at(&format!("scene://{kind}?seed=3&size=640x360&fps=25"), second);
            for fps in ["10", "60", "200"] {
                let other = at(&format!("scene://{kind}?seed=3&size=640x360&fps={fps}"), second);
                assert_eq!(base.people, other.people, "{kind} at {second} s and {fps} fps");
            }
            let large = at(&format!("scene://{kind}?seed=3&size=1280x720&fps=25"), second);
            let ids = |f: &FrameTruth| f.people.iter().map(|p| p.id).collect::<BTreeSet<_>>();
            assert!(!base.people.is_empty() && ids(&base).is_subset(&ids(&large)));
            for p in &base.people {
                let q = large.people.iter().find(|q| q.id == p.id).unwrap();
                let (a, b) = (Rect::from(p.bounds), Rect::from(q.bounds.map(|v| v * 0.5)));
                let corners = [a.x - b.x, a.y - b.y, a.right() - b.right(), a.bottom() - b.bottom()];
                assert!(corners.iter().all(|d| d.abs() <= 2.0), "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn boxes_lie_where_the_pictures_differ_from_the_empty_place() {
    let mut scene = Scene::new(&spec("scene://people?seed=11&people=5&fights=0&seconds=60"));
    let size = scene.spec().size;
    let (w, h) = (size.width as usize, size.height as usize);
    let shots: Vec<(Picture, FrameTruth)> = (0..30).map(|i| scene.frame(i * 49)).collect();
    // Where most of half a minute's pictures agree, nobody stands.
    let empty: Vec<u8> = (0..w * h)
        .map(|at| {
            let mut values: Vec<u8> = shots.iter().map(|s| s.0.plane(0)[at]).collect();
            values.sort_unstable();
            values[values.len() / 2]
        })
        .collect();
    let (mut checked, mut good) = (0, 0);
    for (picture, truth) in &shots {
        let boxes: Vec<Rect> = truth.people.iter().map(|p| Rect::from(p.bounds)).collect();
        for (i, person) in truth.people.iter().enumerate() {
            let b = boxes[i];
            let alone = boxes.iter().enumerate().all(|(k, o)| k == i || o.intersect(&b).area() == 0.0);
            let inside = b.x > 8.0 && b.right() < w as f32 - 8.0;
            if person.visible < 0.98 || !alone || !inside {
                continue;
            }
            let differs = |x: usize, y: usize| picture.plane(0)[y * w + x].abs_diff(empty[y * w + x]) > 12;
            let (x0, x1) = (b.x as usize, b.right() as usize);
            let (y0, y1) = (b.y as usize, b.bottom() as usize);
            let count = (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y))).filter(|(x, y)| differs(*x, *y));
            let share = count.count() as f32 / b.area();
            // Shadows lie at the feet, so the sides are judged on the upper half.
            let (top, middle) = (y0.saturating_sub(6), (y0 + y1) / 2);
            let upper = (top..middle).flat_map(|y| (x0 - 6..x1 + 6).map(move |x| (x, y)));
            let outside = upper.filter(|(x, y)| (*x < x0 || *x >= x1 || *y < y0) && differs(*x, *y)).count();
            checked += 1;
            good += usize::from((0.2..0.98).contains(&share) && outside < 25);
        }
    }
    assert!(checked >= 20, "only {checked} people stand free");
    assert!(good * 10 >= checked * 8, "{good} of {checked} boxes agree with the pixels");
}

#[test]
fn a_minute_has_its_crossings_and_few_long_hides() {
    for seed in 1..=20 {
        let truth = Scene::new(&spec(&format!("scene://people?seed={seed}&seconds=60"))).truth();
        let n = truth.crossings.len();
        eprintln!("seed {seed}: {n} crossings, {} longer, {} fights", truth.long_hidden, truth.fights.len());
        assert!(n >= 15, "seed {seed}: {n} crossings");
        assert!((truth.long_hidden as usize) * 10 <= n, "seed {seed}: {} hidden longer", truth.long_hidden);
        assert!(truth.crossings.iter().all(|c| c.end - c.begin <= 2.0 && c.least < 0.5));
        assert!(truth.fights.len() <= 2);
    }
}

#[test]
fn fights_are_where_the_header_says_and_others_do_much_else() {
    let mut actions: BTreeMap<Action, usize> = BTreeMap::new();
    for (seed, fights) in [(21, 2), (22, 1), (23, 0)] {
        let spec = spec(&format!("scene://people?seed={seed}&fights={fights}&seconds=60&size=320x180&fps=5"));
        let mut scene = Scene::new(&spec);
        let truth = scene.truth();
        assert_eq!(truth.fights.len(), fights, "seed {seed}");
        for index in 0..300 {
            let (_, frame) = scene.frame(index);
            let t = frame.pts as f64 * 1e-9;
            for person in &frame.people {
                *actions.entry(person.action).or_default() += 1;
                let fight =
                    truth.fights.iter().find(|f| f.ids.contains(&person.id) && f.begin <= t && t < f.end);
                assert_eq!(person.action == Action::Fight, fight.is_some(), "seed {seed} at {t} s");
                if let Some(fight) = fight {
                    let (whole, b) = (Rect::from(fight.bounds), Rect::from(person.bounds));
                    assert!(whole.intersect(&b).area() > 0.85 * b.area(), "{whole:?} {b:?}");
                }
            }
        }
    }
    for action in [Action::Walk, Action::Run, Action::Stand, Action::Talk, Action::Dance, Action::Hug] {
        assert!(actions.get(&action).is_some_and(|n| *n > 30), "{action:?}: {actions:?}");
    }
}

#[test]
fn a_cut_shows_another_place_with_other_people() {
    let mut scene = Scene::new(&spec("scene://people?seed=4&seconds=30&cuts=2&size=320x180"));
    let cuts = scene.truth().cuts;
    assert_eq!(cuts.len(), 2);
    for cut in cuts {
        let first = (cut * 25.0).ceil() as u64;
        let (shots, truths): (Vec<_>, Vec<_>) = (first - 2..first + 2).map(|i| scene.frame(i)).unzip();
        let change = |a: &Picture, b: &Picture| -> u64 {
            a.plane(0).iter().zip(b.plane(0)).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        let (before, at, after) =
            (change(&shots[0], &shots[1]), change(&shots[1], &shots[2]), change(&shots[2], &shots[3]));
        assert!(at > 4 * before.max(after), "{before} {at} {after}");
        let ids = |f: &FrameTruth| f.people.iter().map(|p| p.id).collect::<BTreeSet<_>>();
        assert!(ids(&truths[1]).is_disjoint(&ids(&truths[2])));
    }
}

#[test]
fn the_ball_is_played_and_sometimes_hidden() {
    for seed in [1, 2, 3, 4] {
        let mut scene = Scene::new(&spec(&format!("scene://ball?seed={seed}&seconds=60&fps=10")));
        let (mut seen, mut hidden, mut far) = (0, 0, 0.0_f32);
        let mut first: Option<(f32, f32)> = None;
        for index in 0..600 {
            let (_, frame) = scene.frame(index);
            let Some(ball) = frame.ball else { continue };
            seen += 1;
            hidden += usize::from(ball.visible < 0.3);
            let c = Rect::from(ball.bounds).center();
            let from = *first.get_or_insert(c);
            far = far.max((c.0 - from.0).hypot(c.1 - from.1));
            assert!(ball.bounds[2] < 40.0 && ball.bounds[3] < 40.0);
        }
        assert!(seen > 540 && far > 150.0, "seed {seed}: seen {seen} of 600, went {far} pixels");
        assert!((5..300).contains(&hidden), "seed {seed}: hidden in {hidden} frames");
    }
}

#[test]
fn colours_are_coded_as_the_picture_says() {
    let matrix =
        |size: &str| Scene::new(&spec(&format!("scene://people?size={size}"))).frame(0).0.color.matrix;
    assert_eq!((matrix("640x360"), matrix("1280x720")), (Matrix::Bt601, Matrix::Bt709));
    // Odd sizes round chroma up.
    let (odd, _) = Scene::new(&spec("scene://ball?size=321x181")).frame(3);
    assert_eq!((odd.plane(0).len(), odd.plane(1).len()), (321 * 181, 322 * 91));
}

#[test]
fn a_live_scene_never_lags_counts_what_it_drops_and_stops() {
    // More than can be rendered: some must be dropped, on any machine.
    let mut live = LiveScene::new(&spec("scene://people?seed=2&size=3840x2160&fps=240"), "yard");
    let stop = live.stopper();
    let frames: Vec<_> = std::iter::from_fn(|| live.next()).take(12).collect();
    let missing: u64 = frames.iter().map(|f| f.0.meta.gap).sum();
    let period = 1e9 / 240.0;
    assert!(live.dropped() > 0);
    assert!((missing as f64 / period - live.dropped() as f64).abs() < 0.1);
    for (i, pair) in frames.windows(2).enumerate() {
        assert_eq!(pair[1].0.meta.index, i as u64 + 1);
        assert!(pair[1].0.meta.pts > pair[0].0.meta.pts);
        assert!(pair[1].0.meta.motion > 0.0);
    }
    // Stopped while it waits for a frame that is due much later.
    let mut slow = LiveScene::new(&spec("scene://people?seed=2&size=64x64&fps=1"), "yard");
    let stopper = slow.stopper();
    let thread = std::thread::spawn(move || std::iter::from_fn(|| slow.next()).count());
    stopper.stop();
    assert!(thread.join().unwrap() < 100);
    stop.stop();
    assert!(live.next().is_none());
}

fn decoded(path: &Path) -> usize {
    gst::init().unwrap();
    let text = format!("filesrc location=\"{}\" ! decodebin ! appsink name=out sync=false", path.display());
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let count = std::iter::from_fn(|| out.pull_sample().ok()).count();
    pipeline.set_state(gst::State::Null).unwrap();
    count
}

#[test]
fn an_export_is_complete_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec("scene://people?seed=8&size=322x182&seconds=4");
    let quiet = ExportOptions { progress: false, ..ExportOptions::default() };
    let done = export(&spec, &folder.path().join("h264"), &quiet).unwrap();
    assert_eq!((done.frames, decoded(&done.video)), (100, 100));
    let truth = Truth::read(&done.truth);
    assert_eq!((truth.frames.len(), truth.scene.width), (100, 322));
    assert_eq!(truth.frames[99].pts, 3_960_000_000);

    let raw = ExportOptions { raw: true, frames: Some(10), ..quiet };
    let done = export(&spec, &folder.path().join("raw"), &raw).unwrap();
    assert_eq!(std::fs::metadata(&done.video).unwrap().len(), 10 * (322 * 182 + 322 * 91));
    assert_eq!(Truth::read(&done.truth).frames, truth.frames[..10]);
}

/// What a good detector makes of a frame: less sure and less exact the less it sees, and the more often blind.
fn detections(frame: &FrameTruth, dice: &mut impl FnMut() -> f32) -> Vec<Detection> {
    let mut found = Vec::new();
    for person in &frame.people {
        let score = 0.35 + 0.6 * person.visible - 0.1 * dice().abs();
        if person.visible < 0.2 || dice() > 0.96 - 0.7 * (1.0 - person.visible) {
            continue;
        }
        let b = person.bounds;
        let off = 0.02 + 0.08 * (1.0 - person.visible);
        let bounds = Bounds::new(
            b[0] + b[2] * off * dice(),
            b[1] + b[3] * off * dice(),
            b[2] * (1.0 + off * dice()),
            b[3] * (1.0 + off * dice()),
        );
        found.push(Detection { model: 0, class: 0, kind: 0, score, bounds });
    }
    found
}

#[test]
fn scenes_can_be_tracked_but_not_by_overlap_alone() {
    let (mut ours, mut greedy) = (Vec::new(), Vec::new());
    for seed in [31_u64, 32, 33, 34, 35, 36] {
        let spec = spec(&format!("scene://people?seed={seed}&seconds=60"));
        let mut scene = Scene::new(&spec);
        let mut state: u64 = seed;
        let mut dice = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let mut truth = Truth { scene: scene.truth(), frames: Vec::new() };
        let (mut tracker, mut baseline) =
            (Tracker::new(Config::default(), Tuning::default()), GreedyIou::default());
        let (mut by_tracker, mut by_greedy) = (Vec::new(), Vec::new());
        let (mut next, mut ids, mut coasting) = (0, Vec::new(), Vec::new());
        for index in 0..spec.frames().unwrap() {
            let (_, frame) = scene.frame(index);
            let found = detections(&frame, &mut dice);
            let mut new_id = || {
                next += 1;
                next
            };
            let place = |id: u64, b: &Bounds| (id, Rect::new(b.x, b.y, b.w, b.h));
            let seen = |ids: &[u64], coasting: &[Coasting]| {
                let live = ids.iter().zip(&found).filter(|(id, _)| **id != 0);
                let live = live.map(|(id, d)| place(*id, &d.bounds));
                let tracks = live.chain(coasting.iter().map(|c| place(c.id, &c.bounds))).collect();
                Seen { pts: frame.pts, tracks }
            };
            let now = frame.pts as f64 * 1e-9;
            tracker.step(now, &[0], &found, &mut new_id, &mut ids, &mut coasting);
            by_tracker.push(seen(&ids, &coasting));
            baseline.step(&found, (0.3, 5), &mut new_id, &mut ids);
            by_greedy.push(seen(&ids, &[]));
            truth.frames.push(frame);
        }
        let (a, b) = (score::tracks(&truth, &by_tracker), score::tracks(&truth, &by_greedy));
        let n = truth.scene.crossings.len();
        eprintln!("seed {seed}, {n} crossings: tracker {a:?}\n  greedy {b:?}");
        ours.push(a.idf1);
        greedy.push(b.idf1);
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    eprintln!("IDF1: tracker {:.3} {ours:.3?}, greedy {:.3} {greedy:.3?}", mean(&ours), mean(&greedy));
    assert!(mean(&ours) >= 0.85 && mean(&ours) > mean(&greedy) + 0.05);
}
