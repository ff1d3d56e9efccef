//! What the host offers: a log, stream time, ids. In native builds the same functions use the thread's test
//! clock, ids and log of [`crate::testing`]. Nothing here fails.

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    Info,
    /// For whoever looks for a fault.
    Debug,
}

/// Writes a line into the daemon's log, under the names of stream and plugin. So many lines a second are let
/// through; what is more is counted.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::watchpost::plugin::host as imports;
        let level = match level {
            Level::Error => imports::Level::Error,
            Level::Warn => imports::Level::Warn,
            Level::Info => imports::Level::Info,
            Level::Debug => imports::Level::Debug,
        };
        imports::log(level, message);
    }
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record(level, message);
}

/// [`log`] at [`Level::Error`].
pub fn error(message: &str) {
    log(Level::Error, message);
}

/// [`log`] at [`Level::Warn`].
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// [`log`] at [`Level::Info`].
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// [`log`] at [`Level::Debug`].
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// Stream time of the current frame or signal, nanoseconds.
#[must_use]
pub fn now() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::watchpost::plugin::host::now();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::now()
}

/// An id never given before on this box, over restarts; never 0.
#[must_use]
pub fn new_id() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::watchpost::plugin::host::new_id();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::take_id()
}
