//! The main job with real servers: an RTSP server serves a video to two streams, mosquitto gets objects and events,
//! nginx gets the framed picture over RTMP, viewers pull from the daemon's own RTSP server. And `kill -9`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::daemon::{Daemon, binary, free_port};
use e2e::data::{data, root};
use e2e::models::shared_model;
use e2e::mosquitto::{Message, Mosquitto};
use e2e::rtmp::Rtmp;
use e2e::rtsp::RtspServer;
use serde_json::Value;
use watchpost::scene::{Scene, SceneSpec};

/// A rendered video in which a fight begins early, and when it begins.
fn fight_video(folder: &Path) -> PathBuf {
    let uri = (5001..5100)
        .map(|seed| format!("scene://people?seed={seed}&size=640x360&fps=25&seconds=30&people=7&fights=1"))
        .find(|uri| {
            let truth = Scene::new(&SceneSpec::parse(uri).unwrap()).truth();
            truth
                .fights
                .iter()
                .any(|fight| fight.begin > 3.0 && fight.begin < 9.0 && fight.end - fight.begin > 5.0)
        })
        .expect("no seed with an early fight");
    let done = Command::new(binary())
        .args(["scene", "export", "--uri", &uri, "--out"])
        .arg(folder)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder.join("video.mp4")
}

fn stream(name: &str, url: &str, model: &str, rtmp: &str) -> String {
    format!(
        r#"
[streams.{name}]
source = "{url}"
models.{model} = {{ sample = "fps:12.5" }}
models.violence = {{}}
plugins.tracker = {{ order = 1 }}
plugins.fights = {{ order = 2, use = "violence-alert" }}
plugins.follow = {{ order = 3, use = "camera-framing", mode = "group" }}
outputs.wide = {{ serve = "rtsp" }}
outputs.framed = {{ to = "{rtmp}", view = "follow/main", size = "480x270", overlay = true }}
"#
    )
}

fn config(broker: &str, rtsp: u16, models: &str, streams: &[String]) -> String {
    format!(
        "box.name = \"gate\"\nmqtt.url = \"{broker}\"\nmqtt.objects_rate = 5.0\nrtsp.port = {rtsp}\n{models}\n{}",
        streams.concat()
    )
}

const SHIPPED: &str = "models.people.path = \"people\"\nmodels.violence.path = \"violence\"";

/// Every message agrees with the published schema that it names.
fn agree_with_schemas(messages: &[Message]) {
    let mut seen = std::collections::BTreeMap::new();
    for message in messages.iter().filter(|message| !message.payload.is_empty()) {
        let payload = message.json();
        let name =
            payload["schema"].as_str().unwrap_or_else(|| panic!("{}: no schema", message.topic)).to_owned();
        let validator = seen.entry(name.clone()).or_insert_with(|| {
            let file = root().join("docs/schemas").join(watchpost::publish::schemas::file_name(&name));
            let text =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            jsonschema::validator_for(&serde_json::from_str::<Value>(&text).unwrap()).unwrap()
        });
        if let Err(error) = validator.validate(&payload) {
            panic!("{} does not agree with {name}: {error}\n{payload}", message.topic);
        }
    }
    for kind in ["watchpost.objects/1", "watchpost.stream/1", "watchpost.status/1", "watchpost.plugin/1"] {
        assert!(seen.contains_key(kind), "no message of {kind} came; {:?}", seen.keys());
    }
}

/// Size and frame rate of a stream, as ffprobe reads them.
fn probe(url: &str) -> (u64, u64, f64) {
    let mut command = Command::new("ffprobe");
    if url.starts_with("rtsp") {
        command.args(["-rtsp_transport", "tcp"]);
    }
    let done = command
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height:packet=pts_time"])
        .args(["-read_intervals", "%+4", "-of", "json", url])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("ffprobe {url}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    let stream = &json["streams"][0];
    let mut times: Vec<f64> = json["packets"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|packet| packet["pts_time"].as_str()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    assert!(times.len() > 20, "{url}: only {} packets", times.len());
    let rate = (times.len() - 1) as f64 / (times[times.len() - 1] - times[0]);
    (stream["width"].as_u64().unwrap_or(0), stream["height"].as_u64().unwrap_or(0), rate)
}

/// Grey pictures of a stream or file, 96x54.
fn pictures(url: &str, count: usize) -> Vec<Vec<u8>> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    if url.starts_with("rtsp") {
        command.args(["-rtsp_transport", "tcp"]);
    }
    let count = count.to_string();
    let done = command
        .args([
            "-i",
            url,
            "-frames:v",
            &count,
            "-vf",
            "scale=96:54:flags=area",
            "-pix_fmt",
            "gray",
            "-f",
            "rawvideo",
            "-",
        ])
        .output()
        .unwrap();
    assert!(done.stdout.len() >= 96 * 54, "ffmpeg {url}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout.chunks_exact(96 * 54).map(<[u8]>::to_vec).collect()
}

/// PSNR in dB of the best match among the source's pictures.
fn best_match(picture: &[u8], source: &[Vec<u8>]) -> f64 {
    source
        .iter()
        .map(|other| {
            let sum: f64 =
                picture.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            10.0 * (255.0f64.powi(2) / (sum / picture.len() as f64).max(1e-9)).log10()
        })
        .fold(0.0, f64::max)
}

fn contrast(picture: &[u8]) -> f64 {
    let mean = picture.iter().map(|v| f64::from(*v)).sum::<f64>() / picture.len() as f64;
    (picture.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / picture.len() as f64).sqrt()
}

fn running(messages: &[Message], stream: &str) -> bool {
    let topic = format!("watchpost/gate/streams/{stream}/status");
    messages.iter().any(|message| message.topic == topic && message.json()["state"] == "running")
}

fn labelled(messages: &[Message], stream: &str, label: &str) -> usize {
    let topic = format!("watchpost/gate/streams/{stream}/objects");
    let of = |message: &Message| {
        message.json()["objects"].as_array().is_some_and(|objects| {
            objects.iter().any(|object| object["label"] == label && object["track"].as_str().is_some())
        })
    };
    messages.iter().filter(|message| message.topic == topic && of(message)).count()
}

/// Starts everything on `video`, and checks what arrives.
fn whole_way(video: &Path, rate: f64, model: &str, models: &str, alerts: bool) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/#");
    let camera = RtspServer::serve(video);
    let nginx = Rtmp::start();
    let port = free_port();
    let url = camera.url("/main");
    let streams =
        [stream("east", &url, model, &nginx.url("east")), stream("west", &url, model, &nginx.url("west"))];
    let daemon = Daemon::start(folder.path(), &config(&broker.url(), port, models, &streams));
    inbox.wait("both streams run", |messages| running(messages, "east") && running(messages, "west"));
    let source = pictures(&video.display().to_string(), 2000);
    for name in ["east", "west"] {
        inbox.wait("tracked people arrive", |messages| labelled(messages, name, "person") >= 5);
        let (width, height, fps) = probe(&nginx.url(name));
        assert_eq!((width, height), (480, 270), "framed over RTMP");
        assert!((fps / rate - 1.0).abs() < 0.2, "framed over RTMP: {fps:.1} fps, the source has {rate}");
        assert!(contrast(&pictures(&nginx.url(name), 3)[2]) > 10.0, "the framed picture is empty");
    }
    let wide = format!("rtsp://127.0.0.1:{port}/east/wide");
    let (_, _, fps) = probe(&wide);
    assert!((fps / rate - 1.0).abs() < 0.2, "over RTSP: {fps:.1} fps, the source has {rate}");
    // A viewer who joins late may see the rest of a group of pictures whose key frame it never got.
    for picture in pictures(&wide, 60).split_off(57) {
        let psnr = best_match(&picture, &source);
        assert!(psnr > 26.0, "the wide picture is not the source's: {psnr:.1} dB at best");
    }
    if alerts {
        for name in ["east", "west"] {
            let topic = format!("watchpost/gate/streams/{name}/events/violence");
            inbox.wait_for(&topic, |event| event["change"] == "begin");
        }
    }
    agree_with_schemas(&inbox.messages());
    let status = daemon.command(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("stream east  running") && text.contains("stream west  running"), "{text}");
    assert!(daemon.stop().success());
    inbox.wait_for("watchpost/gate/status", |status| {
        status["state"] == "offline" && status["reason"] == "stopped"
    });
}

#[test]
fn a_rendered_video_goes_the_whole_way_twice() {
    let folder = tempfile::tempdir().unwrap();
    whole_way(&fight_video(folder.path()), 25.0, "people", SHIPPED, true);
}

#[test]
fn a_real_video_goes_the_whole_way_twice() {
    let Some(data) = data("a_real_video_goes_the_whole_way_twice") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = shared_model(&data, "yolox_nano_416", folder.path());
    let models = format!("models.coco.path = \"{}\"\nmodels.violence.path = \"violence\"", model.display());
    whole_way(&data.join("videos/supervision_walking.mp4"), 25.0, "coco", &models, false);
}

/// (epoch, seq) of every event, in the order of arrival.
fn numbers(messages: &[Message]) -> Vec<(u64, u64)> {
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    messages
        .iter()
        .filter(|message| message.topic.contains("/events/"))
        .map(|message| message.json())
        .map(|event| (number(&event["epoch"]), number(&event["seq"])))
        .collect()
}

#[test]
fn kill_9_loses_nothing_and_ends_what_was_open() {
    let folder = tempfile::tempdir().unwrap();
    let video = fight_video(folder.path());
    let mut broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/#");
    let camera = RtspServer::serve(&video);
    let text = format!(
        "box.name = \"gate\"\nmqtt.url = \"{}\"\n{SHIPPED}\n[streams.east]\nsource = \"{}\"\n\
         models.people = {{ sample = \"fps:12.5\" }}\nmodels.violence = {{}}\nplugins.tracker = {{ order = 1 }}\n\
         plugins.fights = {{ order = 2, use = \"violence-alert\" }}\n",
        broker.url(),
        camera.url("/main"),
    );
    let events = "watchpost/gate/streams/east/events/violence";
    let daemon = Daemon::start(folder.path(), &text);
    let begin = inbox.wait_for(events, |event| event["change"] == "begin");
    let incident = begin["incident"].clone();
    daemon.kill();
    inbox.wait_for("watchpost/gate/status", |status| {
        status["state"] == "offline" && status["reason"] == "lost"
    });

    // The second life begins without a broker: what it has to say waits on disk, and a third life says it.
    broker.stop();
    let daemon = Daemon::start(folder.path(), &text);
    daemon.wait_for("an incident was open when the daemon went away", Duration::from_secs(60));
    daemon.wait_ready();
    daemon.kill();
    broker.restart();
    // The third life says it at once: the inbox must be subscribed again by then.
    inbox.subscribed(2);
    let daemon = Daemon::start(folder.path(), &text);
    let end = inbox.wait_for(events, |event| event["change"] == "end" && event["incident"] == incident);
    assert_eq!(end["data"]["reason"], "restart", "{end}");
    let epoch = |event: &Value| event["epoch"].as_str().unwrap().parse::<u64>().unwrap();
    let first = epoch(&begin);
    assert_eq!(
        epoch(&end),
        first + 1,
        "sent by the third life with the number that the second gave it: {end}"
    );
    let mut seen = numbers(&inbox.messages());
    seen.sort_unstable();
    seen.dedup();
    for epoch in [first, first + 1] {
        let seqs: Vec<u64> = seen.iter().filter(|(of, _)| *of == epoch).map(|(_, seq)| *seq).collect();
        let whole: Vec<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(seqs, whole, "epoch {epoch} has a hole");
    }
    assert!(daemon.stop().success());
}
