//! The RTSP server of the running daemon: where it listens, as the settings say.
//!
//! In: settings. Out: an address that is listened on while an output is served. Owned by the daemon. At the start an
//! address that cannot be listened on fails the outputs, not the daemon, and is tried again; a reload that names one is
//! refused.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::encode::{RtspHandle, RtspServer};

/// How often an address that could not be listened on is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Rtsp {
    server: RtspServer,
    /// Where it is to listen and does not, and when that was tried last.
    missed: Mutex<Option<(String, u16, Instant)>>,
}

/// Whether an output is served.
pub(super) fn wanted(settings: &Settings) -> bool {
    settings.streams.values().any(|stream| stream.outputs.values().any(|out| out.serve.is_some()))
}

impl Rtsp {
    /// Listens, where an output wants it.
    pub(super) fn start(settings: &Settings) -> Self {
        let rtsp = Self { server: RtspServer::idle(), missed: Mutex::default() };
        if wanted(settings)
            && let Err(error) = rtsp.listen(settings)
        {
            tracing::error!(error, "outputs cannot be served over RTSP; it is tried again");
            let (address, port) = (settings.rtsp.address.clone(), settings.rtsp.port);
            *rtsp.missed() = Some((address, port, Instant::now()));
        }
        rtsp
    }

    pub(super) fn handle(&self) -> RtspHandle {
        self.server.handle()
    }

    /// Listens where the settings say.
    ///
    /// # Errors
    /// Where that is not possible: then it listens where it did.
    pub(super) fn listen(&self, settings: &Settings) -> Result<(), String> {
        self.server.listen(&settings.rtsp.address, settings.rtsp.port).map_err(|error| error.to_string())?;
        *self.missed() = None;
        Ok(())
    }

    /// Listens no longer: no output is served.
    pub(super) fn rest(&self) {
        *self.missed() = None;
        self.server.silence(None);
    }

    /// Tries again what was missed at the start.
    pub(super) fn see_to(&self) {
        let mut missed = self.missed();
        let Some((address, port, tried)) = missed.as_mut().filter(|(_, _, tried)| tried.elapsed() >= AGAIN)
        else {
            return;
        };
        match self.server.listen(address, *port) {
            Ok(()) => {
                tracing::info!(address, port, "outputs are served over RTSP");
                *missed = None;
            }
            Err(_) => *tried = Instant::now(),
        }
    }

    pub(super) fn stop(&self) {
        self.rest();
    }

    fn missed(&self) -> std::sync::MutexGuard<'_, Option<(String, u16, Instant)>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
