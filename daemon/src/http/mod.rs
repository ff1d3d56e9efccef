//! Health, metrics and the status page, over HTTP.
//!
//! In: requests; what [`Source`] says of the daemon; events, as [`Step`]s; the metrics' [`Registry`]. Out: answers. `app`
//! owns the [`Server`], implements [`Source`] and feeds the [`Page`]. A port that is taken or a token that cannot be read
//! keeps nothing else from running: it is said in log and status, and tried again. Connections, headers, bodies and
//! patience with slow clients are bounded; whoever asks too much gets an error, the others their answers.
//!
//! `server` accepts, `routes` decides who answers, `access` who may ask; `metrics` writes the metrics, `series` keeps the
//! last minutes of them, `alerts` the last incidents, `files` sends recordings. `page/` is what a browser gets; nothing in
//! it comes from elsewhere.

mod access;
mod alerts;
mod answer;
mod assets;
mod files;
mod login;
mod metrics;
mod ready;
mod routes;
mod series;
mod server;
mod slow;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use self::alerts::Alerts;
use self::series::Series;
use crate::config::settings::Http;
use crate::durable;
use crate::telemetry::Registry;

pub use alerts::Step;
pub use server::Server;

/// What the room asks the daemon. Every method but [`Source::alive`] may wait; it is called on a thread where it may.
pub trait Source: Send + Sync + 'static {
    /// Whether the control loop goes round.
    ///
    /// # Errors
    /// Since when it does not.
    fn alive(&self) -> Result<(), String>;

    /// The status, as on the control socket.
    fn status(&self) -> Value;

    /// The newest picture of a stream, with what was seen drawn on it.
    ///
    /// # Errors
    /// Why there is none.
    fn thumbnail(&self, stream: &str) -> Result<Picture, NoPicture>;
}

/// What keeps the page from being served as configured, as far as files are concerned.
///
/// # Errors
/// What is wrong with the token's file; the text names the key.
pub fn check(http: &Http) -> Result<(), String> {
    match http.address() {
        Some(address) => access::Access::read(http.token_file.as_deref(), address.port()).map(drop),
        None => Ok(()),
    }
}

/// A picture of a stream.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Index of the frame.
    pub frame: u64,
    /// Wall clock of the frame, microseconds since 1970.
    pub captured: u64,
    /// The picture.
    pub jpeg: Arc<[u8]>,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPicture {
    /// There is no such stream.
    Unknown,
    /// The stream has none now, for this reason.
    NotNow(String),
}

/// How the server is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpStatus {
    /// What it does.
    pub state: HttpState,
    /// The page's address; absent where it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether clients must know a token.
    pub token: bool,
    /// Why it does not listen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpState {
    /// `http.listen = "off"`.
    Off,
    /// About to listen.
    Starting,
    /// It answers.
    Listening,
    /// It cannot listen; it tries again.
    Failed,
}

/// What the server is to do.
#[derive(Debug, Clone, PartialEq)]
struct Setup {
    http: Http,
    clips: PathBuf,
}

/// What the page shows and how it is served, shared by `app` and the server. Clones are one.
#[derive(Debug, Clone)]
pub struct Page(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    alerts: Alerts,
    /// Where the alerts are kept.
    file: PathBuf,
    /// Whether they could not be written at the last try.
    forgetful: Mutex<bool>,
    series: Mutex<Series>,
    status: Mutex<HttpStatus>,
    setup: watch::Sender<Setup>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Page {
    /// A page that is to be served as configured. `state`: `paths.state`, below which recordings are, and the alerts of the
    /// daemon's earlier lives.
    #[must_use]
    pub fn new(http: &Http, state: &Path, registry: &Registry) -> Self {
        let file = state.join("alerts.json");
        let status = HttpStatus { state: HttpState::Starting, url: http.url(), token: false, error: None };
        Self(Arc::new(Shared {
            registry: registry.clone(),
            alerts: remembered(&file),
            file,
            forgetful: Mutex::default(),
            series: Mutex::default(),
            status: Mutex::new(status),
            setup: watch::Sender::new(setup(http, state)),
        }))
    }

    /// Other settings: the server follows them, with its connections closed, where they differ.
    pub fn configure(&self, http: &Http, state: &Path) {
        let new = setup(http, state);
        self.0.setup.send_if_modified(|now| {
            let differs = *now != new;
            *now = new;
            differs
        });
    }

    /// One step of an incident. Does not block.
    pub fn event(&self, step: Step) {
        self.0.alerts.add(step);
    }

    /// Writes the alerts down, where there are new ones: for the page of the daemon's next life. May wait for the disk.
    pub fn remember(&self) {
        // One at a time: what was taken first is written first.
        let mut forgetful = lock(&self.0.forgetful);
        let Some(bytes) = self.0.alerts.unsaved() else { return };
        let Err(error) = durable::replace(&self.0.file, &bytes, durable::Readers::None) else {
            *forgetful = false;
            return;
        };
        self.0.alerts.not_saved();
        // Once, and not at each try while the disk is full.
        if !std::mem::replace(&mut *forgetful, true) {
            tracing::warn!(path = %self.0.file.display(), %error,
                "the page's list of alerts cannot be written; after a restart it would lack the newest");
        }
    }

    /// How it is served.
    #[must_use]
    pub fn status(&self) -> HttpStatus {
        lock(&self.0.status).clone()
    }

    fn set_status(&self, state: HttpState, http: &Http, token: bool, error: Option<String>) {
        *lock(&self.0.status) = HttpStatus { state, url: http.url(), token, error };
    }
}

/// The alerts of earlier lives.
fn remembered(file: &Path) -> Alerts {
    let Ok(bytes) = std::fs::read(file) else { return Alerts::default() };
    Alerts::restore(&bytes).unwrap_or_else(|error| {
        tracing::warn!(path = %file.display(), %error, "the page's alerts of before are not known any more");
        Alerts::default()
    })
}

fn setup(http: &Http, state: &Path) -> Setup {
    Setup { http: http.clone(), clips: state.join("clips") }
}
