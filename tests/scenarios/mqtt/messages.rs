//! Every payload agrees with its published schema; requests are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use e2e::data::root;
use e2e::mosquitto::Mosquitto;
use jsonschema::Validator;
use serde_json::{Value, json};
use watchpost::flow::{FrameMeta, Objects, Rect, State};
use watchpost::publish::messages::{
    BoxStatus, Edge, InstanceState, Labels, ModelEngine, ModelEngineState, ModelStatus, ObjectsRecord,
    OutputState, OutputStatus, PluginInstance, PluginState, PluginStatus, RecordReport, RecordState,
    StreamState, StreamStatus, Timestamp,
};
use watchpost::publish::{Action, Facts, Request, Rule, Target};

use super::support::{Box, event, mqtt};

/// The published schemas, by the value of a payload's `schema`.
fn schemas() -> BTreeMap<String, Validator> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("docs/schemas")).unwrap() {
        let schema: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        found.insert(schema["title"].as_str().unwrap().to_owned(), validator);
    }
    found
}

fn frame() -> FrameMeta {
    FrameMeta {
        stream: "entrance".into(),
        index: 90_411,
        pts: 3_616_440_000_000,
        captured: 1_795_249_812_481_000,
        width: 1280,
        height: 720,
        cut: false,
        motion: 0.1,
        gap: 0,
    }
}

fn publish_all(box_: &Box) {
    box_.handle.box_status(BoxStatus {
        version: "0.1.0".into(),
        since: Timestamp::now(),
        lane: "cpu: no NVIDIA driver found".into(),
        streams: vec!["entrance".into()],
        plugins: vec!["tracker".into()],
        record: Some(RecordReport { state: RecordState::Full, error: Some("the disk has 3 MB free".into()) }),
        models: vec![ModelStatus {
            name: "people".into(),
            lane: "cuda".into(),
            gpu: Some(0),
            provider: Some("CUDA".into()),
            engine: Some(ModelEngine {
                state: ModelEngineState::Building,
                since: Timestamp::now(),
                expected_seconds: Some(90),
                reason: Some("made for driver 570.86.15, here is 575.1".into()),
            }),
        }],
        problems: Vec::new(),
    });
    let rule = Rule { entry: "fights".into(), kinds: vec!["violence".into()] };
    box_.handle.announce(Facts {
        streams: BTreeMap::from([("entrance".to_owned(), vec![rule])]),
        ..Facts::default()
    });
    let rect = Rect { x: 1.26, y: 2.0, width: 30.5, height: 40.0 };
    let mut objects = Objects::default();
    objects.push(0, 1, 0.912_345, rect);
    objects.push(7, 9, 0.5, rect);
    objects.tracks[0] = u64::MAX;
    let models =
        [Labels { model: "people".into(), labels: vec!["person".to_owned(), "ball".to_owned()].into() }];
    let frame = frame();
    box_.handle.objects(ObjectsRecord { frame: &frame, objects: &objects, models: &models, runs: &[0] });
    let mut ended = event(2, "");
    ended.reason = Some("the source was lost".into());
    ended.event.region = None;
    ended.snapshot = Some("clips/entrance/1.jpg".into());
    ended.clip = Some("clips/entrance/1.mp4".into());
    box_.handle.event(event(1, ""));
    box_.handle.event(ended);
    box_.handle.state("entrance", "tracker", State { name: "count".into(), value: json!({"people": 3}) });
    box_.handle.stream_status(
        "entrance",
        StreamStatus {
            state: StreamState::Running,
            since: Timestamp::now(),
            source: "rtsp://camera-3/main".into(),
            lane: "cpu".into(),
            lane_reason: Some("as configured".into()),
            edges: vec![Edge { name: "decode".into(), by: "avdec_h264".into(), copies: false }],
            size: Some("1280x720".into()),
            fps: 25.0,
            reconnects: 1,
            error: Some("no frames for 5 s".into()),
            warnings: vec!["people knows rendered scenes only".into()],
            outputs: vec![OutputStatus {
                name: "live".into(),
                state: OutputState::Down,
                address: "rtmp://live/x".into(),
                error: Some("refused".into()),
            }],
        },
    );
    box_.handle.plugin_status(
        "tracker",
        PluginStatus {
            version: "0.1.0".into(),
            summary: "Follows objects.".into(),
            state: PluginState::Loaded,
            path: "/usr/lib/watchpost/plugins/tracker.wasm".into(),
            error: None,
            instances: vec![PluginInstance {
                stream: "entrance".into(),
                entry: "tracker".into(),
                state: InstanceState::Quarantined,
                restarts: 5,
                error: Some("trap: unreachable".into()),
            }],
        },
    );
    box_.registry.gauge("broken", &[]).set(f64::NAN);
    box_.registry.histogram("call_seconds", &[("plugin", "tracker")]).record(1e-6);
    box_.handle.telemetry();
}

#[test]
fn every_payload_agrees_with_its_published_schema() {
    let schemas = schemas();
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let subscriber = broker.subscribe("watchpost/b/#");
    let mut box_ = Box::start(&mqtt(&broker.url()), state.path());
    drop(box_.publisher.as_mut().unwrap().requests());
    // The box subscribes before it says that it is online.
    subscriber.wait_for("watchpost/b/status", |status| status["state"] == "online");
    publish_all(&box_);
    subscriber.publish("watchpost/b/streams/nowhere/command", false, r#"{"id":"x","command":"fly"}"#);
    subscriber.wait_for("watchpost/b/streams/nowhere/result", |_| true);
    subscriber.wait_for("watchpost/b/telemetry", |telemetry| telemetry.to_string().contains("call_seconds"));
    box_.stop();
    subscriber.wait_for("watchpost/b/status", |status| status["state"] == "offline");
    let mut seen = BTreeSet::new();
    for message in subscriber.messages().iter().filter(|m| !m.topic.ends_with("/command")) {
        let payload = message.json();
        let name = payload["schema"].as_str().unwrap().to_owned();
        let validator = &schemas[&name];
        let errors: Vec<_> = validator.iter_errors(&payload).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}\n{payload:#}", message.topic);
        for key in ["schema", "box"] {
            let mut lacking = payload.clone();
            lacking.as_object_mut().unwrap().remove(key);
            assert!(!validator.is_valid(&lacking), "the schema of {name} does not ask for {key}");
        }
        seen.insert(name);
    }
    let incoming = ["watchpost.command/1".to_owned(), "watchpost.set/1".to_owned()];
    let expected: BTreeSet<_> = schemas.keys().filter(|name| !incoming.contains(name)).cloned().collect();
    assert_eq!(seen, expected, "a payload was not seen");

    let objects = subscriber.wait_for("watchpost/b/streams/entrance/objects", |_| true);
    assert_eq!(
        objects["objects"],
        json!([
            {"model": "people", "label": "ball", "score": 0.9123, "bounds": [1.3, 2.0, 30.5, 40.0],
             "track": "18446744073709551615"},
            {"model": "#7", "label": "#9", "score": 0.5, "bounds": [1.3, 2.0, 30.5, 40.0]},
        ])
    );
    assert_eq!((&objects["pts"], &objects["runs"]), (&json!(3616.44), &json!(["people"])));
}

#[test]
fn the_documented_requests_agree_with_their_schemas() {
    let schemas = schemas();
    let valid = |name: &str, payload: Value| schemas[name].is_valid(&payload);
    assert!(valid("watchpost.set/1", json!({"enabled": true})));
    assert!(!valid("watchpost.set/1", json!({"enable": true})));
    assert!(valid(
        "watchpost.command/1",
        json!({"id": "1", "command": "follow", "arguments": {"track": "4"}})
    ));
    assert!(!valid("watchpost.command/1", json!({"arguments": {}})));
}

#[test]
fn requests_reach_the_daemon_and_are_answered() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let mut box_ = Box::start(&mqtt(&broker.url()), state.path());
    let mut requests = box_.publisher.as_mut().unwrap().requests().unwrap();
    let subscriber = broker.subscribe("watchpost/b/#");
    subscriber.wait_for("watchpost/b/status", |status| status["state"] == "online");
    let mut next = || -> Request {
        let patience = Duration::from_secs(20);
        let request = box_.runtime.block_on(async { tokio::time::timeout(patience, requests.recv()).await });
        request.expect("a request in time").unwrap()
    };

    // The box subscribes before it says that it is online.
    subscriber.publish("watchpost/b/streams/entrance/set", false, r#"{"id":"a","enabled":false}"#);
    let request = next();
    assert_eq!(
        (&request.target, &request.action),
        (&Target::Stream("entrance".into()), &Action::Enable(false))
    );
    request.reply.ok(json!({"enabled": false}));
    let result = subscriber.wait_for("watchpost/b/streams/entrance/result", |result| result["id"] == "a");
    assert_eq!((&result["ok"], &result["value"]["enabled"]), (&json!(true), &json!(false)));

    let command = r#"{"id":"b","command":"follow","entry":"main","arguments":{"track":"4"}}"#;
    subscriber.publish("watchpost/b/plugins/camera-framing/command", false, command);
    let request = next();
    assert_eq!(request.target, Target::Plugin("camera-framing".into()));
    let Action::Command { command, entry, arguments } = &request.action else { panic!("{request:?}") };
    assert_eq!(
        (command.as_str(), entry.as_deref(), &arguments["track"]),
        ("follow", Some("main"), &json!("4"))
    );
    request.reply.error("no such track");
    let result = subscriber.wait_for("watchpost/b/plugins/camera-framing/result", |_| true);
    assert_eq!((&result["ok"], &result["error"]), (&json!(false), &json!("no such track")));

    subscriber.publish("watchpost/b/set", false, "enable");
    let request = next();
    assert_eq!((&request.target, &request.action), (&Target::Box, &Action::Enable(true)));
    drop(request);
    let result = subscriber.wait_for("watchpost/b/result", |result| result["command"] == "set");
    assert_eq!(result["ok"], false, "a request that nobody takes is answered, too");

    subscriber.publish("watchpost/b/command", false, r#"{"id":"c","comand":"reload"}"#);
    let result = subscriber.wait_for("watchpost/b/result", |result| result["id"] == "c");
    assert!(result["error"].as_str().unwrap().contains("expected {\"command\""), "{result}");
    box_.stop();
}

#[test]
fn a_retained_request_is_refused() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let subscriber = broker.subscribe("watchpost/b/#");
    subscriber.publish("watchpost/b/command", true, r#"{"id":"r","command":"reload"}"#);
    subscriber.wait("the request is at the broker", |messages| !messages.is_empty());
    let mut box_ = Box::start(&mqtt(&broker.url()), state.path());
    let mut requests = box_.publisher.as_mut().unwrap().requests().unwrap();
    let result = subscriber.wait_for("watchpost/b/result", |result| result["id"] == "r");
    assert!(result["error"].as_str().unwrap().contains("retain"), "{result}");
    assert!(requests.try_recv().is_err());
    box_.stop();
}

#[test]
fn objects_are_limited_per_stream() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let mut mqtt = mqtt(&broker.url());
    mqtt.objects_rate = 0.01;
    let box_ = Box::start(&mqtt, state.path());
    box_.wait_connected();
    let subscriber = broker.subscribe("watchpost/b/#");
    let objects = Objects::default();
    for stream in ["entrance", "hall"] {
        for index in 0..100 {
            let frame = FrameMeta { stream: stream.into(), index, ..frame() };
            box_.handle.objects(ObjectsRecord { frame: &frame, objects: &objects, models: &[], runs: &[] });
        }
    }
    box_.handle.event(event(1, ""));
    box_.handle.telemetry();
    subscriber.wait_for("watchpost/b/telemetry", |_| true);
    subscriber.wait("the objects", |messages| {
        messages.iter().filter(|m| m.topic.ends_with("/objects")).count() == 2
    });
    box_.stop();
    let count = subscriber.messages().iter().filter(|m| m.topic.ends_with("/objects")).count();
    assert_eq!(count, 2, "one for each stream in a hundred seconds");
}
