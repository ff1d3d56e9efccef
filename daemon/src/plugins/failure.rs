//! Why an instance died: a limit it broke, a trap, a result that lies.
//!
//! In: wasmtime's errors, and what the host itself refuses. Out: a [`Failure`] whose text names the limit and
//! the setting. Plain data.

use wasmtime::Trap;

/// Why an instance of a plugin was ended by the host.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Too much CPU time in one call.
    #[error("{call} took more than {limit_ms} ms of CPU time (limits.{setting})")]
    Time {
        /// Name of the call.
        call: &'static str,
        /// The limit, milliseconds.
        limit_ms: u64,
        /// Name of the setting.
        setting: &'static str,
    },
    /// Too much linear memory.
    #[error("wanted {wanted_mib} MiB of memory, the limit is {limit_mib} MiB (limits.memory_mib)")]
    Memory {
        /// What it wanted, MiB.
        wanted_mib: u64,
        /// The limit, MiB.
        limit_mib: u64,
    },
    /// Too many table elements.
    #[error("wanted {wanted} table elements, the limit is {limit} (limits.table_elements)")]
    Tables {
        /// What it wanted.
        wanted: u64,
        /// The limit.
        limit: u64,
    },
    /// The stack ran out: a recursion without end.
    #[error("used up its stack of {limit_kib} KiB in {call}: a recursion too deep")]
    Stack {
        /// Name of the call.
        call: &'static str,
        /// The limit, KiB.
        limit_kib: usize,
    },
    /// A result that the host would need too much memory for.
    #[error("{call} gave more than {limit_mib} MiB (limits.result_mib)")]
    ResultSize {
        /// Name of the call.
        call: &'static str,
        /// The limit, MiB.
        limit_mib: u64,
    },
    /// Too many of something in one result.
    #[error("{call} gave {found} {what}, the limit is {limit} (limits.{setting})")]
    ResultCount {
        /// Name of the call.
        call: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
        /// Name of the setting.
        setting: &'static str,
    },
    /// Object columns that do not agree, or hold what is no object.
    #[error("{call} gave objects that are none: {reason}")]
    Objects {
        /// Name of the call.
        call: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A snapshot that is too large.
    #[error("snapshot gave {found} bytes, the limit is {limit_mib} MiB (limits.snapshot_mib)")]
    Snapshot {
        /// Bytes.
        found: usize,
        /// The limit, MiB.
        limit_mib: u64,
    },
    /// It asked for too many random bytes.
    #[error("asked for {asked} random bytes at once, at most {limit} are given")]
    Random {
        /// What it asked for.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// It asked for too many ids.
    #[error("asked for more than {limit} ids in one call")]
    Ids {
        /// The limit.
        limit: u32,
    },
    /// Ids cannot be given, as the disk does not hold the reservation.
    #[error("no ids can be given: {reason}")]
    NoIds {
        /// What the disk said.
        reason: String,
    },
    /// It called exit.
    #[error("called exit")]
    Exit,
    /// Any other trap.
    #[error("{call} trapped: {reason}")]
    Trap {
        /// Name of the call.
        call: &'static str,
        /// What wasmtime says, and the plugin's last words.
        reason: String,
    },
}

impl Failure {
    /// What went wrong in a call, from wasmtime's error and the last lines the plugin wrote to stderr.
    pub(super) fn of(
        error: &wasmtime::Error,
        call: &'static str,
        stack: usize,
        result_mib: u64,
        words: &str,
    ) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            return failure.clone();
        }
        if let Some(Trap::StackOverflow) = error.downcast_ref::<Trap>() {
            return Self::Stack { call, limit_kib: stack >> 10 };
        }
        if let Some(Trap::MemoryOutOfBounds) = error.downcast_ref::<Trap>() {
            // Large variables lie in linear memory, whose lower end is the stack's.
            let reason = "it touched memory that it does not have; a recursion too deep does that";
            return Self::Trap { call, reason: reason.into() };
        }
        let cause = error.root_cause().to_string();
        if cause.contains("fuel allocated for hostcalls") {
            return Self::ResultSize { call, limit_mib: result_mib };
        }
        let mut reason = cause.trim().to_owned();
        if !words.trim().is_empty() {
            reason = format!("{reason}; its last words: {}", words.trim());
        }
        Self::Trap { call, reason }
    }
}
