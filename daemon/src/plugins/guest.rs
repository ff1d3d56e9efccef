//! What the host keeps for one instance while its code runs: its limits, its clock, its log.
//!
//! In: calls of the plugin's code (log, now, new-id, growth of memory and tables). Out: log lines under the
//! names of stream, entry and plugin; a [`Failure`] where a limit is broken. Owned by the instance's store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::contract::watchpost::plugin as wit;
use super::failure::Failure;
use super::ids::Ids;
use crate::config::settings::Limits;

/// Ids that one call may take.
const IDS_A_CALL: u32 = 10_000;
/// Longest log line; the rest is cut off.
const LINE: usize = 2000;

/// The names of an instance, for the log.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub stream: Arc<str>,
    pub entry: Arc<str>,
    pub plugin: Arc<str>,
}

/// The CPU time of the call that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub call: &'static str,
    pub limit: Duration,
    pub setting: &'static str,
    /// The thread's CPU clock when the first epoch of this call ended. Reading that clock is a system call,
    /// so a call that is over within an epoch never does.
    pub since: Option<Duration>,
}

/// What the host keeps for one instance.
pub(super) struct Guest {
    pub names: Names,
    /// Stream time, nanoseconds.
    pub now: u64,
    /// Wall clock of the current frame, microseconds since 1970.
    pub captured: u64,
    pub allowance: Allowance,
    /// Bytes of linear memory, all together.
    pub memory: usize,
    tables: usize,
    limits: Limits,
    ids: Arc<Ids>,
    ids_left: u32,
    /// Ids that the call was given.
    pub given: Vec<u64>,
    /// Ids that the call gets before new ones: those of an earlier life, when it is replayed.
    pub script: VecDeque<u64>,
    lines: LineGate,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    words: String,
    seed: u64,
}

/// Lets so many lines a second through, and counts the rest.
struct LineGate {
    second: Instant,
    left: u32,
    dropped: u64,
}

impl Guest {
    pub(super) fn new(names: Names, limits: &Limits, ids: Arc<Ids>) -> Self {
        // FNV-1a: the seed depends on the names alone, so that a run can be repeated.
        let name = names.stream.bytes().chain([0]).chain(names.entry.bytes());
        let seed = name.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            names,
            now: 0,
            captured: 0,
            allowance: Allowance { call: "", limit: Duration::ZERO, setting: "", since: None },
            memory: 0,
            tables: 0,
            limits: limits.clone(),
            ids,
            ids_left: IDS_A_CALL,
            given: Vec::new(),
            script: VecDeque::new(),
            lines: LineGate { second: Instant::now(), left: limits.log_lines, dropped: 0 },
            stdout: Vec::new(),
            stderr: Vec::new(),
            words: String::new(),
            seed,
        }
    }

    /// Holds it to other limits from now on.
    ///
    /// # Errors
    /// Where it has more already than they allow.
    pub(super) fn limit(&mut self, limits: &Limits) -> Result<(), Failure> {
        self.limits = limits.clone();
        if self.memory as u64 > limits.memory_mib << 20 {
            let wanted_mib = (self.memory as u64).div_ceil(1 << 20);
            return Err(Failure::Memory { wanted_mib, limit_mib: limits.memory_mib });
        }
        if self.tables as u64 > limits.table_elements {
            return Err(Failure::Tables { wanted: self.tables as u64, limit: limits.table_elements });
        }
        Ok(())
    }

    /// Prepares for a call.
    pub(super) fn begin(&mut self, call: &'static str, limit: Duration, setting: &'static str) {
        self.allowance = Allowance { call, limit, setting, since: None };
        self.ids_left = IDS_A_CALL;
        self.given.clear();
        if !self.words.is_empty() {
            self.words.clear();
        }
    }

    /// The last lines written to stderr in this call, which is where a panic's message goes.
    pub(super) fn last_words(&self) -> String {
        let rest = String::from_utf8_lossy(&self.stderr);
        format!("{}{rest}", self.words)
    }

    /// The next number of the seeded generator (splitmix64, Steele et al. 2014).
    pub(super) fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes written to standard output or error: whole lines go to the log.
    pub(super) fn written(&mut self, error: bool, bytes: &[u8]) {
        for &byte in bytes {
            let buffer = if error { &mut self.stderr } else { &mut self.stdout };
            if byte != b'\n' {
                if buffer.len() < LINE {
                    buffer.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(buffer)).into_owned();
            if error && self.words.len() < LINE {
                self.words.push_str(&line);
                self.words.push(' ');
            }
            let level = if error { wit::host::Level::Warn } else { wit::host::Level::Info };
            self.line(level, &line);
        }
    }

    fn line(&mut self, level: wit::host::Level, message: &str) {
        let now = Instant::now();
        if now.duration_since(self.lines.second) >= Duration::from_secs(1) {
            let dropped = std::mem::take(&mut self.lines.dropped);
            self.lines.second = now;
            self.lines.left = self.limits.log_lines;
            if dropped > 0 {
                let Names { stream, entry, plugin } = &self.names;
                tracing::warn!(%stream, %entry, %plugin, dropped,
                    "plugin {plugin} logs more than {} lines a second (limits.log_lines)", self.limits.log_lines);
            }
        }
        if self.lines.left == 0 {
            self.lines.dropped += 1;
            return;
        }
        self.lines.left -= 1;
        let mut end = message.len().min(LINE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let message: String = message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let Names { stream, entry, plugin } = &self.names;
        match level {
            wit::host::Level::Error => tracing::error!(%stream, %entry, %plugin, "{message}"),
            wit::host::Level::Warn => tracing::warn!(%stream, %entry, %plugin, "{message}"),
            wit::host::Level::Info => tracing::info!(%stream, %entry, %plugin, "{message}"),
            wit::host::Level::Debug => tracing::debug!(%stream, %entry, %plugin, "{message}"),
        }
    }
}

impl wit::types::Host for Guest {}

impl wit::host::Host for Guest {
    fn log(&mut self, level: wit::host::Level, message: String) -> wasmtime::Result<()> {
        self.line(level, &message);
        Ok(())
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now)
    }

    fn new_id(&mut self) -> wasmtime::Result<u64> {
        if self.ids_left == 0 {
            return Err(wasmtime::Error::new(Failure::Ids { limit: IDS_A_CALL }));
        }
        self.ids_left -= 1;
        let id = match self.script.pop_front() {
            Some(id) => id,
            None => self
                .ids
                .take()
                .map_err(|error| wasmtime::Error::new(Failure::NoIds { reason: error.to_string() }))?,
        };
        self.given.push(id);
        Ok(id)
    }
}

impl wasmtime::ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory - current.min(self.memory) + desired;
        if total as u64 > self.limits.memory_mib << 20 {
            let wanted_mib = (total as u64).div_ceil(1 << 20);
            return Err(wasmtime::Error::new(Failure::Memory {
                wanted_mib,
                limit_mib: self.limits.memory_mib,
            }));
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.tables - current.min(self.tables) + desired;
        if total as u64 > self.limits.table_elements {
            let limit = self.limits.table_elements;
            return Err(wasmtime::Error::new(Failure::Tables { wanted: total as u64, limit }));
        }
        self.tables = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        // A component of one language runtime has a handful: the program, its adapter, shims.
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        8
    }
}
