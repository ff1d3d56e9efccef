//! Signals as a stream: stop, stop faster, reload.
//!
//! In: SIGTERM, SIGINT, SIGHUP. Out: [`Signal`]s, for `app`'s main loop, which owns [`Signals`]. From the
//! moment it exists none of these signals ends the process by itself.

use tokio::signal::unix::{SignalKind, signal};

/// What the outside wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT, the first time: stop, and finish what can be finished.
    Stop,
    /// SIGTERM or SIGINT again: stop at once.
    StopNow,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    stopping: bool,
}

impl Signals {
    /// Takes the signals over; to be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            stopping: false,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => self.stop(),
            _ = self.interrupt.recv() => self.stop(),
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    fn stop(&mut self) -> Signal {
        if std::mem::replace(&mut self.stopping, true) { Signal::StopNow } else { Signal::Stop }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Raw, getpid, kill_process};

    use super::*;

    #[test]
    fn signals_arrive_and_the_second_stop_is_faster() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::new().unwrap();
            let mut after = async |raw| {
                kill_process(getpid(), raw).unwrap();
                signals.next().await
            };
            assert_eq!(after(Raw::HUP).await, Signal::Reload);
            assert_eq!(after(Raw::TERM).await, Signal::Stop);
            assert_eq!(after(Raw::HUP).await, Signal::Reload);
            assert_eq!(after(Raw::INT).await, Signal::StopNow);
        });
    }
}
