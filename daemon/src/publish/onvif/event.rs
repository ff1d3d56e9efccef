//! `onvif-ej`: events of the rule engine.
//!
//! In: a rule (an entry of a stream, and a kind of its events) and whether an incident of it is open. Out: topic and
//! payload. A rule is a property: its message is retained, `PropertyOperation` stands in no payload, and a rule that is
//! deleted leaves an empty retained message, which the announcer sends (Core Specification, "Property events").

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::super::messages::Timestamp;
use super::super::shared::json;
use super::part;
use crate::flow::Severity;

/// Everything of ours in ONVIF's tree of topics has this prefix; nothing in the standard's own fits.
const NAMESPACE: &str = "watchpost";

/// A rule's state.
#[derive(Debug)]
pub(in super::super) struct Property<'a> {
    /// Wall clock of the last change.
    pub time: Timestamp,
    /// The stream.
    pub stream: &'a str,
    /// The plugin's entry.
    pub rule: &'a str,
    /// The kind of events.
    pub kind: &'a str,
    /// Whether an incident is open.
    pub state: bool,
    /// The incident that began or ended last, its severity and score.
    pub last: Option<(u64, Severity, f32)>,
}

/// The retained message of a rule: topic and payload. `prefix` is ONVIF's TopicPrefix.
pub(in super::super) fn property(prefix: &str, property: &Property<'_>) -> (String, Vec<u8>) {
    let source = [
        ("VideoSource", property.stream),
        ("AnalyticsConfiguration", property.stream),
        ("Rule", property.rule),
    ];
    let local = format!("tns1:RuleEngine/{NAMESPACE}:{}", ncname(property.kind));
    let mut data = vec![("State", Value::from(property.state))];
    if let Some((incident, severity, score)) = property.last {
        data.push(("Incident", incident.to_string().into()));
        data.push(("Severity", serde_json::json!(severity)));
        data.push(("Likelihood", ((f64::from(score) * 1e4).round() / 1e4).into()));
    }
    let time = property.time.to_string();
    let payload = json(&Payload { time: &time, source: &source, data: &data });
    (topic(prefix, &local, &source), payload)
}

/// `TopicPrefix "/" PayloadPrefix "/" LocalTopic [ "/&" Source ]`: the namespace of ONVIF's own topics is dropped, the
/// values of the source's items follow in their order.
fn topic(prefix: &str, topic: &str, source: &[(&str, &str)]) -> String {
    let local: Vec<String> = topic.strip_prefix("tns1:").unwrap_or(topic).split('/').map(part).collect();
    let values: Vec<String> = source.iter().map(|(_, value)| part(value)).collect();
    let mut found = format!("{prefix}/onvif-ej/{}", local.join("/"));
    if !values.is_empty() {
        found.push_str("/&");
        found.push_str(&values.join("/"));
    }
    found
}

/// `{UtcTime, Source, Data}`, in this order as the specification's grammar has it.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "UtcTime")]
    time: &'a str,
    #[serde(rename = "Source", serialize_with = "items")]
    source: &'a [(&'a str, &'a str)],
    #[serde(rename = "Data", serialize_with = "items")]
    data: &'a [(&'a str, Value)],
}

/// Simple items, in their order.
fn items<S: Serializer, V: Serialize>(items: &&[(&str, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(items.iter().map(|(name, value)| (name, value)))
}

/// A topic's levels are XML names, which begin with a letter or `_`.
fn ncname(kind: &str) -> String {
    let fine = kind.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if fine { kind.to_owned() } else { format!("_{kind}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXAMPLE: &str = include_str!("golden/core-event.json");
    const TOPICS: &str = include_str!("golden/core-event-topics.txt");

    /// The values of the Core Specification's example ("PullMessagesResponse"), through the encoder, give its text
    /// ("Event Broker", "JSON Event Payload", "Example").
    #[test]
    fn the_specification_s_example_comes_out() {
        let mut topics = TOPICS.lines();
        for rule in ["MyImportantFence1", "MyImportantFence2"] {
            let source = [("VideoSource", "1"), ("AnalyticsConfiguration", "2"), ("Rule", rule)];
            assert_eq!(
                topic("MyDevice", "tns1:RuleEngine/LineDetector/Crossed", &source),
                topics.next().unwrap()
            );
            if rule == "MyImportantFence1" {
                let data = [("ObjectId", "15".into())];
                let time = "2008-10-10T12:24:57.321Z";
                let made = super::json(&Payload { time, source: &source, data: &data });
                // Also in the order of its items, which the grammar fixes.
                let example: String = EXAMPLE.chars().filter(|c| !c.is_whitespace()).collect();
                assert_eq!(String::from_utf8(made).unwrap(), example);
            }
        }
    }

    /// "tns1:Device/HardwareFailure/acme:LensFailure" [...] should be translated to "Device/HardwareFailure/
    /// acme:LensFailure" (Core Specification, "Event Broker", "Topic Structure").
    #[test]
    fn only_onvif_s_own_namespace_is_dropped() {
        assert_eq!(
            topic("d", "tns1:Device/HardwareFailure/acme:LensFailure", &[]),
            "d/onvif-ej/Device/HardwareFailure/acme:LensFailure"
        );
        assert_eq!(topic("d", "acme:A+/B#", &[("S", "x/y")]), "d/onvif-ej/acme:A/B/&xy");
    }

    #[test]
    fn a_rule_is_a_property_without_its_operation() {
        let open = Property {
            time: Timestamp(1_795_249_812_481_000),
            stream: "gate",
            rule: "fights",
            kind: "violence",
            state: true,
            last: Some((u64::MAX, Severity::High, 0.91)),
        };
        let (topic, bytes) = property("watchpost/b", &open);
        assert_eq!(topic, "watchpost/b/onvif-ej/RuleEngine/watchpost:violence/&gate/gate/fights");
        let found: Value = serde_json::from_slice(&bytes).unwrap();
        let data = json!({"State": true, "Incident": "18446744073709551615", "Severity": "high", "Likelihood": 0.91});
        let source = json!({"VideoSource": "gate", "AnalyticsConfiguration": "gate", "Rule": "fights"});
        assert_eq!(found, json!({"UtcTime": "2026-11-21T08:30:12.481Z", "Source": source, "Data": data}));
        let (topic, bytes) = property("d", &Property { kind: "3-up", state: false, last: None, ..open });
        assert!(topic.contains("/watchpost:_3-up/"), "{topic}");
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["Data"], json!({"State": false}));
    }
}
