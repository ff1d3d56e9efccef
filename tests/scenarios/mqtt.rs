//! MQTT: what leaves over a real mosquitto, and that nothing is lost on the way.
//!
//! In: the publisher, in this process or in a child that is killed. Out: what a subscriber saw.

mod delivery;
mod embedded;
mod login;
mod messages;
mod moved;
mod support;
