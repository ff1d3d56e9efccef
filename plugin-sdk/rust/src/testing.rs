//! Native stand-ins for the host, for unit tests: a clock and ids that a test sets, a log that it reads, and
//! a [`Runner`] that calls a plugin as the host would.
//!
//! Clock, ids and log belong to the thread, so tests do not see each other. Configuration and context pass
//! through JSON as they do in the host.

use std::cell::{Cell, RefCell};

use crate::host::Level;
use crate::{Context, Frame, Object, Objects, Out, Plugin, Run, Score, Signal};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Sets the stream time that [`crate::host::now`] gives on this thread, nanoseconds.
pub fn set_now(nanoseconds: u64) {
    NOW.set(nanoseconds);
}

/// Sets the next id that [`crate::host::new_id`] gives on this thread.
pub fn set_next_id(id: u64) {
    NEXT_ID.set(id);
}

/// Takes the log lines of this thread.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    LOG.take()
}

pub(crate) fn now() -> u64 {
    NOW.get()
}

pub(crate) fn take_id() -> u64 {
    NEXT_ID.replace(NEXT_ID.get() + 1)
}

pub(crate) fn record(level: Level, message: &str) {
    LOG.with_borrow_mut(|log| log.push((level, message.to_owned())));
}

/// A plugin with the host played by the test.
pub struct Runner<P: Plugin> {
    /// The plugin.
    pub plugin: P,
}

impl<P: Plugin> Runner<P> {
    /// Builds the plugin from the JSON of its configuration.
    ///
    /// # Errors
    /// Where the configuration does not parse or the plugin refuses it.
    pub fn new(context: &Context, config: &serde_json::Value) -> Result<Self, String> {
        let context = serde_json::to_string(context).map_err(|error| error.to_string())?;
        let context = serde_json::from_str(&context).map_err(|error| error.to_string())?;
        let config = serde_json::from_str(&config.to_string()).map_err(|error| error.to_string())?;
        Ok(Self { plugin: P::new(&context, config)? })
    }

    /// One frame. Gives the objects as the next plugin would see them, and what came out.
    ///
    /// # Errors
    /// What the plugin's `process` says.
    pub fn process(
        &mut self,
        frame: &Frame,
        runs: &[Run],
        objects: Vec<Object>,
        scores: &[Score],
    ) -> Result<(Vec<Object>, Out), String> {
        set_now(frame.pts);
        let (mut objects, mut out) = (Objects::from(objects), Out::default());
        self.plugin.process(frame, runs, &mut objects, scores, &mut out)?;
        Ok((objects.to_vec(), out))
    }

    /// One signal at a stream time.
    ///
    /// # Errors
    /// What the plugin's `signal` says.
    pub fn signal(&mut self, pts: u64, signal: Signal) -> Result<Out, String> {
        set_now(pts);
        let mut out = Out::default();
        self.plugin.signal(signal, &mut out)?;
        Ok(out)
    }

    /// Replaces the plugin by a fresh one that takes over its snapshot, as a hot swap does.
    ///
    /// # Errors
    /// Where it gives no snapshot or refuses its own.
    pub fn swap(&mut self, context: &Context, config: &serde_json::Value) -> Result<(), String> {
        let (version, bytes) = self.plugin.snapshot().ok_or("the plugin gives no snapshot")?;
        let mut fresh = Self::new(context, config)?;
        fresh.plugin.restore(version, &bytes)?;
        *self = fresh;
        Ok(())
    }
}

/// The configuration's JSON Schema, as the descriptor carries it.
#[must_use]
pub fn config_schema<P: Plugin>() -> serde_json::Value {
    schemars::schema_for!(P::Config).to_value()
}

/// Seeded pseudo-random numbers for tests, the same everywhere (SplitMix64: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Even in 0 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Even in 0 to `n` − 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// Normal with mean 0 and standard deviation 1 (sum of twelve).
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}
