//! Notifications to systemd: ready, reloading, stopping, a status line, the watchdog.
//!
//! In: what `app` says. Out: datagrams to the socket that systemd names in the environment (sd_notify(3)).
//! Nothing fails: without systemd there is nobody to tell, and a socket that takes nothing is logged once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use systemd::daemon;

/// How far the daemon is, as systemd was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet.
    Starting,
    /// Ready.
    Running,
    /// On its way to the end.
    Stopping,
}

/// Tells systemd. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    complained: Arc<AtomicBool>,
    phase: Arc<AtomicU8>,
}

impl Notifier {
    /// A notifier for this process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The start is over, or a reload is.
    pub fn ready(&self) {
        // A reload that ends while the daemon stops does not make it run again.
        let _ = self.phase.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        self.send(&[("READY", "1")]);
    }

    /// A reload begins; say [`Notifier::ready`] when it is over, also where it failed.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
        self.send(&[("RELOADING", "1"), ("MONOTONIC_USEC", &microseconds.to_string())]);
    }

    /// The daemon is about to stop.
    pub fn stopping(&self) {
        self.phase.store(2, Ordering::Relaxed);
        self.send(&[("STOPPING", "1")]);
    }

    /// How far the daemon is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&[("STATUS", &line.replace(['\n', '\r'], " "))]);
    }

    /// The start, or a stop, takes longer: systemd shall wait another `time` from now.
    pub fn extend(&self, time: Duration) {
        self.send(&[("EXTEND_TIMEOUT_USEC", &time.as_micros().to_string())]);
    }

    /// The daemon is alive.
    pub fn alive(&self) {
        self.send(&[("WATCHDOG", "1")]);
    }

    /// How often systemd wants to hear that the daemon is alive; `None` where it does not care.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        daemon::watchdog_enabled().ok().filter(|time| *time > 0).map(Duration::from_micros)
    }

    fn send(&self, state: &[(&str, &str)]) {
        if let Err(error) = daemon::notify(state.iter())
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot notify systemd");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// What a process under systemd sends; the environment of this one is shared by all tests.
    #[test]
    #[ignore = "runs in a process of its own, started by notifications_reach_systemd"]
    fn child() {
        let notifier = Notifier::new();
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_micros(40_000)));
        notifier.status("two\nlines");
        notifier.extend(Duration::from_secs(30));
        assert_eq!(notifier.phase(), Phase::Starting);
        notifier.ready();
        assert_eq!(notifier.phase(), Phase::Running);
        notifier.reloading();
        notifier.stopping();
        notifier.alive();
        assert_eq!(notifier.phase(), Phase::Stopping);
    }

    #[test]
    fn notifications_reach_systemd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service::notify::tests::child", "--ignored"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "40000")
            .env_remove("WATCHDOG_PID")
            .status()
            .unwrap();
        assert!(status.success());
        socket.set_nonblocking(true).unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(count) = socket.recv(&mut buffer) {
            got.push(String::from_utf8_lossy(&buffer[..count]).trim_end().to_owned());
        }
        assert_eq!(got[..3], ["STATUS=two lines", "EXTEND_TIMEOUT_USEC=30000000", "READY=1"]);
        assert!(got[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{got:?}");
        assert_eq!(got[4..], ["STOPPING=1", "WATCHDOG=1"]);
    }
}
