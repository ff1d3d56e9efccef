//! What the recorder says of itself: for the status, and in metrics.
//!
//! In: what the writer did. Out: [`RecordStatus`], gauges and counters. Plain numbers; nothing fails.

use std::io::{Error, ErrorKind};
use std::path::Path;

use serde::Serialize;

use crate::telemetry::{Counter, Gauge, Registry};

/// What the recorder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// Nothing is to be recorded.
    #[default]
    Off,
    /// It records.
    Recording,
    /// The disk is full: nothing is recorded until there is room.
    Full,
    /// The disk refuses: nothing is recorded until it does no more.
    Failed,
}

/// How the recorder is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RecordStatus {
    /// What it does.
    pub state: RecordState,
    /// Why it does not record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Recordings on the disk.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pictures written since the daemon's start.
    pub snapshots: u64,
    /// Clips written since the daemon's start.
    pub clips: u64,
    /// Clips under way.
    pub open: u64,
    /// Recordings removed since the daemon's start, because they were the oldest.
    pub removed: u64,
    /// Pictures and clips that were to be recorded and were not.
    pub dropped: u64,
}

/// Why nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub full: bool,
    pub text: String,
}

impl Trouble {
    /// What the system's error means.
    pub fn of(error: &Error, path: &Path) -> Self {
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        Self { full, text: format!("{}: {error}", path.display()) }
    }

    pub fn state(&self) -> RecordState {
        if self.full { RecordState::Full } else { RecordState::Failed }
    }
}

/// The metrics.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    pub snapshots: Counter,
    pub clips: Counter,
    pub removed: Counter,
    pub dropped: Counter,
    pub files: Gauge,
    pub bytes: Gauge,
    /// 1 while nothing can be written.
    pub stopped: Gauge,
}

impl Meters {
    pub fn new(registry: &Registry) -> Self {
        let written = |kind| registry.counter("record_written_total", &[("kind", kind)]);
        Self {
            snapshots: written("snapshot"),
            clips: written("clip"),
            removed: registry.counter("record_removed_total", &[]),
            dropped: registry.counter("record_dropped_total", &[]),
            files: registry.gauge("record_files", &[]),
            bytes: registry.gauge("record_bytes", &[]),
            stopped: registry.gauge("record_stopped", &[]),
        }
    }
}
