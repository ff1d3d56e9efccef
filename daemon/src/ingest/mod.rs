//! Room `ingest`: video sources become frames and compressed packets.
//!
//! In: a [`SourceSpec`] (a file or an RTSP address). Out: by [`Source::next`], decoded frames in order and
//! what happens to the source; beside them, by [`Source::ring`], the last seconds of compressed packets.
//! [`Source`] owns one supervisor thread, which owns one GStreamer pipeline at a time; dropping the source
//! stops and joins both.
//!
//! Where the source is given a GPU ([`SourceSpec::gpu`]), a decoder of that GPU is chosen by what it can do, and frames
//! stay in video memory; a stream that none of them takes is decoded on the CPU, and the decoder's label says why.
//!
//! When it fails: a live source is lost, reconnects by itself, and is back; a file ends in
//! [`Next::Failed`] with the element and its words. No source waits for another one.
//!
//! ```text
//!  file:  filesrc ─▶ parsebin ─┬─▶ parser ─▶ tee ─▶ (queue) ─▶ decoder ─▶ (convert, flip) ─▶ appsink ─▶ queue ─▶ next()
//!  rtsp:  rtspsrc ─▶ parsebin ─┤               ╰─▶ ring: video packets
//!                              ╰─▶ fakesink        ring: audio packets
//! ```

mod backoff;
mod branch;
mod change;
mod cuda;
mod decoder;
mod error;
mod fallback;
mod inlet;
mod location;
mod picture;
mod queue;
mod ring;
mod sender;
mod session;
mod source;
mod stats;
mod supervisor;
mod tap;
mod timeline;
mod watch;

pub use crate::flow::Track;
pub use branch::accept_padded_rows;
pub use change::{Change, ChangeMeter};
pub use cuda::{CudaDecoding, GRID_BYTES, GridJob};
pub use error::IngestError;
pub use location::Location;
pub use ring::{Clip, PacketRing};
pub use source::{Next, Source, SourceSpec};
pub use stats::SourceStats;
pub use watch::Watch;
