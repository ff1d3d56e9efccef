//! `/readyz`: whether the box does what it is configured to do, and if not, why.
//!
//! In: the status. Out: JSON with every reason. A stream that is known to wait for its camera is no reason, and is named
//! beside; one that is starting, cannot run or is quarantined is, and so is a broker that is configured and away.

use serde_json::{Value, json};

/// Whether it is ready, and the answer's body.
pub(super) fn ready(status: &Value) -> (bool, Value) {
    let mut reasons = Vec::new();
    let mut waiting = Vec::new();
    let mut streams = serde_json::Map::new();
    for (name, stream) in status["streams"].as_object().into_iter().flatten() {
        let state = stream["state"].as_str().unwrap_or("unknown");
        streams.insert(name.clone(), state.into());
        let error = stream["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        match state {
            "running" | "ended" | "disabled" => {}
            "down" => waiting.push(format!("stream {name} is down{error}")),
            state => reasons.push(format!("stream {name} is {state}{error}")),
        }
    }
    let mqtt = &status["mqtt"];
    let broker = mqtt["state"].as_str().unwrap_or("unknown");
    if !matches!(broker, "connected" | "off") {
        let error = mqtt["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        reasons
            .push(format!("the broker {} is {broker}{error}", mqtt["broker"].as_str().unwrap_or_default()));
    }
    let ready = reasons.is_empty();
    let body =
        json!({ "ready": ready, "reasons": reasons, "waiting": waiting, "streams": streams, "mqtt": broker });
    (ready, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_box_from_being_ready_is_named() {
        let status = |stream: &str, broker: &str| {
            json!({
                "streams": { "gate": { "state": stream, "error": "no route" }, "yard": { "state": "running" } },
                "mqtt": { "state": broker, "broker": "mqtt://b:1883" },
            })
        };
        for (stream, broker, reasons) in [
            ("running", "connected", 0),
            ("down", "off", 0),
            ("disabled", "connected", 0),
            ("starting", "connected", 1),
            ("failed", "connected", 1),
            ("quarantined", "unreachable", 2),
            ("running", "refused", 1),
            ("running", "connecting", 1),
        ] {
            let (ready, body) = ready(&status(stream, broker));
            assert_eq!(body["reasons"].as_array().unwrap().len(), reasons, "{body}");
            assert_eq!(ready, reasons == 0);
        }
        let (_, body) = ready(&status("down", "refused"));
        assert_eq!(body["waiting"][0], "stream gate is down: no route");
        assert_eq!(body["reasons"][0], "the broker mqtt://b:1883 is refused");
        assert!(ready(&json!({ "mqtt": { "state": "off" } })).0, "no stream is configured");
    }
}
