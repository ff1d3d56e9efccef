//! Ctrl-C: a long job ends at its next look, and what it made is removed.
//!
//! In: the signals of the process. Out: a [`Stop`] that everything which takes long looks at or waits with. The job owns
//! the [`Interrupt`], whose thread ends with it. A second signal kills the process, whatever hangs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::oneshot;

use crate::service::{Signal, Signals};

/// Whether the user wants to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Asks for it.
    pub fn ask(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on, or not.
    ///
    /// # Errors
    /// Where the user wants to stop.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.asked(), "interrupted; nothing is left behind");
        Ok(())
    }

    /// Waits so long.
    ///
    /// # Errors
    /// At once where the user wants to stop.
    pub fn wait(&self, time: Duration) -> anyhow::Result<()> {
        let asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(asked, time, |asked| !*asked);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.check()
    }
}

/// Takes the signals over while it lives.
pub struct Interrupt {
    stop: Stop,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Interrupt {
    /// From now on a signal asks for a stop.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new().context("signals cannot be handled")?
        };
        let stop = Stop::default();
        let (end, mut ended) = oneshot::channel();
        let told = stop.clone();
        let watch = async move {
            loop {
                tokio::select! {
                    _ = &mut ended => return,
                    signal = signals.next() => match signal {
                        Signal::StopNow => kill(),
                        // The terminal went away: nobody reads the result either.
                        Signal::Stop | Signal::Reload => told.ask(),
                    },
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(watch))
            .context("no thread for signals")?;
        Ok(Self { stop, end: Some(end), thread: Some(thread) })
    }

    /// What to look at.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // The thread waits for nothing else.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for signals panicked");
        }
    }
}

fn kill() {
    use rustix::process::{Signal, getpid, kill_process};
    // A process may always kill itself.
    let _ = kill_process(getpid(), Signal::KILL);
}
