//! Who is told which threads work for a source, and what its decoder does: so that a crash can be blamed on it.
//!
//! In: GStreamer's word that a streaming thread begins or ends, said by that thread itself; packets on their way to
//! the decoder. Out: calls of a [`Watch`], on the threads that they are about. Nothing here fails.

use std::sync::Arc;

use gstreamer::{self as gst, prelude::*};

/// Is told of a source's threads and of its decoder. `()` does nothing about it.
pub trait Watch: Send + Sync {
    /// This thread begins to work for the source, and for no other.
    fn enter(&self) {}

    /// This thread works for the source no longer.
    fn leave(&self) {}

    /// This thread goes into the decoder: what it starts there are the decoder's threads.
    fn inside(&self) {}

    /// This thread is before the decoder again.
    fn outside(&self) {}

    /// A decoder was made: the elements' names.
    fn decoding(&self, decoder: &str) {
        let _ = decoder;
    }

    /// A packet goes into the decoder.
    fn packet(&self) {}

    /// There is no decoder any more, and no thread that works for the source.
    fn idle(&self) {}
}

impl Watch for () {}

/// Whose the threads are that are started inside a decoder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The decoder's own.
    Own,
    /// A driver's, which starts them when it first needs them, and then has them for all its clients.
    Shared,
}

/// Watches what goes into a decoder.
pub(super) fn decoder(watch: &Arc<dyn Watch>, pad: &gst::Pad, threads: Threads) {
    let watch = Arc::clone(watch);
    // Decoders start their threads when they learn the format, or at the first packet.
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if threads == Threads::Own {
            watch.inside();
        }
        if info.buffer().is_some() {
            watch.packet();
        }
        gst::PadProbeReturn::Ok
    });
}

/// A message on a pipeline's bus, on the thread that posts it.
pub(super) fn on_message(watch: &dyn Watch, message: &gst::Message) -> gst::BusSyncReply {
    let gst::MessageView::StreamStatus(status) = message.view() else { return gst::BusSyncReply::Pass };
    match status.get().0 {
        gst::StreamStatusType::Enter => watch.enter(),
        gst::StreamStatusType::Leave => watch.leave(),
        _ => {}
    }
    gst::BusSyncReply::Drop
}
