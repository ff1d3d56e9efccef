//! The harness: real servers and shared helpers that the scenarios use.
//!
//! Each module owns one kind of server or file; what it starts, it stops when dropped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod appliance;
pub mod assign;
pub mod browser;
pub mod cuda;
pub mod daemon;
pub mod data;
pub mod frames;
pub mod gate;
pub mod http;
pub mod models;
pub mod mosquitto;
mod nginx;
pub mod plugins;
pub mod prometheus;
pub mod rtmp;
pub mod rtsp;
pub mod score;
pub mod trace;
pub mod web;
pub mod wheels;
