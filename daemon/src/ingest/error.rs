//! What can go wrong with a source. Texts name the source by its redacted address: credentials never appear.

use std::time::Duration;

/// Why a source does not start, was lost, or failed. Cheap to clone; holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The address is of no kind that can be read.
    #[error(
        "\"{source_}\" is no source that can be read: {reason}; what works: a path or file: URI of a video file \
         (MP4, MKV, MPEG-TS, IVF, raw H.264 or H.265), rtsp://HOST/PATH, rtsps://HOST/PATH"
    )]
    Address {
        /// The address, redacted.
        source_: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be opened.
    #[error("cannot read video file {path}: {reason}")]
    File {
        /// Its path.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// A number in the specification is out of range.
    #[error("stream {stream}: {key} = {value} is out of range; expected {expected}")]
    Setting {
        /// The stream.
        stream: String,
        /// The setting's key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// GStreamer or one of its elements is missing.
    #[error("GStreamer element \"{element}\" is not there ({needed_for}); install the package {package}")]
    Missing {
        /// The element.
        element: String,
        /// What it is needed for.
        needed_for: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// No decoder for a codec.
    #[error("{source_}: no decoder for {codec}; install gstreamer1.0-libav or gstreamer1.0-plugins-bad")]
    NoDecoder {
        /// The address, redacted.
        source_: String,
        /// The codec's media type and profile.
        codec: String,
    },
    /// The source has no video stream.
    #[error("{source_}: there is no video in it{found}")]
    NoVideo {
        /// The address, redacted.
        source_: String,
        /// What there is instead, with a leading separator; may be empty.
        found: String,
    },
    /// It is encrypted.
    #[error("{source_}: it is encrypted (DRM), and there is no key for it; use an unencrypted copy")]
    Encrypted {
        /// The address, redacted.
        source_: String,
    },
    /// It ended without one decoded frame.
    #[error("{source_}: it ended without one decodable frame ({detail})")]
    NoFrames {
        /// The address, redacted.
        source_: String,
        /// How far it came.
        detail: String,
    },
    /// An element of the pipeline reported an error.
    #[error("{source_}: {element} says: {message}{debug}")]
    Element {
        /// The address, redacted.
        source_: String,
        /// The element, by its factory's name.
        element: String,
        /// Its words.
        message: String,
        /// Its further words with a leading separator; may be empty.
        debug: String,
    },
    /// Connected, or open, but nothing comes any more.
    #[error("{source_}: {what} for {after:?}")]
    Stalled {
        /// The address, redacted.
        source_: String,
        /// What is missing ("connected, but no packet came").
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// A live source ended the stream by itself.
    #[error("{source_}: the server ended the stream")]
    EndedByServer {
        /// The address, redacted.
        source_: String,
    },
    /// The operating system refused a thread, or GStreamer does not start.
    #[error("cannot start the source: {reason}")]
    Start {
        /// Its words.
        reason: String,
    },
}
