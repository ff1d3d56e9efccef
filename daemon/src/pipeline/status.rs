//! What a stream says of itself: shared by its worker, the supervisor, the control socket and MQTT.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::publish::PublishHandle;
use crate::publish::messages::{StreamState, StreamStatus, Timestamp};
use crate::telemetry::Gauge;

/// A stream's status with the numbers that change all the time, for `watchpost status`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What is retained on MQTT.
    #[serde(flatten)]
    pub status: StreamStatus,
    /// Frames that left the worker.
    pub frames: u64,
    /// Times that a model was to see a frame and did not, because too much was in flight.
    pub skipped: u64,
    /// Frames that the source dropped before the worker saw them.
    pub dropped: u64,
    /// Pictures that its outputs encoded.
    pub encoded: u64,
    /// Pictures that were to be encoded and were dropped: an output was away or too slow.
    pub not_encoded: u64,
    /// Why no clips are recorded of its incidents, where they are of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_clips: Option<String>,
    /// Plugin entries.
    pub plugins: Vec<crate::plugins::EntryStatus>,
}

impl Report {
    /// Of a stream that has not started; `source` as it may be shown.
    #[must_use]
    pub fn new(source: &str, lane: &str) -> Self {
        let status = StreamStatus {
            state: StreamState::Starting,
            since: Timestamp::now(),
            source: source.to_owned(),
            lane: lane.to_owned(),
            lane_reason: None,
            edges: Vec::new(),
            size: None,
            fps: 0.0,
            reconnects: 0,
            error: None,
            warnings: Vec::new(),
            outputs: Vec::new(),
        };
        Self {
            status,
            frames: 0,
            skipped: 0,
            dropped: 0,
            encoded: 0,
            not_encoded: 0,
            no_clips: None,
            plugins: Vec::new(),
        }
    }
}

/// The status of one stream, shared.
#[derive(Debug, Clone)]
pub struct SharedStatus(Arc<Mutex<Report>>, Gauge);

impl SharedStatus {
    /// The status of a stream that has not started. `up` is 1 while it runs.
    pub(super) fn new(source: &str, lane: &str, up: Gauge) -> Self {
        up.set(0.0);
        Self(Arc::new(Mutex::new(Report::new(source, lane))), up)
    }

    /// A copy of it.
    #[must_use]
    pub fn get(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub(super) fn update(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Enters a state; an error stays until the next one. Says it on MQTT and in the log where it is another state.
    pub(super) fn enter(
        &self,
        stream: &str,
        state: StreamState,
        error: Option<String>,
        publish: &PublishHandle,
    ) {
        let mut changed = false;
        self.1.set(f64::from(u8::from(state == StreamState::Running)));
        self.update(|report| {
            changed = report.status.state != state;
            if changed {
                report.status.since = Timestamp::now();
                report.status.state = state;
            }
            if state != StreamState::Running && state != StreamState::Starting {
                report.status.fps = 0.0;
            }
            if error.is_some() {
                report.status.error.clone_from(&error);
            }
        });
        let word = match state {
            StreamState::Starting => "the stream starts",
            StreamState::Running => "the stream runs",
            StreamState::Down => "the stream's source is away",
            StreamState::Failed => "the stream has failed",
            StreamState::Ended => "the stream has ended",
            StreamState::Disabled => "the stream is turned off",
            StreamState::Quarantined => "the stream is quarantined",
        };
        match (state, error) {
            (StreamState::Quarantined, Some(error)) => tracing::error!(stream, ?state, error, "{word}"),
            (StreamState::Down | StreamState::Failed, Some(error)) => {
                tracing::warn!(stream, ?state, error, "{word}")
            }
            _ if changed => tracing::info!(stream, ?state, "{word}"),
            _ => {}
        }
        self.publish(stream, publish);
    }

    /// Publishes it; the publisher drops what has not changed.
    pub(super) fn publish(&self, stream: &str, publish: &PublishHandle) {
        publish.stream_status(stream, self.get().status);
    }
}
