//! What the daemon spends on a video, from its first frame to its last, and on each frame of it.
//!
//! In: a video, a model's folder, a folder to run in. Out: CPU seconds, all and by kind of thread. No outputs,
//! no plugins, no broker, one thread a model; that every frame came through is checked. The daemon is ended again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::daemon::Daemon;

use crate::process::{Threads, cpu};

/// Longer than the daemon may take for one video.
const LONG: Duration = Duration::from_secs(180);
/// How often its threads are looked at: those that end are remembered as they were last seen.
const LOOK: Duration = Duration::from_millis(50);

/// CPU seconds.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Of the whole process.
    pub all: f64,
    /// Of the model's thread.
    pub inference: f64,
    /// Of the stream's worker: preprocessing, results, delivery.
    pub worker: f64,
    /// Of the thread that hands frames to the worker.
    pub reader: f64,
}

/// What a frame costs, from what a video costs and the beginning of the same video, which is shorter by so many frames.
/// What comes once in a video (plugin folders, decoder and model warm up) is in both, and has budgets of its own.
#[must_use]
pub fn a_frame(whole: f64, beginning: f64, frames: u64) -> f64 {
    (whole - beginning) / frames as f64
}

impl Spent {
    /// As [`a_frame`], of each part.
    #[must_use]
    pub fn a_frame(&self, beginning: &Self, frames: u64) -> Self {
        let each = |part: fn(&Self) -> f64| a_frame(part(self), part(beginning), frames);
        Self {
            all: each(|it| it.all),
            inference: each(|it| it.inference),
            worker: each(|it| it.worker),
            reader: each(|it| it.reader),
        }
    }
}

/// What the daemon spends from its first frame to its last.
pub fn daemon(video: &Path, model: &Path, folder: &Path, frames: u64) -> anyhow::Result<Spent> {
    let config = format!(
        "box.name = \"bench\"\nmqtt.url = \"off\"\ninfer.threads = 1\nmodels.bench.path = \"{}\"\n\
         [streams.lane]\nsource = \"{}\"\nmodels.bench = {{}}\n",
        model.display(),
        video.display()
    );
    let daemon = Daemon::start(folder, &config);
    daemon.wait_for("source started", LONG);
    let begun = cpu(daemon.id())?;
    let mut before = Threads::default();
    before.look(daemon.id());
    let mut threads = before.clone();
    let until = Instant::now() + LONG;
    while !daemon.log().contains("Ended") {
        ensure!(Instant::now() < until, "the video does not end:\n{}", daemon.log());
        threads.look(daemon.id());
        std::thread::park_timeout(LOOK);
    }
    let all = cpu(daemon.id())? - begun;
    let status = daemon.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).context("no status")?;
    let done = status["streams"]["lane"]["frames"].as_u64();
    ensure!(
        done == Some(frames),
        "{done:?} frames went through the daemon, {frames} were expected: {status}"
    );
    drop(daemon);
    let named = |name: &str| threads.since(&before, name);
    Ok(Spent { all, inference: named("model"), worker: named("stream"), reader: named("read") })
}
