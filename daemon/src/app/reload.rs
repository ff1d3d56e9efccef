//! The configuration, read again while the daemon runs.
//!
//! In: the file that the daemon was started with. Out: what changed, stream by stream. All or nothing: everything is read
//! and tried first, and a wrong configuration changes nothing and says what is wrong with it, also in the status until
//! the next reload. Reloads come one after the other, whoever asks for them. systemd is told when one begins and ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::daemon::{Core, publishing, watch_gpus, without_gpu};
use super::{refuse, rtsp};
use crate::config::Settings;
use crate::pipeline::Applied;

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Reloaded {
    /// Tables beside models and streams that differ, and are in force now.
    applied: Vec<String>,
    #[serde(flatten)]
    streams: Applied,
}

/// Why a reload did nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// With file, line and key, where it is about one.
    pub(super) text: String,
    /// The configuration is what is wrong.
    pub(super) wrong: bool,
}

/// What is remembered between reloads.
pub(super) struct Reloading {
    one: Mutex<()>,
    /// systemd has heard that the start is over: before, it must not hear it from here.
    ready: AtomicBool,
    refused: Mutex<Option<String>>,
    /// The box's lane, and why.
    lane: Mutex<String>,
}

impl Reloading {
    pub(super) fn new(lane: String) -> Self {
        Self {
            one: Mutex::default(),
            ready: AtomicBool::new(false),
            refused: Mutex::default(),
            lane: Mutex::new(lane),
        }
    }
}

impl Core {
    /// The start is over.
    pub(super) fn is_ready(&self) {
        self.reloading.ready.store(true, Ordering::Relaxed);
    }

    /// Why the last reload was refused, in one line; `None` where it was not.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.reloading.refused).clone()
    }

    /// The lane of streams without one of their own, and why.
    pub(super) fn lane(&self) -> String {
        lock(&self.reloading.lane).clone()
    }
}

/// Reads the configuration again and applies it; what it did, stream by stream. Waits for a reload that is under way.
pub(super) fn apply(core: &Core) -> Result<Reloaded, Refused> {
    let _one = lock(&core.reloading.one);
    let told = core.reloading.ready.load(Ordering::Relaxed);
    if told {
        core.notifier.reloading();
    }
    let outcome = read_and_apply(core);
    match &outcome {
        Ok(Reloaded { applied, streams }) => {
            *lock(&core.reloading.refused) = None;
            tracing::info!(?applied, started = ?streams.started, restarted = ?streams.restarted,
                stopped = ?streams.stopped, untouched = streams.untouched.len(), "configuration reloaded");
        }
        Err(Refused { text, .. }) => {
            *lock(&core.reloading.refused) = Some(text.replace('\n', "; "));
            tracing::error!(error = text, "the new configuration is refused; the old one stays in force");
        }
    }
    if told {
        core.notifier.ready();
    }
    outcome
}

/// Starts the streams for the first time. A reload that was quicker has done so by a newer configuration, which stays.
pub(super) fn begin(core: &Core) {
    let _one = lock(&core.reloading.one);
    core.supervisor.apply(&core.settings());
}

fn read_and_apply(core: &Core) -> Result<Reloaded, Refused> {
    let Some(file) = &core.config else {
        let text = "this daemon was not started from a file, so there is nothing to read again".into();
        return Err(Refused { text, wrong: false });
    };
    let wrong = |text: String| Refused { text: format!("the configuration is wrong: {text}"), wrong: true };
    let next =
        super::load_again(file).map_err(|error| Refused { text: format!("{error:#}"), wrong: true })?;
    let current = core.settings();
    let fixed = refuse::fixed(&current, &next);
    if !fixed.is_empty() {
        return Err(Refused { text: refuse::located(&next, fixed).to_string(), wrong: false });
    }
    let found = refuse::wrong(core, &current, &next);
    if !found.is_empty() {
        return Err(wrong(refuse::located(&next, found).to_string()));
    }
    // What may fail comes first, and is undone where what follows fails.
    listen(core, &current, &next).map_err(|found| wrong(refuse::located(&next, vec![found]).to_string()))?;
    if let Err(error) = publish(core, &next) {
        undo(core, &current);
        return Err(Refused { text: refuse::located(&next, vec![error]).to_string(), wrong: false });
    }
    if let Some(logging) = &core.logging
        && let Err(error) = logging.set(&next.log.level)
    {
        // It was checked, so this is a bug; what is logged is no reason to leave the rest aside.
        tracing::error!(%error, "what is logged stays as it was");
    }
    core.host.configure(&next.paths.plugins, &next.limits);
    super::plugin_keys::say(&next, &core.host);
    core.page.configure(&next.http, &next.paths.state);
    watch(core, &current, &next);
    if let Ok(lane) = core.supervisor.lane(&next) {
        *lock(&core.reloading.lane) = lane;
    }
    let streams = core.supervisor.apply(&next);
    if !rtsp::wanted(&next) {
        core.rtsp.rest();
    }
    let mut applied = refuse::differ(&current, &next);
    applied.retain(|table| !matches!(table.as_str(), "models" | "streams"));
    *lock(&core.settings) = next;
    Ok(Reloaded { applied, streams })
}

/// Listens where outputs are to be served.
fn listen(core: &Core, current: &Settings, next: &Settings) -> Result<(), (String, String)> {
    if !rtsp::wanted(next) {
        return Ok(());
    }
    match core.rtsp.listen(next) {
        // What could not be listened on before is no reason to refuse something else.
        Err(_) if rtsp::wanted(current) && current.rtsp == next.rtsp => Ok(()),
        Err(error) => {
            let elsewhere = current.rtsp.port == next.rtsp.port && current.rtsp != next.rtsp;
            let key = if elsewhere { "rtsp.address" } else { "rtsp.port" };
            Err((key.into(), error))
        }
        Ok(()) => Ok(()),
    }
}

fn undo(core: &Core, current: &Settings) {
    if !rtsp::wanted(current) {
        core.rtsp.rest();
    } else if let Err(error) = core.rtsp.listen(current) {
        tracing::error!(error, "outputs cannot be served over RTSP any longer");
    }
}

/// Goes over to another broker, name or password.
fn publish(core: &Core, next: &Settings) -> Result<(), (String, String)> {
    let problem = |error: crate::publish::Error| (error.key().unwrap_or("mqtt").into(), error.to_string());
    let settings = publishing(next).map_err(problem)?;
    // Reloads run on threads that may wait.
    tokio::runtime::Handle::current().block_on(async {
        match core.publisher.lock().await.as_mut() {
            Some(publisher) => publisher.apply(settings).await.map(drop).map_err(problem),
            // The daemon is stopping.
            None => Ok(()),
        }
    })
}

/// Looks at the GPUs where some stream may use one now, and no longer where none may.
fn watch(core: &Core, current: &Settings, next: &Settings) {
    if without_gpu(current) == without_gpu(next) {
        return;
    }
    match watch_gpus(next, &core.registry) {
        Ok(watch) => {
            let before =
                std::mem::replace(&mut *core.gpus.write().unwrap_or_else(PoisonError::into_inner), watch);
            before.stop();
        }
        Err(error) => tracing::warn!(%error, "the GPUs' figures are not read"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
