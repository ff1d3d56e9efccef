//! Metrics handles, workers' progress, logging field names and secrets: what any room may use.
//!
//! In: numbers that rooms record, from any thread. Out: [`Registry::snapshot`], read by the status, by the
//! telemetry message and by tests; who has what in hand, for the watchdog. `app` owns the one [`Registry`] and passes
//! clones of it; there is no global but the list of [`secrets`], so tests that make their own do not see each other. Nothing here fails: a name that is already
//! taken by another kind of metric is logged as an error, and the caller gets a handle that nobody reads.

pub mod catalogue;
pub mod fields;
mod histogram;
mod metric;
pub mod progress;
mod registry;
pub mod secrets;

pub use histogram::{Counts, Distribution, Histogram};
pub use metric::{Counter, Gauge};
pub use registry::{Labels, Metric, Registry, Sample, Value};
