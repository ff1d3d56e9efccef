//! The one line of `systemctl status`.
//!
//! In: what streams, models and the publisher say of themselves. Out: text, the worst first: which streams are in trouble,
//! what the disk and the broker do, what is being built. Names and states only: no address, no secret.

use std::collections::BTreeMap;

use crate::pipeline::Report;
use crate::publish::messages::{ModelStatus, StreamState, Timestamp};
use crate::publish::{ConnectionState, PublishStatus};

/// Streams in trouble that are named; further ones are counted.
const NAMED: usize = 5;

/// The line.
pub(super) fn status_line(
    streams: &BTreeMap<String, Report>,
    models: &[ModelStatus],
    mqtt: &PublishStatus,
    now: Timestamp,
) -> String {
    let states: Vec<_> = streams.iter().map(|(name, it)| (name.as_str(), it.status.state)).collect();
    let count = |state| states.iter().filter(|(_, it)| *it == state).count();
    let mut parts = vec![format!("{} of {} streams running", count(StreamState::Running), states.len())];
    let troubled: Vec<String> = states.iter().filter_map(|(name, state)| trouble(name, *state)).collect();
    if !troubled.is_empty() {
        let more = troubled.len().saturating_sub(NAMED);
        let mut named = troubled[..troubled.len() - more].join(", ");
        if more > 0 {
            named.push_str(&format!(", and {more} more"));
        }
        parts.push(named);
    }
    for (state, word) in [
        (StreamState::Starting, "starting"),
        (StreamState::Ended, "ended"),
        (StreamState::Disabled, "disabled"),
    ] {
        if count(state) > 0 {
            parts.push(format!("{} {word}", count(state)));
        }
    }
    if !mqtt.outbox.durable {
        parts.push("the disk takes no events: they are kept in memory".into());
    }
    parts.extend(broker(mqtt));
    let building: Vec<String> = models.iter().filter_map(|model| model.progress(now)).collect();
    if !building.is_empty() {
        parts.push(format!("building the TensorRT {}", building.join(", ")));
    }
    parts.join("; ")
}

fn trouble(name: &str, state: StreamState) -> Option<String> {
    match state {
        StreamState::Down => Some(format!("{name} is down")),
        StreamState::Failed => Some(format!("{name} has failed")),
        StreamState::Quarantined => Some(format!("{name} is quarantined")),
        _ => None,
    }
}

/// How it stands with the broker; the numbers only in tens, hundreds and so on, or the line would never rest.
fn broker(mqtt: &PublishStatus) -> Option<String> {
    let state = match mqtt.state {
        ConnectionState::Off | ConnectionState::Stopped => return None,
        ConnectionState::Connected => "connected",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Refused => "the broker refuses the login",
        ConnectionState::Unreachable => "the broker cannot be reached",
    };
    let waiting = match (mqtt.state, mqtt.pending) {
        (ConnectionState::Connected, _) | (_, 0) => String::new(),
        (_, 1..10) => ", some events wait".into(),
        (_, many) => format!(", more than {} events wait", 10_u64.pow(many.ilog10())),
    };
    Some(format!("MQTT: {state}{waiting}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::messages::{ModelEngine, ModelEngineState, OutboxReport};

    fn streams(states: &[(&str, StreamState)]) -> BTreeMap<String, Report> {
        states
            .iter()
            .map(|(name, state)| {
                let mut report = Report::new("file.mp4", "cpu");
                report.status.state = *state;
                ((*name).to_owned(), report)
            })
            .collect()
    }

    fn mqtt(state: ConnectionState, pending: u64, durable: bool) -> PublishStatus {
        PublishStatus {
            state,
            since: Timestamp(0),
            broker: "mqtt://broker:1883".into(),
            error: None,
            epoch: 1,
            pending,
            outbox_bytes: 0,
            outbox: OutboxReport { durable, dropped: 0, corrupt: 0, error: None },
            dropped: 0,
        }
    }

    #[test]
    fn all_is_well() {
        let line = status_line(&BTreeMap::new(), &[], &mqtt(ConnectionState::Off, 0, true), Timestamp(0));
        assert_eq!(line, "0 of 0 streams running");
        let streams = streams(&[("a", StreamState::Running), ("b", StreamState::Disabled)]);
        let line = status_line(&streams, &[], &mqtt(ConnectionState::Connected, 3, true), Timestamp(0));
        assert_eq!(line, "1 of 2 streams running; 1 disabled; MQTT: connected");
    }

    #[test]
    fn who_is_in_trouble_is_named() {
        use StreamState::{Down, Failed, Quarantined, Running, Starting};
        let streams = streams(&[
            ("door", Down),
            ("garage", Failed),
            ("hall", Running),
            ("roof", Quarantined),
            ("yard", Starting),
        ]);
        let line = status_line(&streams, &[], &mqtt(ConnectionState::Unreachable, 4711, false), Timestamp(0));
        assert_eq!(
            line,
            "1 of 5 streams running; door is down, garage has failed, roof is quarantined; 1 starting; \
             the disk takes no events: they are kept in memory; \
             MQTT: the broker cannot be reached, more than 1000 events wait"
        );
    }

    #[test]
    fn a_box_full_of_dark_cameras_is_one_line() {
        let names: Vec<String> = (0..40).map(|index| format!("camera{index:02}")).collect();
        let states: Vec<_> = names.iter().map(|name| (name.as_str(), StreamState::Down)).collect();
        let line =
            status_line(&streams(&states), &[], &mqtt(ConnectionState::Refused, 7, true), Timestamp(0));
        assert!(
            line.contains("camera04 is down, and 35 more; MQTT: the broker refuses the login, some"),
            "{line}"
        );
    }

    #[test]
    fn what_is_built_is_said() {
        let engine = ModelEngine {
            state: ModelEngineState::Building,
            since: Timestamp(1_000_000),
            expected_seconds: Some(90),
            reason: None,
        };
        let model = ModelStatus {
            name: "people".into(),
            lane: "cuda".into(),
            gpu: Some(0),
            provider: None,
            engine: Some(engine),
        };
        let line = status_line(
            &BTreeMap::new(),
            &[model],
            &mqtt(ConnectionState::Off, 0, true),
            Timestamp(43_000_000),
        );
        assert!(
            line.ends_with("; building the TensorRT engine of people on GPU 0: 42 s of about 90 s"),
            "{line}"
        );
    }
}
