//! Room `record`: pictures and clips of what happened.
//!
//! In: rendered pictures. Out: JPEG files' bytes. Errors are the caller's to say.

mod jpeg;

pub use jpeg::{JpegError, jpeg};
