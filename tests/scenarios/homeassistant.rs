//! Home Assistant, alerts, switches and ONVIF over a real mosquitto: the daemon on a rendered scene, told to do things as
//! Home Assistant does, and killed.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::daemon::Daemon;
use e2e::mosquitto::{Message, Mosquitto, Subscriber};
use e2e::plugins::wasm;
use serde_json::Value;

const DEVICE: &str = "homeassistant/device/watchpost_2fgate/config";
const ALERT: &str = "watchpost/gate/streams/east_1/alerts/fuss";
const EVENT: &str = "watchpost/gate/streams/east_1/events/fuss";
const RULE: &str = "watchpost/gate/onvif-ej/RuleEngine/watchpost:fuss/&east_1/east_1/watch";

/// A box with a stream whose plugin raises an incident over frames 10 to 20 of every 40, and one that can go.
fn config(broker: &Mosquitto, more: &str, streams: &[&str]) -> String {
    let stream = |name: &&str| {
        format!(
            "[streams.{name}]\nsource = \"scene://people?seed=7&size=320x180&fps=10\"\n\
             models.people = {{ sample = \"fps:5\" }}\nplugins.tracker = {{ order = 1 }}\n\
             plugins.watch = {{ order = 2, use = \"misbehave\", behave = \"alert\" }}\n"
        )
    };
    let streams: String = streams.iter().map(stream).collect();
    format!(
        "box.name = \"gate\"\nmqtt.url = \"{}\"\nmqtt.telemetry_interval = 1\nmodels.people.path = \"people\"\n{more}\n{streams}",
        broker.url()
    )
}

const ON: &str = "homeassistant.enabled = true\nonvif.enabled = true\nonvif.metadata_rate = 2.0";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("plugins")).unwrap();
    std::fs::copy(wasm("misbehave"), folder.path().join("plugins/misbehave.wasm")).unwrap();
    folder
}

/// What Home Assistant's documentation asks of a discovery message in the device form, key by key. Gives the ids.
fn valid(message: &Value) -> BTreeSet<String> {
    assert!(message["dev"]["ids"].as_array().is_some_and(|ids| !ids.is_empty()), "{message:#}");
    assert!(message["dev"]["name"].is_string() && message["o"]["name"].is_string());
    let availability = &message["availability"][0];
    assert_eq!(availability["topic"], "watchpost/gate/status");
    assert_eq!(availability["value_template"], "{{ value_json.state }}");
    let mut unique = BTreeSet::new();
    for (id, component) in message["cmps"].as_object().unwrap() {
        let required: &[&str] = match component["p"].as_str().unwrap() {
            "sensor" | "binary_sensor" => &["state_topic"],
            "event" => &["state_topic", "event_types", "value_template"],
            "image" => &["image_topic", "content_type"],
            "switch" => &["command_topic", "state_topic", "payload_on", "payload_off"],
            other => panic!("{id}: no platform {other}"),
        };
        for key in required.iter().chain(&["unique_id", "name"]) {
            assert!(!component[*key].is_null(), "{id}: no {key}");
        }
        if component["device_class"] == "enum" {
            assert!(component["options"].as_array().is_some_and(|options| options.len() == 7), "{id}");
        }
        assert!(unique.insert(component["unique_id"].as_str().unwrap().to_owned()), "{id}: twice");
    }
    message["cmps"].as_object().unwrap().keys().cloned().collect()
}

/// The last message on a topic that came from here on.
fn last(messages: &[Message], topic: &str) -> Option<Vec<u8>> {
    messages.iter().rev().find(|message| message.topic == topic).map(|message| message.payload.clone())
}

/// Waits until a topic is empty, or its stream's last message is a removal.
fn wait_removed(inbox: &Subscriber, topic: &str) {
    inbox
        .wait(&format!("{topic} is removed"), |messages| last(messages, topic).is_some_and(|p| p.is_empty()));
}

/// What the broker keeps for a topic.
fn kept(broker: &Mosquitto, topic: &str) -> Option<Value> {
    let inbox = broker.subscribe("#");
    // What is kept comes before what is published after the subscription.
    inbox.publish("test/marker", false, "{}");
    let messages =
        inbox.wait("the marker", |messages| messages.iter().any(|message| message.topic == "test/marker"));
    messages.iter().find(|message| message.retained && message.topic == topic).map(Message::json)
}

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("watchpost.toml"), text).unwrap();
}

#[test]
fn home_assistant_finds_switches_and_loses_the_box() {
    let folder = folder();
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("#");
    let daemon = Daemon::start(folder.path(), &config(&broker, ON, &["east_1", "west"]));
    let message = inbox.wait_for(DEVICE, |message| !message["cmps"]["stream__west__alert__fuss"].is_null());
    let ids = valid(&message);
    for id in [
        "stream__east_5f1__state",
        "stream__east_5f1__event__fuss",
        "plugin__misbehave__enabled",
        "box__pending",
    ] {
        assert!(ids.contains(id), "no {id} in {ids:?}");
    }

    // The alert goes on and off with the incidents, and so does ONVIF's property; objects come as metadata frames.
    inbox
        .wait_for(ALERT, |alert| alert["state"] == "ON" && alert["incidents"].as_array().unwrap().len() == 1);
    inbox.wait_for(RULE, |rule| rule["Data"]["State"] == true && rule["Source"]["Rule"] == "watch");
    inbox.wait_for(ALERT, |alert| alert["state"] == "OFF");
    inbox.wait_for(RULE, |rule| rule["Data"]["State"] == false && rule["Data"]["Incident"].is_string());
    inbox.wait_for("watchpost/gate/onvif-mj/VideoAnalytics/east_1/watchpost", |frame| {
        let object = &frame["Frame"][0]["Object"][0];
        object["@ObjectId"].is_u64() && object["Appearance"]["Class"]["Type"][0]["#text"] == "Human"
    });

    // Home Assistant has started: it is told again.
    inbox.clear();
    inbox.publish("homeassistant/status", false, "online");
    inbox.wait_for(DEVICE, |again| *again == message);

    // The switches, with the payloads that the discovery message names.
    let switch = |id: &str, payload: &str| {
        let entity = &message["cmps"][id];
        inbox.publish(entity["command_topic"].as_str().unwrap(), false, entity[payload].as_str().unwrap());
        entity["state_topic"].as_str().unwrap().to_owned()
    };
    inbox.wait_for(ALERT, |alert| alert["state"] == "ON");
    inbox.clear();
    let status = switch("plugin__misbehave__enabled", "payload_off");
    inbox.wait_for(&status, |status| {
        status["state"] == "disabled"
            && status["instances"].as_array().unwrap().iter().all(|instance| instance["state"] == "disabled")
    });
    inbox.wait_for("watchpost/gate/plugins/misbehave/result", |result| result["ok"] == true);
    // What was open ended, whether by itself or with the plugin.
    inbox.wait("the alert is off", |messages| {
        last(messages, ALERT)
            .is_none_or(|payload| serde_json::from_slice::<Value>(&payload).unwrap()["state"] == "OFF")
    });
    inbox.clear();
    assert_eq!(switch("plugin__misbehave__enabled", "payload_on"), status);
    inbox.wait_for(&status, |status| {
        status["state"] == "loaded" && status["instances"][0]["state"] == "running"
    });
    inbox.wait_for(EVENT, |event| event["change"] == "begin");
    inbox.clear();
    let status = switch("stream__east_5f1__enabled", "payload_off");
    inbox.wait_for(&status, |status| status["state"] == "disabled");
    switch("stream__east_5f1__enabled", "payload_on");
    inbox.wait_for(&status, |status| status["state"] == "running");
    // The command line does it, too.
    assert!(daemon.command(&["plugin", "disable", "misbehave"]).status.success());
    let wrong = daemon.command(&["plugin", "disable", "nobody"]);
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("no plugin \"nobody\"; there are: "),
        "{wrong:?}"
    );
    assert!(daemon.command(&["plugin", "enable", "misbehave"]).status.success());

    // A stream goes with a reload: its entities are named with their platform alone, then not at all.
    inbox.clear();
    write(folder.path(), &config(&broker, ON, &["east_1"]));
    let reload = daemon.command(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    inbox.wait_for(DEVICE, |message| {
        message["cmps"]["stream__west__state"] == serde_json::json!({"p": "sensor"})
    });
    inbox.wait_for(DEVICE, |message| message["cmps"]["stream__west__state"].is_null());
    wait_removed(&inbox, "watchpost/gate/streams/west/alerts/fuss");
    wait_removed(&inbox, "watchpost/gate/onvif-ej/RuleEngine/watchpost:fuss/&west/west/watch");

    // Turned off: the whole device goes, and so do ONVIF's properties; the alerts stay.
    inbox.clear();
    write(folder.path(), &config(&broker, "", &["east_1"]));
    let reload = daemon.command(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    wait_removed(&inbox, DEVICE);
    wait_removed(&inbox, RULE);
    assert!(kept(&broker, DEVICE).is_none() && kept(&broker, ALERT).is_some());
    assert!(daemon.stop().success());
}

#[test]
fn kill_9_leaves_no_alert_on_and_no_device_behind() {
    let folder = folder();
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("#");
    let daemon = Daemon::start(folder.path(), &config(&broker, ON, &["east_1", "west"]));
    inbox.wait_for(DEVICE, |message| !message["cmps"]["stream__west__alert__fuss"].is_null());
    inbox.wait_for(ALERT, |alert| alert["state"] == "ON");
    daemon.kill();
    inbox.wait_for("watchpost/gate/status", |status| status["reason"] == "lost");

    // The next life has neither of the two streams any more, and is told nothing of Home Assistant or ONVIF.
    inbox.clear();
    let daemon = Daemon::start(folder.path(), &config(&broker, "", &["north"]));
    wait_removed(&inbox, DEVICE);
    wait_removed(&inbox, ALERT);
    wait_removed(&inbox, RULE);
    inbox.wait_for("watchpost/gate/streams/north/alerts/fuss", |_| true);
    daemon.kill();

    // It comes back as it was: the alert of the first life is off until the plugin raises one anew.
    inbox.clear();
    let daemon = Daemon::start(folder.path(), &config(&broker, ON, &["east_1"]));
    let first = inbox.wait_for(ALERT, |_| true);
    assert!(first["state"] == "OFF" || first["since"].is_string());
    let messages = inbox.wait("the alert begins anew", |messages| {
        last(messages, ALERT)
            .is_some_and(|payload| serde_json::from_slice::<Value>(&payload).unwrap()["state"] == "ON")
    });
    let of: Vec<Value> = messages
        .iter()
        .filter(|message| message.topic == ALERT && !message.payload.is_empty())
        .map(Message::json)
        .collect();
    assert_eq!(of[0]["state"], "OFF", "{of:?}");
    daemon.kill();
    // Killed with an alert on: the same configuration again says that it is off before it may say anything else.
    inbox.wait_for("watchpost/gate/status", |status| status["reason"] == "lost");
    inbox.clear();
    let daemon = Daemon::start(folder.path(), &config(&broker, ON, &["east_1"]));
    let messages = inbox.wait("an alert", |messages| messages.iter().any(|message| message.topic == ALERT));
    let first = messages.iter().find(|message| message.topic == ALERT).unwrap().json();
    assert_eq!((&first["state"], &first["incidents"]), (&"OFF".into(), &serde_json::json!([])));
    // Its event is ended in the outbox, too.
    inbox.wait_for(EVENT, |event| event["change"] == "end" && event["data"]["reason"] == "restart");
    valid(&inbox.wait_for(DEVICE, |_| true));
    assert!(daemon.stop().success());
}
