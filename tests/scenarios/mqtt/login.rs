//! Logging in, TLS, whether the box is there, and what is published again after a reconnect.

use e2e::gate::Gate;
use e2e::mosquitto::{Mosquitto, Options, until};
use watchpost::config::settings::Mqtt;
use watchpost::flow::State;
use watchpost::publish::ConnectionState;

use super::support::{Box, distinct, mqtt};

#[test]
fn a_refused_login_is_no_connection_and_is_said_without_the_password() {
    let broker = Mosquitto::with(Options { user: Some(("box", "correct-horse")), ..Options::default() });
    let state = tempfile::tempdir().unwrap();
    let password = state.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    let mqtt =
        Mqtt { username: Some("box".into()), password_file: Some(password.clone()), ..mqtt(&broker.url()) };
    let subscriber = broker.subscribe("watchpost/#");
    let box_ = Box::start(&mqtt, state.path());
    box_.events(0..3);
    until("the login is refused", || box_.status().state == ConnectionState::Refused);
    let status = box_.status();
    let said = serde_json::to_string(&status).unwrap();
    assert!(said.contains("mqtt.password_file") && !said.contains("hunter2"), "{said}");
    assert_eq!(box_.counter("publish_connections_total"), 0);
    assert_eq!((status.pending, subscriber.messages().len()), (3, 0));

    // The file is read again at each attempt: putting it right is enough.
    std::fs::write(&password, "correct-horse\n").unwrap();
    box_.wait_connected();
    assert_eq!(box_.status().error, None);
    let got = subscriber.wait("the events", |messages| distinct(messages).len() == 3);
    assert_eq!(distinct(&got), [0, 1, 2]);
    box_.stop();
}

#[test]
fn a_broker_that_is_away_is_said_and_events_wait() {
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&format!("mqtt://127.0.0.1:{}", e2e::daemon::free_port())), state.path());
    box_.events(0..2);
    until("the broker is missed", || box_.status().state == ConnectionState::Unreachable);
    assert!(box_.status().error.unwrap().contains("refused"), "the system's reason is said");
    until("events wait", || box_.status().pending == 2);
    box_.stop();
}

#[test]
fn tls_with_the_right_authority_connects_and_with_another_does_not() {
    let broker = Mosquitto::with(Options { tls: true, ..Options::default() });
    let other = Mosquitto::with(Options { tls: true, ..Options::default() });
    let state = tempfile::tempdir().unwrap();
    let with = |ca_file| Mqtt { ca_file: Some(ca_file), ..mqtt(&broker.tls_url()) };
    let subscriber = broker.subscribe("watchpost/b/#");

    let box_ = Box::start(&with(other.ca_file()), state.path());
    until("the certificate is refused", || box_.status().state == ConnectionState::Unreachable);
    let error = box_.status().error.unwrap();
    assert!(error.contains("certificate"), "{error}");
    box_.events(0..1);
    box_.stop();
    assert_eq!(subscriber.messages().len(), 0);

    let box_ = Box::start(&with(broker.ca_file()), state.path());
    let got = subscriber.wait("the event", |messages| !distinct(messages).is_empty());
    assert_eq!(distinct(&got), [0]);
    box_.stop();
}

#[test]
fn a_stop_delivers_everything_and_says_that_it_was_on_purpose() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&broker.url()), state.path());
    box_.wait_connected();
    let subscriber = broker.subscribe("watchpost/b/#");
    box_.events(0..500);
    box_.stop();
    let stopped = subscriber.wait_for("watchpost/b/status", |status| status["state"] == "offline");
    assert_eq!(stopped["reason"], "stopped");
    let messages = subscriber.messages();
    assert_eq!(distinct(&messages), (0..500).collect::<Vec<_>>());
    let last = messages.iter().rfind(|message| message.topic.ends_with("/status")).unwrap();
    assert_eq!(last.json()["reason"], "stopped", "no last will after it");
    let late = broker.subscribe("watchpost/b/status");
    assert_eq!(late.wait_for("watchpost/b/status", |_| true)["reason"], "stopped", "it is retained");
}

#[test]
fn a_dropped_publisher_leaves_its_last_will() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&broker.url()), state.path());
    let subscriber = broker.subscribe("watchpost/b/status");
    subscriber.wait_for("watchpost/b/status", |status| status["state"] == "online");
    drop(box_);
    let lost = subscriber.wait_for("watchpost/b/status", |status| status["state"] == "offline");
    assert_eq!(lost["reason"], "lost");
}

#[test]
fn retained_messages_come_back_after_a_reconnect_and_unchanged_ones_are_sent_once() {
    let mut broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&gate.url()), state.path());
    box_.wait_connected();
    let subscriber = broker.subscribe("watchpost/b/streams/#");
    let count = |value: u32| State { name: "count".into(), value: value.into() };
    box_.handle.state("entrance", "counter", count(1));
    box_.handle.state("entrance", "counter", count(1));
    box_.handle.state("hall", "counter", count(5));
    box_.handle.state("entrance", "counter", count(2));
    let topic = |stream: &str| format!("watchpost/b/streams/{stream}/states/count");
    let got = subscriber.wait("the last state", |messages| {
        messages.iter().any(|m| m.topic == topic("entrance") && m.json()["value"] == 2)
    });
    let ones = got.iter().filter(|m| m.topic == topic("entrance") && m.json()["value"] == 1).count();
    assert!(ones <= 1, "an unchanged state is not sent twice");

    // This broker keeps nothing over a restart, so what a new subscriber gets came from the box.
    broker.kill();
    broker.restart();
    box_.wait_connected();
    let late = broker.subscribe("watchpost/b/#");
    assert_eq!(late.wait_for(&topic("entrance"), |_| true)["value"], 2);
    assert_eq!(late.wait_for(&topic("hall"), |_| true)["value"], 5);
    late.wait_for("watchpost/b/status", |status| status["state"] == "online");

    box_.handle.forget_stream("hall");
    late.wait("the hall is cleared", |messages| {
        messages.iter().any(|m| m.topic == topic("hall") && m.payload.is_empty())
    });
    box_.stop();
    let later = broker.subscribe("watchpost/b/#");
    later.wait_for(&topic("entrance"), |_| true);
    assert!(later.messages().iter().all(|message| !message.topic.contains("hall")));
}
