//! A fight before a camera: its event names a picture and a clip, and both are there; masks are in every picture.

use std::path::Path;
use std::process::Command;

use e2e::cuda::Soft;
use e2e::daemon::{Daemon, binary};
use e2e::mosquitto::{Mosquitto, until};
use e2e::rtsp::RtspServer;
use serde_json::Value;
use watchpost::flow::Size;
use watchpost::scene::{Scene, SceneSpec};

use super::clips::{decodes, probe};
use super::picture::Decoded;

/// A rendered scene in which a fight begins after some seconds.
pub fn fight() -> String {
    (5001..5100)
        .map(|seed| format!("scene://people?seed={seed}&size=640x360&fps=25&seconds=40&people=7&fights=1"))
        .find(|uri| {
            let truth = Scene::new(&SceneSpec::parse(uri).unwrap()).truth();
            truth.fights.iter().any(|fight| {
                fight.begin > 4.0 && fight.begin < 9.0 && fight.end - fight.begin > 5.0 && fight.end < 20.0
            })
        })
        .expect("no seed with an early fight")
}

/// The scene as a video file.
fn video(folder: &Path, uri: &str) -> std::path::PathBuf {
    let done =
        Command::new(binary()).args(["scene", "export", "--uri", uri, "--out"]).arg(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder.join("video.mp4")
}

pub fn stream(name: &str, source: &str, more: &str) -> String {
    format!(
        "[streams.{name}]\nsource = \"{source}\"\nmodels.people = {{ sample = \"fps:12.5\" }}\nmodels.violence = {{}}\n\
         plugins.tracker = {{ order = 1 }}\nplugins.fights = {{ order = 2, use = \"violence-alert\" }}\n{more}\n"
    )
}

/// A fight begins with a low severity, and grows.
pub const MODELS: &str =
    "models.people.path = \"people\"\nmodels.violence.path = \"violence\"\nrecord.severity = \"low\"\n";

/// `watchpost status --json`.
pub fn status(daemon: &Daemon) -> Value {
    let done = daemon.command(&["status", "--json"]);
    serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)))
}

#[test]
fn a_fight_has_a_picture_and_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/b/streams/+/events/#");
    let camera = RtspServer::serve(&video(folder.path(), &fight()));
    let url = camera.url("/main");
    let mask = "masks.half = { polygon = [[0, 0], [200, 0], [200, 360], [0, 360]] }";
    let config = format!(
        "box.name = \"b\"\nmqtt.url = \"{}\"\nmqtt.snapshots = true\naccel.lane = \"cpu\"\nrecord.before_seconds = 2.0\n\
         record.after_seconds = 1.0\nrecord.min_free_bytes = 0\n{MODELS}\n{}{}",
        broker.url(),
        stream("gate", &url, ""),
        stream("yard", &fight(), mask),
    );
    let daemon = Daemon::start(folder.path(), &config);
    let state = folder.path().join("state");
    let mut clip = None;
    for name in ["gate", "yard"] {
        let topic = format!("watchpost/b/streams/{name}/events/violence");
        let begin = inbox.wait_for(&topic, |event| event["change"] == "begin");
        let incident = begin["incident"].as_str().unwrap();
        assert_eq!(begin["snapshot"], format!("clips/{name}/{incident}.jpg"), "{begin}");
        let snapshot = state.join(begin["snapshot"].as_str().unwrap());
        until("the snapshot is there", || snapshot.is_file());
        let picture = Decoded::read(&snapshot);
        assert_eq!(picture.size, Size::new(640, 360));
        // The alert's banner lies across the top, in the colour of its severity.
        let banner = match begin["severity"].as_str().unwrap() {
            "low" => 0x0024_5FA8,
            "medium" => 0x00C7_6A00,
            "high" => 0x00C4_1818,
            _ => 0x0090_00A0,
        };
        assert!(picture.count(banner) > 2000, "the alert is in the picture: {begin}");
        if name == "yard" {
            assert!(picture.is_black((4, 60), (190, 320)), "nobody may see what is masked");
            assert!(begin.get("clip").is_none(), "{begin}");
        } else {
            assert!(!picture.is_black((4, 60), (190, 320)));
            assert_eq!(begin["clip"], format!("clips/{name}/{incident}.mp4"), "{begin}");
            clip = Some((state.join(begin["clip"].as_str().unwrap()), begin.clone()));
        }
        // Whoever comes later gets the newest picture at once.
        let topic = format!("watchpost/b/streams/{name}/snapshot");
        let pictures = broker.subscribe(&topic).wait("a retained picture", |messages| !messages.is_empty());
        assert!(pictures[0].payload.starts_with(&[0xFF, 0xD8]), "a JPEG");
        assert_eq!(Decoded::of(&pictures[0].payload).size, Size::new(640, 360));
        let end = inbox.wait_for(&topic.replace("snapshot", "events/violence"), |event| {
            event["change"] == "end" && event["incident"] == incident
        });
        assert_eq!(
            (&end["snapshot"], &end["clip"]),
            (&begin["snapshot"], &begin["clip"]),
            "named to the end"
        );
    }
    let (clip, begin) = clip.unwrap();
    until("the clip is there", || clip.is_file());
    let seen = probe(&clip);
    let packets = seen["packets"].as_array().unwrap();
    assert!(packets[0]["flags"].as_str().unwrap().starts_with('K'));
    let length: f64 = seen["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!(length > 4.0, "two seconds before, one after, and the fight: {length}\n{begin}");
    assert!(decodes(&clip) as f64 > length * 20.0);

    let seen = status(&daemon);
    assert_eq!(seen["record"]["state"], "recording");
    assert!(
        seen["record"]["snapshots"].as_u64().unwrap() >= 2 && seen["record"]["clips"].as_u64().unwrap() >= 1
    );
    assert!(seen["streams"]["gate"].get("no_clips").is_none(), "{seen}");
    let text = String::from_utf8_lossy(&daemon.command(&["status"]).stdout).into_owned();
    // A rendered scene has no packets in the first place.
    assert!(text.contains("record recording") && text.contains("  no clips: a rendered scene"), "{text}");
    assert!(daemon.stop().success());
}

#[test]
fn a_stream_with_masks_says_that_it_has_no_clips() {
    let folder = tempfile::tempdir().unwrap();
    let camera =
        RtspServer::serve(&video(folder.path(), "scene://people?seed=3&size=320x180&fps=25&seconds=4"));
    let mask = "masks.half = { polygon = [[0, 0], [100, 0], [100, 180], [0, 180]] }";
    let config = format!(
        "box.name = \"b\"\nmqtt.url = \"off\"\naccel.lane = \"cpu\"\n[streams.s]\nsource = \"{}\"\n{mask}\n",
        camera.url("/main")
    );
    let daemon = Daemon::start(folder.path(), &config);
    let why = "it has masks, and no mask covers the source's own packets";
    until("it is said", || status(&daemon)["streams"]["s"]["no_clips"] == why);
    assert!(daemon.log().contains("no clips are recorded of this stream"), "{}", daemon.log());
    assert!(daemon.stop().success());
}

#[test]
fn both_lanes_take_the_same_picture() {
    let folder = tempfile::tempdir().unwrap();
    let film = video(folder.path(), &fight().replace("seconds=40", "seconds=14"));
    let mask = "masks.half = { polygon = [[0, 0], [200, 0], [200, 360], [0, 360]] }";
    let taken = ["cpu", "cuda"].map(|lane| {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "box.name = \"b\"\nmqtt.url = \"off\"\naccel.lane = \"{lane}\"\nrecord.min_free_bytes = 0\n{MODELS}\n{}",
            stream("s", film.to_str().unwrap(), mask)
        );
        let soft = (lane == "cuda").then(|| Soft::new(folder.path()));
        let environment = soft.as_ref().map(Soft::environment).unwrap_or_default();
        let daemon = Daemon::start_with(folder.path(), &config, &environment);
        until("the film is over", || status(&daemon)["streams"]["s"]["state"] == "ended");
        assert_eq!(status(&daemon)["streams"]["s"]["lane"], lane);
        let process = daemon.id();
        assert!(daemon.stop().success());
        if let Some(soft) = &soft {
            soft.books(process).balance();
        }
        let clips = folder.path().join("state/clips/s");
        let mut files: Vec<_> = std::fs::read_dir(clips).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.iter().all(|file| file.extension().unwrap() == "jpg"), "{files:?}");
        std::fs::read(&files[0]).unwrap()
    });
    assert_eq!(taken[0], taken[1], "the same file, byte by byte");
    assert!(Decoded::of(&taken[0]).is_black((4, 60), (190, 320)), "masked");
}
