//! The WebAssembly engine, and the clock that ends calls which take too long.
//!
//! In: nothing but the host's configuration. Out: one wasmtime engine for all plugins, whose epoch a thread
//! advances every few milliseconds; at each epoch a running call looks at the CPU clock of its own thread, so
//! a busy machine does not kill the innocent. Owned by the host, which joins the thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Store, UpdateDeadline};

use super::error::Error;
use super::failure::Failure;
use super::guest::Guest;

/// How often running calls look at the clock.
const EPOCH: Duration = Duration::from_millis(5);
/// Stack of a plugin's code, bytes.
pub(super) const STACK: usize = 512 << 10;

/// The configuration, the same in the daemon and in the process that compiles.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // One core: a plugin that arrives must not take the others from the video.
        .parallel_compilation(false);
    config
}

/// The engine and its clock.
pub(super) struct Engine {
    pub wasm: wasmtime::Engine,
    stop: Arc<(Mutex<bool>, Condvar)>,
    ticker: Option<JoinHandle<()>>,
}

impl Engine {
    pub(super) fn new() -> Result<Self, Error> {
        let wasm = wasmtime::Engine::new(&config())
            .map_err(|error| Error::Engine { reason: format!("{error:#}") })?;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (engine, signal) = (wasm.clone(), Arc::clone(&stop));
        let ticker = std::thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || tick(&engine, &signal))
            .map_err(|error| Error::Engine { reason: format!("no thread: {error}") })?;
        Ok(Self { wasm, stop, ticker: Some(ticker) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

fn tick(engine: &wasmtime::Engine, (stop, wake): &(Mutex<bool>, Condvar)) {
    let mut stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        stopped = wake.wait_timeout(stopped, EPOCH).unwrap_or_else(PoisonError::into_inner).0;
        engine.increment_epoch();
    }
}

/// A store whose calls are held to the guest's allowance and limits.
pub(super) fn store(engine: &wasmtime::Engine, guest: Guest, result_mib: u64) -> Store<Guest> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| guest);
    allow(&mut store, result_mib);
    store.epoch_deadline_callback(|mut context| {
        let allowance = &mut context.data_mut().allowance;
        let now = thread_cpu();
        let since = *allowance.since.get_or_insert(now);
        if now.saturating_sub(since) >= allowance.limit {
            let (call, setting) = (allowance.call, allowance.setting);
            let limit_ms = allowance.limit.as_millis() as u64;
            return Err(wasmtime::Error::new(Failure::Time { call, limit_ms, setting }));
        }
        Ok(UpdateDeadline::Continue(1))
    });
    // A store whose deadline was never set traps at once.
    store.set_epoch_deadline(1);
    store
}

/// Sets what a call may make the host allocate.
pub(super) fn allow(store: &mut Store<Guest>, result_mib: u64) {
    store.set_hostcall_fuel(usize::try_from(result_mib << 20).unwrap_or(usize::MAX));
}

/// CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
