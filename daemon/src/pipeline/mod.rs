//! The corridor itself: one worker a stream, one inference thread a model, one supervisor for all.
//!
//! In: settings, and sources' frames. Out: what plugins decided, to `publish`; pictures, to `encode`. Owned by `app`
//! through the [`Supervisor`], which stops and joins every thread here. What fails is one stream's, and says so in
//! its status.
//!
//! `lane.rs` is the seam between CPU and GPU; `stream.rs` is one stream's life; `worker.rs` its loop, which reads as
//! the picture in `lib.rs`: `reader.rs` → `models.rs` → `model.rs` → `inflight.rs` → `deliver.rs` → `outputs.rs`.

mod blame;
mod build;
mod deliver;
mod engines;
mod gpus;
mod inbox;
mod inflight;
pub mod lane;
mod late;
mod looks;
pub mod model;
mod models;
mod output_meters;
mod outputs;
mod overlay;
mod pool;
mod reader;
mod recording;
mod sampler;
mod scene_feed;
mod serving;
mod shot;
mod status;
mod stream;
mod supervisor;
mod thumbnail;
pub mod trace;
mod worker;

pub use blame::announce;
pub use deliver::record;
pub use engines::{KeptEngine, Verdict, kept_engines, prune_engines, remove_engines};
pub use gpus::check_lane;
pub use pool::{PoolError, check_model, find_model, model_dir};
pub use status::Report;
pub use supervisor::{Applied, Supervisor};
