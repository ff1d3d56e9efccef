//! Watchpost's map. A frame visits the rooms in this order:
//!
//! ```text
//!  ingest ──▶ preprocess ──▶ infer ──▶ postprocess ──▶ plugins ──▶ publish        (MQTT, files)
//!  (GStreamer:  (NV12 → tensor,  (ONNX      (tensor →       (wasmtime:   ╲
//!   any source,  letterbox,       Runtime,   objects,        objects →    ▶ render ──▶ encode   (RTSP, RTMP, file)
//!   decode)      normalise)       batched    scores)         tracks,         (crop, scale,
//!      │                          across                     events,         overlay, masks)
//!      ╰─▶ packets (compressed)   streams)                   views)
//!             ╰─▶ record        (snapshots and clips of incidents)
//! ```
//!
//! A room imports `flow`, `config`'s types, `telemetry` and itself; only `pipeline`, `jobs` and `app` know
//! several rooms. `tests/house_rules.rs` holds it to that.

pub mod app;
pub mod cli;
pub mod config;
pub mod durable;
pub mod share;

pub mod flow;
pub mod telemetry;

pub mod gpu;

pub mod encode;
pub mod infer;
pub mod ingest;
pub mod plugins;
pub mod postprocess;
pub mod preprocess;
pub mod publish;
pub mod record;
pub mod render;
pub mod scene;

pub mod control;
pub mod http;
pub mod jobs;
pub mod pipeline;
pub mod service;
