//! A decoder on the GPU that cannot decode a stream after all: the CPU takes over, once, and says so.
//!
//! In: a session's decoder on the GPU, what went wrong. Out: whether that is the decoder's doing; then the source decodes
//! on the CPU from the next session on, which begins at once: the stream is not lost. A capability that is listed may be
//! missing: damaged or odd streams, no video memory left, too many decoders. What fails later than at the first frames is
//! a failure of the stream as any other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer::{self as gst, prelude::*};

use super::session::{Session, lock};
use super::{IngestError, cuda};

/// A decoder that fails before so many frames cannot decode this stream.
const FIRST_FRAMES: u64 = 8;

/// A session's decoder on the GPU, where there is one.
#[derive(Default)]
pub(super) struct GpuDecoder {
    /// Weak: elements that hold themselves are never freed.
    element: Mutex<Option<gst::glib::WeakRef<gst::Element>>>,
    blamed: AtomicBool,
}

impl GpuDecoder {
    /// The session's stream is decoded by this element.
    pub(super) fn is(&self, element: &gst::Element) {
        *lock(&self.element) = Some(element.downgrade());
    }

    fn element(&self) -> Option<gst::Element> {
        lock(&self.element).as_ref().and_then(gst::glib::WeakRef::upgrade)
    }

    /// What goes wrong now is the decoder's doing, where there is one.
    pub(super) fn blame(&self) {
        self.blamed.store(true, Ordering::Release);
    }

    /// Blames the decoder for an error of its own, and of elements that could hand nothing on to it.
    pub(super) fn judge(&self, error: &gst::message::Error) {
        let Some(decoder) = self.element() else { return };
        let own = error.src().is_some_and(|source| {
            source == decoder.upcast_ref::<gst::Object>() || source.has_as_ancestor(&decoder)
        });
        if own || error.error().is::<gst::StreamError>() {
            self.blame();
        }
    }

    /// Lets the decoder go, where it waits for the lane to let a frame go.
    pub(super) fn flush(&self) {
        if let Some(decoder) = self.element() {
            cuda::flush(&decoder);
        }
    }
}

impl Session {
    /// Whether the CPU shall take over: the decoder on the GPU failed at its first frames. Then it is set so.
    pub(super) fn falls_back(&self, error: &IngestError) -> bool {
        let frames = self.frames.load(Ordering::Relaxed);
        let Some(decoder) = self.gpu.element() else { return false };
        if !self.gpu.blamed.load(Ordering::Acquire) || frames >= FIRST_FRAMES {
            return false;
        }
        let feed = &self.feed;
        let name = decoder.factory().map_or_else(|| "NVDEC".into(), |factory| factory.name().to_string());
        tracing::warn!(stream = %feed.spec.name, source = %feed.location, decoder = name, frames, error = %error,
            "the GPU cannot decode this stream; decoding on the CPU");
        *lock(&feed.refused) = Some(format!("{name} failed"));
        if feed.location.is_live() {
            // What follows comes after a gap, and another decoder's name with it.
            feed.outage.fetch_or(lock(&feed.said).is_some(), Ordering::AcqRel);
        } else {
            feed.given.store(frames, Ordering::Relaxed);
        }
        true
    }
}
