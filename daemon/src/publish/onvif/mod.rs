//! Events and objects as ONVIF Profile M has them over MQTT.
//!
//! In: open incidents; the objects of a frame. Out: topics and JSON payloads: `<prefix>/<box>/onvif-ej/...` after the ONVIF
//! Core Specification, chapter "Event Broker" (properties of the rule engine, retained), and
//! `<prefix>/<box>/onvif-mj/...` after the ONVIF Analytics Service Specification, chapter "ONVIF Metadata in JSON over
//! MQTT". Plain data; nothing fails. The specifications' own examples are in `golden/`, and the tests hold the encoders
//! to them.

mod event;
mod frame;

pub(super) use event::{Property, property};
pub(super) use frame::frame;

/// A name as a part of a topic: what MQTT gives a meaning to is left out, as both specifications ask.
fn part(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '/' | '#' | '+' | '\0')).collect()
}
