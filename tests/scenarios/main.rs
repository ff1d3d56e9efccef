//! The scenarios, in one binary so that they link once: each module is one part of what Watchpost must show.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod accept;
mod appliance;
mod bench;
mod cli;
mod crash;
mod cuda;
mod doctor;
mod golden;
mod gpu_figures;
mod homeassistant;
mod http;
mod infer;
mod ingest;
mod main_job;
mod mqtt;
mod outputs;
mod plugins;
mod record;
mod reload;
mod runtime;
mod scenes;
mod service;
