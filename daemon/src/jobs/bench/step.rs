//! One step of the search: so many streams play at their own pace for a while, and are judged.
//!
//! In: a rig, a subject, a number. Out: a [`Step`] with what the streams and the machine did. The streams start one after
//! the other within a second, so that their frames do not come in time with each other, and are stopped before this
//! returns. One stream alone that does not run is an error; of several it is an answer.

use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::ProgressBar;
use serde::Serialize;

use super::copies::{Copies, Counted};
use super::interrupt::Stop;
use super::judge::Counts;
use super::machine::{Gpus, Load, Look, Memory};
use super::saturation::MEMORY;
use super::subject::Subject;
use super::table;
use super::whole::{Rig, healthy};
use crate::publish::messages::{OutputState, StreamState};

/// How often the streams are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long streams may take to start.
const START: Duration = Duration::from_secs(30);
/// All streams are started within so long.
const STAGGER: Duration = Duration::from_secs(1);

/// What so many streams did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// How many.
    pub streams: usize,
    /// Whether the box holds them.
    pub held: bool,
    /// Why not.
    pub why: Option<String>,
    /// What an encoder said that was refused.
    pub refused: Option<String>,
    /// What the streams did.
    pub counts: Counts,
    /// What the machine did.
    pub load: Load,
    /// CPU milliseconds a frame, over all threads and streams.
    pub cpu_ms: f64,
    /// Copies between host and GPU a frame, by the lane's own counters; nothing on the CPU.
    #[serde(skip_serializing_if = "Copies::is_empty")]
    pub copies: Copies,
}

/// Runs steps.
pub(super) struct Runner<'a> {
    pub(super) rig: Rig,
    pub(super) subject: &'a Subject,
    pub(super) seconds: f64,
    pub(super) stop: &'a Stop,
    pub(super) gpus: Gpus,
    /// Steps so far.
    pub(super) number: usize,
}

/// Counters of all streams at one time.
struct Seen {
    at: Instant,
    frames: Vec<u64>,
    skipped: u64,
    dropped: u64,
    not_encoded: u64,
    /// How many frames' latencies, and their sum in seconds.
    latency: (u64, f64),
    inferring: f64,
    copied: Counted,
}

impl Runner<'_> {
    /// So many streams at once.
    pub(super) fn step(&mut self, streams: usize, bar: &ProgressBar) -> anyhow::Result<Step> {
        self.number += 1;
        let names: Vec<String> =
            (1..=streams).map(|stream| format!("s{}-{stream:03}", self.number)).collect();
        let step = self.run(&names, bar);
        self.rig.run(Default::default());
        // What this step's outputs wrote.
        let _ = std::fs::remove_dir_all(self.subject.folder().join("streams"));
        step
    }

    fn run(&mut self, names: &[String], bar: &ProgressBar) -> anyhow::Result<Step> {
        bar.set_message(format!("{}: starting", table::count(names.len())));
        if let Some(why) = self.start(names)? {
            if names.len() == 1 {
                bail!("one stream alone does not run: {why}");
            }
            return Ok(self.failed(names, why));
        }
        let settle = Duration::from_secs_f64((self.seconds / 4.0).clamp(0.5, 2.0));
        let over = self.watch(settle, bar)?;
        bar.set_message(format!("{}: measuring", table::count(names.len())));
        self.gpus.take();
        let (look, first) = (Look::now(), self.seen(names));
        let half = Duration::from_secs_f64(self.seconds / 2.0);
        let over = if over.is_some() { over } else { self.watch(half, bar)? };
        let middle = self.seen(names);
        let over = if over.is_some() { over } else { self.watch(half, bar)? };
        let (last, mut load) = (self.seen(names), look.load());
        let counts = between(self.subject.video.rate, &first, &middle, &last);
        load.model = (last.inferring - first.inferring) / counts.seconds.max(1e-3);
        load.gpus = self.gpus.take();
        let why = over.or_else(|| self.wrong(names)).or_else(|| counts.judge());
        if let (1, Some(error)) = (names.len(), self.wrong(names)) {
            bail!("one stream alone does not run: {error}");
        }
        let refused = self.refused();
        let done = counts.frames.iter().sum::<u64>().max(1);
        let cpu_ms = load.busy_cores * counts.seconds * 1e3 / done as f64;
        let copies = last.copied.since(&first.copied, done);
        Ok(Step { streams: names.len(), held: why.is_none(), why, refused, counts, load, cpu_ms, copies })
    }

    /// Starts them; what stood in the way.
    fn start(&mut self, names: &[String]) -> anyhow::Result<Option<String>> {
        let pause = (STAGGER / names.len() as u32).min(STAGGER / 4);
        for name in names {
            let out = self.subject.folder().join("streams").join(format!("{name}.mp4"));
            let stream = self.subject.stream(true, self.subject.encode.then_some(out))?;
            self.rig.run([(name.clone(), stream)].into());
            self.stop.wait(pause)?;
        }
        let until = Instant::now() + START;
        loop {
            let report = self.rig.report();
            let running = report.values().filter(|it| it.status.state == StreamState::Running).count();
            if running == names.len() {
                return Ok(None);
            }
            if let Some(why) = self.wrong(names).or_else(short_of_memory) {
                return Ok(Some(why));
            }
            if Instant::now() > until {
                let (all, seconds) = (names.len(), START.as_secs());
                return Ok(Some(format!("{running} of {all} streams started within {seconds} s")));
            }
            self.stop.wait(LOOK)?;
        }
    }

    /// Waits, with a look at what must not run out; that it did.
    fn watch(&mut self, time: Duration, bar: &ProgressBar) -> anyhow::Result<Option<String>> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.stop.wait(LOOK.min(until.saturating_duration_since(Instant::now())))?;
            self.gpus.sample();
            bar.tick();
            if let Some(why) = short_of_memory() {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// The first stream that fails.
    fn wrong(&self, names: &[String]) -> Option<String> {
        let report = self.rig.report();
        names.iter().find_map(|name| match report.get(name) {
            Some(report) => healthy(report).err().map(|error| format!("stream {name}: {error}")),
            None => Some(format!("stream {name} is gone")),
        })
    }

    /// What an output says that cannot encode.
    fn refused(&self) -> Option<String> {
        let report = self.rig.report();
        let mut outputs = report.values().flat_map(|report| &report.status.outputs);
        let refused = outputs.find(|it| matches!(it.state, OutputState::Failed | OutputState::Down))?;
        Some(refused.error.clone().unwrap_or_default())
    }

    fn failed(&self, names: &[String], why: String) -> Step {
        let load = Look::now().load();
        let (counts, refused) = (Counts::default(), self.refused());
        let (cpu_ms, copies) = (0.0, Copies::new());
        Step { streams: names.len(), held: false, why: Some(why), refused, counts, load, cpu_ms, copies }
    }

    fn seen(&self, names: &[String]) -> Seen {
        let sum = |counter: &str| names.iter().map(|name| self.rig.counted(counter, name)).sum();
        let latencies = names.iter().map(|name| self.rig.latency(name));
        Seen {
            at: Instant::now(),
            frames: names.iter().map(|name| self.rig.counted("stream_frames_total", name)).collect(),
            skipped: sum("stream_inference_skipped_total"),
            dropped: sum("stream_frames_dropped_total"),
            not_encoded: self.rig.report().values().map(|report| report.not_encoded).sum(),
            latency: latencies.fold((0, 0.0), |all, seen| (all.0 + seen.count, all.1 + seen.sum)),
            inferring: self.rig.inferring(),
            copied: self.rig.copied(),
        }
    }
}

fn short_of_memory() -> Option<String> {
    let share = Memory::now().share();
    (share >= MEMORY).then(|| format!("{:.0} % of the memory are in use", share * 100.0))
}

fn between(rate: f64, first: &Seen, middle: &Seen, last: &Seen) -> Counts {
    let latency = |from: &Seen, to: &Seen| {
        (to.latency.1 - from.latency.1) / to.latency.0.saturating_sub(from.latency.0).max(1) as f64 * 1e3
    };
    Counts {
        rate,
        seconds: last.at.duration_since(first.at).as_secs_f64(),
        frames: last.frames.iter().zip(&first.frames).map(|(last, first)| last - first).collect(),
        skipped: last.skipped - first.skipped,
        dropped: last.dropped - first.dropped,
        not_encoded: last.not_encoded.saturating_sub(first.not_encoded),
        latency_ms: (latency(first, middle), latency(middle, last)),
    }
}
