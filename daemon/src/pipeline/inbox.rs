//! What a stream's worker waits for, in one queue: its source, its models' answers, commands.

use std::sync::mpsc::SyncSender;

use serde_json::Value;

use super::inflight::Found;
use super::thumbnail::Seen;
use crate::flow::{Decoded, Frame, Run, Score, Size, StreamInfo};

/// One thing that happened.
pub(super) enum Message {
    /// The source said something.
    Source(SourceEvent),
    /// A model answered for a frame.
    Found {
        /// Index of the frame.
        index: u64,
        /// Index of the model.
        model: u32,
        /// What it found, or why it failed.
        found: Result<Found, String>,
    },
    /// A clip model answered for a window.
    Clip {
        /// The window.
        run: Run,
        /// Its scores, or why it failed.
        scores: Result<Vec<Score>, String>,
        /// Index of the frame that waits for them: a file's. A live stream's frames wait for no window.
        holds: Option<u64>,
    },
    /// A command for a plugin entry.
    Command {
        /// Entry of the stream.
        entry: String,
        /// Name of the command.
        name: String,
        /// Arguments.
        arguments: Value,
        /// Where the answer goes.
        reply: SyncSender<Result<Value, String>>,
    },
    /// Somebody wants to see the next frame.
    Thumbnail {
        /// Where it goes.
        reply: SyncSender<Seen>,
    },
    /// Stop: finish nothing new.
    Stop,
}

/// What a source says.
pub(super) enum SourceEvent {
    /// The first frame is about to come, or the source is back.
    Started(StreamInfo),
    /// A frame.
    Frame(Frame<Decoded>),
    /// Frames have another size from here on.
    Resized(Size),
    /// A live source is away; it is tried again.
    Lost(String),
    /// The file is over.
    Ended,
    /// The source cannot be used.
    Failed(String),
}
