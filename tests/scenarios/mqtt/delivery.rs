//! Events arrive: with the broker away, killed, restarted; with the daemon killed; with a damaged outbox.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use e2e::gate::Gate;
use e2e::mosquitto::{Mosquitto, until};

use super::support::{Box, distinct, event, identities, mqtt};

#[test]
fn events_made_while_the_broker_is_away_arrive_in_order() {
    let broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    gate.close();
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&gate.url()), state.path());
    box_.events(0..300);
    let subscriber = broker.subscribe("watchpost/b/streams/+/events/#");
    gate.open();
    let got = subscriber.wait("300 events", |messages| messages.len() >= 300);
    let expected: Vec<_> = (0..300).map(|n| (box_.handle.epoch(), n + 1, n)).collect();
    assert_eq!(identities(&got), expected);
    until("all are acknowledged", || box_.status().pending == 0);
    assert_eq!(box_.counter("publish_events_acknowledged_total"), 300);
    box_.stop();
}

#[test]
fn a_broker_killed_before_it_acknowledges_gets_the_same_events_again() {
    let mut broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&gate.url()), state.path());
    box_.wait_connected();
    let subscriber = broker.subscribe("watchpost/b/streams/+/events/#");
    gate.silence(true);
    box_.events(0..40);
    let before = subscriber.wait("40 events", |messages| messages.len() >= 40);
    assert_eq!(box_.counter("publish_events_acknowledged_total"), 0);
    broker.kill();
    gate.close();
    gate.silence(false);
    subscriber.clear();
    box_.events(40..100);
    broker.restart();
    subscriber.subscribed(2);
    gate.open();
    let after = subscriber.wait("100 events", |messages| messages.len() >= 100);
    assert_eq!(identities(&after)[..40], identities(&before)[..]);
    assert_eq!(distinct(&after), (0..100).collect::<Vec<_>>());
    until("all are acknowledged", || box_.status().pending == 0);
    assert_eq!(box_.status().outbox.dropped, 0);
    box_.stop();
}

#[test]
fn a_connection_that_breaks_again_and_again_loses_nothing() {
    let broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&gate.url()), state.path());
    let subscriber = broker.subscribe("watchpost/b/streams/+/events/#");
    for round in 0..10 {
        box_.events(round * 100..(round + 1) * 100);
        let enough = (round * 100) as usize + 30;
        subscriber.wait("some of this round", |messages| messages.len() > enough);
        gate.close();
        gate.open();
    }
    until("all are acknowledged", || box_.status().pending == 0);
    let got = subscriber.wait("the last", |messages| distinct(messages).len() >= 1000);
    let mut numbers = distinct(&got);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    box_.stop();
}

/// What the killed daemon runs: publishes 500 events towards a broker that does not answer, says how many
/// are durable, and waits for its end.
#[test]
#[ignore = "runs in a process of its own, started by a_killed_daemon_loses_no_durable_event"]
fn child() {
    let state = std::env::var("CHILD_STATE").unwrap();
    let box_ = Box::start(&mqtt(&std::env::var("CHILD_URL").unwrap()), state.as_ref());
    box_.wait_connected();
    println!("connected");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for number in 0..500 {
        box_.handle.event(event(number, "from the child"));
        println!("durable {}", box_.counter("publish_events_durable_total"));
    }
    loop {
        println!("durable {}", box_.counter("publish_events_durable_total"));
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_killed_daemon_loses_no_durable_event_and_the_broker_says_that_it_is_lost() {
    let broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    let state = tempfile::tempdir().unwrap();
    let subscriber = broker.subscribe("watchpost/b/#");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mqtt::delivery::child", "--ignored", "--nocapture"])
        .env("CHILD_STATE", state.path())
        .env("CHILD_URL", gate.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.by_ref().find(|line| line.contains("connected")).unwrap();
    let online = subscriber.wait_for("watchpost/b/status", |status| status["state"] == "online");
    gate.silence(true);
    drop(child.stdin.take());
    let durable =
        |line: String| line.rsplit_once("durable ").and_then(|(_, count)| count.parse::<u64>().ok());
    let durable = lines.by_ref().filter_map(durable).find(|count| *count >= 200).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let lost = subscriber.wait_for("watchpost/b/status", |status| status["state"] == "offline");
    assert_eq!((&lost["reason"], &lost["epoch"]), (&"lost".into(), &online["epoch"]));
    drop(gate);
    let sent = subscriber.messages().iter().filter(|message| message.topic.contains("/events/")).count();
    assert!((1..500).contains(&sent), "killed in the middle: {sent} were sent");
    subscriber.clear();

    let box_ = Box::start(&mqtt(&broker.url()), state.path());
    box_.handle.event(event(10_000, "after the restart"));
    let got = subscriber.wait("the event after the restart", |messages| distinct(messages).contains(&10_000));
    let old: u64 = online["epoch"].as_str().unwrap().parse().unwrap();
    let identities = identities(&got);
    let (last, again) = identities.split_last().unwrap();
    assert!(again.len() as u64 >= durable, "{} of {durable} durable events came", again.len());
    for (index, identity) in again.iter().enumerate() {
        let number = index as u64;
        assert_eq!(*identity, (old, number + 1, number));
    }
    assert_eq!(*last, (old + 1, 1, 10_000));
    box_.stop();
}

#[test]
fn a_damaged_record_costs_only_itself_and_is_said() {
    let broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    gate.close();
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&gate.url()), state.path());
    box_.events(0..20);
    until("all are on disk", || box_.counter("publish_events_durable_total") == 20);
    drop(box_);
    let folder = std::fs::read_dir(state.path().join("outbox")).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.extension().is_some_and(|extension| extension == "seg")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"\"number\":7,";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + 3] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let subscriber = broker.subscribe("watchpost/b/#");
    let box_ = Box::start(&mqtt(&broker.url()), state.path());
    let got = subscriber.wait("19 events", |messages| distinct(messages).len() >= 19);
    assert_eq!(distinct(&got), (0..20).filter(|number| *number != 7).collect::<Vec<_>>());
    subscriber.wait_for("watchpost/b/status", |status| status["outbox"]["corrupt"] == 1);
    box_.stop();
}

#[test]
fn a_full_outbox_drops_the_oldest_and_says_how_many() {
    let broker = Mosquitto::start();
    let gate = Gate::new(broker.port());
    gate.close();
    let state = tempfile::tempdir().unwrap();
    let mut mqtt = mqtt(&gate.url());
    mqtt.outbox_bytes = 20_000;
    let box_ = Box::start(&mqtt, state.path());
    for number in 0..200 {
        box_.events(number..number + 1);
        until("it is on disk", || box_.counter("publish_events_durable_total") == number + 1);
    }
    let status = box_.status();
    assert!(status.outbox_bytes <= 20_000, "{status:?}");
    assert_eq!(status.outbox.dropped + status.pending, 200, "{status:?}");
    assert!((1..200).contains(&status.outbox.dropped), "{status:?}");
    let subscriber = broker.subscribe("watchpost/b/#");
    gate.open();
    let got = subscriber.wait("the rest", |messages| identities(messages).len() as u64 >= status.pending);
    assert_eq!(distinct(&got), (status.outbox.dropped..200).collect::<Vec<_>>());
    let said = subscriber.wait_for("watchpost/b/status", |status| status["outbox"]["dropped"] != 0);
    assert_eq!(said["outbox"]["dropped"], status.outbox.dropped);
    box_.stop();
}

#[test]
fn large_events_and_states_arrive() {
    let broker = Mosquitto::start();
    let state = tempfile::tempdir().unwrap();
    let box_ = Box::start(&mqtt(&broker.url()), state.path());
    let subscriber = broker.subscribe("watchpost/b/#");
    let text = "large ".repeat(40_000);
    box_.handle.event(event(1, &text));
    let value = serde_json::json!(text);
    box_.handle.state("entrance", "fights", watchpost::flow::State { name: "trace".into(), value });
    let got = subscriber.wait_for("watchpost/b/streams/entrance/events/violence", |_| true);
    assert_eq!(got["data"]["text"], text);
    let got = subscriber.wait_for("watchpost/b/streams/entrance/states/trace", |_| true);
    assert_eq!(got["value"], text);
    until("it is acknowledged", || box_.status().pending == 0);
    assert_eq!(box_.counter("publish_connections_total"), 1, "no reconnect on the way");
    box_.stop();
}
