//! What is counted of a source, readable at any time from any thread.

use std::sync::Mutex;

use super::IngestError;
use crate::flow::Codec;

/// A source's figures since it was started.
#[derive(Debug, Clone, Default)]
pub struct SourceStats {
    /// Frames handed out by `next`.
    pub frames: u64,
    /// Decoded frames thrown away because the consumer was stuck (live sources).
    pub dropped: u64,
    /// Compressed packets not decoded because the decoder did not keep up (live sources).
    pub skipped_packets: u64,
    /// Compressed video packets that came.
    pub packets: u64,
    /// Times that the source came back after it was lost.
    pub reconnects: u64,
    /// Times that it tried to connect or open.
    pub attempts: u64,
    /// Times that a file started over.
    pub loops: u64,
    /// Whether frames come now.
    pub connected: bool,
    /// The last error, also when it is over.
    pub last_error: Option<IngestError>,
    /// Name of the decoder element and of the edges after it ("avdec_h264", "jpegdec + videoconvert",
    /// "nvh264dec"); on a source that was given a GPU also why the CPU decodes ("avdec_h264 (NVDEC: no element ...)").
    pub decoder: Option<String>,
    /// Codec of the video.
    pub codec: Option<Codec>,
}

/// The figures, shared between the threads that count.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<SourceStats>);

impl Counters {
    /// Changes the figures.
    pub(super) fn update(&self, change: impl FnOnce(&mut SourceStats)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Frames and packets that were left out; what is asked for with each frame copies nothing.
    pub(super) fn left_out(&self) -> u64 {
        let stats = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stats.dropped + stats.skipped_packets
    }

    /// A copy of the figures.
    pub(super) fn get(&self) -> SourceStats {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
