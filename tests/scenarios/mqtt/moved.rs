//! The publisher goes over to another broker, name or password while it runs: nothing is lost, and the old place is left
//! in order.

use std::time::Duration;

use e2e::gate::Gate;
use e2e::mosquitto::{Mosquitto, Options, Subscriber, until};
use watchpost::config::settings::Mqtt;
use watchpost::flow::State;
use watchpost::publish::messages::{StreamState, StreamStatus, Timestamp};
use watchpost::publish::{ConnectionState, PublishSettings};

use super::support::{Box, distinct, mqtt};

/// Goes over to these settings; whether anything was to be done.
fn apply(box_: &mut Box, mqtt: &Mqtt, name: &str, state: &std::path::Path) -> bool {
    let mut settings = PublishSettings::new(mqtt, name, state).unwrap();
    settings.backoff = (Duration::from_millis(10), Duration::from_millis(100));
    box_.runtime.block_on(box_.publisher.as_mut().unwrap().apply(settings)).unwrap()
}

fn status(source: &str) -> StreamStatus {
    StreamStatus {
        state: StreamState::Running,
        since: Timestamp::now(),
        source: source.into(),
        lane: "cpu".into(),
        lane_reason: None,
        edges: Vec::new(),
        size: None,
        fps: 25.0,
        reconnects: 0,
        error: None,
        warnings: Vec::new(),
        outputs: Vec::new(),
    }
}

/// What a stream says of itself, its state and an event; all of it retained but the event.
fn say(box_: &Box) {
    box_.handle.stream_status("entrance", status("rtsp://camera"));
    box_.handle.state("entrance", "tracker", State { name: "count".into(), value: 7.into() });
}

/// Waits until the broker keeps nothing for those who subscribe now but what they are told in `kept`.
fn keeps(broker: &Mosquitto, filter: &str, kept: &[&str]) {
    until("the broker keeps what it shall", || {
        let late = broker.subscribe(filter);
        // A message of the test's own comes after the retained ones.
        late.publish(&filter.replace('#', "probe"), false, "{}");
        let got = late.wait("the probe", |all| all.iter().any(|message| message.topic.ends_with("/probe")));
        let mut topics: Vec<_> =
            got.into_iter().filter(|message| message.retained).map(|message| message.topic).collect();
        topics.sort();
        topics == kept
    });
}

#[test]
fn events_under_way_go_to_the_next_broker_and_the_old_one_learns_that_the_box_has_moved() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let gate = Gate::new(first.port());
    let state = tempfile::tempdir().unwrap();
    let (here, there) = (first.subscribe("watchpost/b/#"), second.subscribe("watchpost/b/#"));
    let mut box_ = Box::start(&mqtt(&gate.url()), state.path());
    box_.wait_connected();
    say(&box_);
    box_.events(0..20);
    here.wait("20 events", |messages| distinct(messages).len() == 20);
    until("they are acknowledged", || box_.status().pending == 0);

    // The first broker gets these and its acknowledgements do not come: whether it has them nobody knows.
    gate.silence(true);
    box_.events(20..40);
    here.wait("40 events", |messages| distinct(messages).len() == 40);
    assert!(apply(&mut box_, &mqtt(&second.url()), "b", state.path()));
    box_.events(40..60);
    let got = there.wait("the rest", |messages| distinct(messages).len() >= 40);
    assert_eq!(distinct(&got), (20..60).collect::<Vec<_>>(), "what was not acknowledged, in order");
    until("all are acknowledged", || box_.status().pending == 0);
    // What is retained is there, too, without being said again by those who said it.
    there.wait_for("watchpost/b/status", |status| status["state"] == "online");
    there.wait_for("watchpost/b/streams/entrance/status", |status| status["source"] == "rtsp://camera");
    there.wait_for("watchpost/b/streams/entrance/states/count", |state| state["value"] == 7);
    drop(gate);

    // Back, and both answer: the box leaves the second in order.
    assert!(apply(&mut box_, &mqtt(&first.url()), "b", state.path()));
    there
        .wait_for("watchpost/b/status", |status| status["state"] == "offline" && status["reason"] == "moved");
    keeps(&second, "watchpost/b/#", &["watchpost/b/status"]);
    box_.wait_connected();
    box_.events(60..70);
    here.wait("the last", |messages| distinct(messages).contains(&69));
    assert_eq!(box_.status().outbox.dropped, 0);
    box_.stop();
}

#[test]
fn another_name_takes_everything_along_and_leaves_nothing_behind() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let all = broker.subscribe("watchpost/#");
    let mut box_ = Box::start(&mqtt(&broker.url()), state.path());
    let mut requests = box_.publisher.as_mut().unwrap().requests().unwrap();
    box_.wait_connected();
    say(&box_);
    all.wait_for("watchpost/b/streams/entrance/states/count", |_| true);
    all.publish("watchpost/b/command", false, r#"{"id":"1","command":"reload"}"#);
    let request = box_.runtime.block_on(requests.recv()).unwrap();

    box_.events(0..50);
    assert!(apply(&mut box_, &mqtt(&broker.url()), "c", state.path()));
    box_.events(50..60);
    // Whoever asked listens under the old name.
    request.reply.ok(serde_json::json!({ "done": true }));
    assert_eq!(all.wait_for("watchpost/b/result", |_| true)["id"], "1");
    let got = all.wait("60 events", |messages| distinct(messages).len() == 60);
    for message in got.iter().filter(|message| message.topic.contains("/events/")) {
        let (name, number) = (message.json()["box"].clone(), message.json()["data"]["number"].as_u64());
        assert_eq!(name, if number < Some(50) { "b" } else { "c" }, "the name under which it happened");
        assert!(message.topic.starts_with(&format!("watchpost/{}/", name.as_str().unwrap())));
    }
    let status = all.wait_for("watchpost/c/streams/entrance/status", |_| true);
    assert_eq!((&status["box"], &status["source"]), (&"c".into(), &"rtsp://camera".into()));
    all.wait_for("watchpost/b/status", |status| status["reason"] == "moved");
    keeps(&broker, "watchpost/b/#", &["watchpost/b/status"]);
    // It listens under its new name only.
    all.publish("watchpost/b/command", false, r#"{"id":"2","command":"reload"}"#);
    all.publish("watchpost/c/command", false, r#"{"id":"3","command":"reload"}"#);
    drop(box_.runtime.block_on(requests.recv()).unwrap());
    assert_eq!(all.wait_for("watchpost/c/result", |_| true)["id"], "3");
    box_.stop();
}

#[test]
fn a_new_password_is_read_and_the_box_does_not_seem_to_go_away() {
    let broker = Mosquitto::with(Options { user: Some(("gate", "right")), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "right\n").unwrap();
    let settings =
        Mqtt { username: Some("gate".into()), password_file: Some(file.clone()), ..mqtt(&broker.url()) };
    let mut box_ = Box::start(&settings, folder.path());
    box_.wait_connected();
    let subscriber = broker.subscribe("watchpost/b/#");
    assert!(!apply(&mut box_, &settings, "b", folder.path()), "nothing has changed");
    assert_eq!(box_.counter("publish_connections_total"), 1);

    std::fs::write(&file, "wrong\n").unwrap();
    let then = std::time::SystemTime::now() + Duration::from_secs(2);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(then).unwrap();
    assert!(apply(&mut box_, &settings, "b", folder.path()), "the file has changed");
    until("it is refused", || box_.status().state == ConnectionState::Refused);
    box_.events(0..5);

    std::fs::write(&file, "right\n").unwrap();
    assert!(apply(&mut box_, &settings, "b", folder.path()));
    let got = subscriber.wait("5 events", |messages| distinct(messages).len() == 5);
    let away = |message: &&e2e::mosquitto::Message| {
        message.topic == "watchpost/b/status" && message.json()["state"] == "offline"
    };
    assert!(got.iter().find(away).is_none(), "a client that logs in anew is not away");
    box_.stop();
}

#[test]
fn publishing_is_turned_off_and_on_and_a_broker_inside_takes_over() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let outside = broker.subscribe("watchpost/b/#");
    let mut box_ = Box::start(&mqtt(&broker.url()), state.path());
    box_.wait_connected();
    say(&box_);
    assert!(apply(&mut box_, &mqtt("off"), "b", state.path()));
    outside.wait_for("watchpost/b/status", |status| status["reason"] == "stopped");
    assert_eq!((box_.status().state, box_.handle.epoch()), (ConnectionState::Off, 0));
    box_.events(0..3);

    let port = e2e::daemon::free_port();
    let mut settings = mqtt("embedded");
    settings.listen = format!("127.0.0.1:{port}");
    let mut inside = PublishSettings::new(&settings, "b", state.path()).unwrap();
    inside.backoff = (Duration::from_millis(10), Duration::from_millis(100));
    inside.broker_program = Some(super::embedded::program(state.path()));
    box_.runtime.block_on(box_.publisher.as_mut().unwrap().apply(inside)).unwrap();
    box_.wait_connected();
    let subscriber = Subscriber::new(port, "watchpost/b/#", None);
    box_.events(3..6);
    let got = subscriber.wait("events", |messages| distinct(messages).len() == 3);
    assert_eq!(distinct(&got), [3, 4, 5], "those of the time without a broker are not published");
    subscriber.wait_for("watchpost/b/streams/entrance/states/count", |state| state["value"] == 7);

    assert!(apply(&mut box_, &mqtt(&broker.url()), "b", state.path()));
    box_.wait_connected();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the broker inside has ended");
    box_.events(6..8);
    outside.wait("the last", |messages| distinct(messages).contains(&7));
    box_.stop();
}
