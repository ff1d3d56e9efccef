//! How an output is doing: counters that its threads write, and the snapshot that everybody else reads.
//!
//! In: events of the worker and the pipeline. Out: [`OutputStatus`]. Shared by reference; nothing fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What an output is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputState {
    /// Nothing to do: no picture yet, or nobody watches.
    Idle,
    /// The sink is being opened.
    Connecting,
    /// Video leaves.
    Running,
    /// It failed and will be tried again.
    Retrying,
    /// Stopped for good.
    Stopped,
}

/// A snapshot of an output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputStatus {
    /// What it is doing.
    pub state: OutputState,
    /// Where the video goes, without secrets: an address or the file that is being written.
    pub location: String,
    /// The last failure, without secrets; `None` once video leaves again.
    pub error: Option<String>,
    /// Pictures encoded.
    pub frames: u64,
    /// Pictures dropped because the output was away or too slow. Those nobody watched are not counted.
    pub dropped: u64,
    /// Bytes of encoded video.
    pub bytes: u64,
    /// How often it was opened again after a failure.
    pub reconnects: u64,
    /// Viewers at the moment, for RTSP.
    pub clients: u64,
    /// What encodes, or will: "nvh264enc", "x264enc", "cudadownload + x264enc (...)" with the reason.
    pub encoder: String,
    /// Pictures that were copied from video memory to host memory for the encoder.
    pub downloads: u64,
}

/// The live counters behind a status.
pub(super) struct Counters {
    pub frames: AtomicU64,
    pub dropped: AtomicU64,
    pub bytes: AtomicU64,
    pub reconnects: AtomicU64,
    pub downloads: AtomicU64,
    encoder: Mutex<String>,
    now: Mutex<(OutputState, String, Option<String>)>,
}

impl Counters {
    pub(super) fn new(location: String, encoder: String) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            frames: zero(),
            dropped: zero(),
            bytes: zero(),
            reconnects: zero(),
            downloads: zero(),
            encoder: Mutex::new(encoder),
            now: Mutex::new((OutputState::Idle, location, None)),
        }
    }

    /// Adds to a counter.
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the state; running clears the error.
    pub(super) fn state(&self, state: OutputState) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 = state;
        if state == OutputState::Running {
            now.2 = None;
        }
    }

    /// Sets the error.
    pub(super) fn error(&self, error: String) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).2 = Some(error);
    }

    /// Sets what encodes.
    pub(super) fn encoder(&self, encoder: String) {
        *self.encoder.lock().unwrap_or_else(PoisonError::into_inner) = encoder;
    }

    /// Sets where the video goes.
    pub(super) fn location(&self, location: String) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1 = location;
    }

    pub(super) fn snapshot(&self, clients: u64) -> OutputStatus {
        let (state, location, error) = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutputStatus {
            state,
            location,
            error,
            frames: read(&self.frames),
            dropped: read(&self.dropped),
            bytes: read(&self.bytes),
            reconnects: read(&self.reconnects),
            clients,
            encoder: self.encoder.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            downloads: read(&self.downloads),
        }
    }
}
