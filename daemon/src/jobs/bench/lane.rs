//! `watchpost bench lane`: what each part of the lane costs alone, and what all of it costs together, over floors of the
//! same run.
//!
//! In: a video or a scene, a model. Out: a table or JSON: frames a second and CPU milliseconds a frame of each part and of
//! its floor. Floor and part take turns in rounds; of each part the round with the middle ratio counts, whole, so that
//! its figures belong together. On a GPU also what each part is done by, and how often the lane copied between host and
//! GPU. Owns what it opens. A wrong video or model is an error; nothing is asserted.

mod figures;

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::backend::{self, Backend, Kind, Part};
use super::copies::Copies;
use super::cost::{Cost, DEPTH, Window};
use super::interrupt::{Interrupt, Stop};
use super::subject::{self, Subject, SubjectArgs};
use super::table;
use super::video::Video;
use super::whole::Rig;
use crate::publish::messages::Edge;
use figures::{Round, row, whole};

pub use figures::{Outcome, Row, Slowest, Sum, Whole};

/// Floor and part take so many turns.
const ROUNDS: usize = 3;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct LaneArgs {
    /// What runs.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Seconds for each part, its floor included
    #[arg(long, value_name = "N", default_value = "6", value_parser = subject::seconds)]
    pub seconds: f64,
    /// Frames of the video's beginning to measure on
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(8..=100_000))]
    pub frames: u64,
}

/// What one backend gave.
#[derive(Serialize)]
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// What it is, or why it is not there.
    pub about: String,
    /// What the whole lane took its pictures in by, inferred with and encoded with, and whether that copies between host
    /// and GPU.
    pub edges: Vec<Edge>,
    /// Each part.
    pub parts: BTreeMap<Part, Outcome>,
    /// The whole lane.
    pub whole: Option<Whole>,
}

/// All that is reported.
#[derive(Serialize)]
pub struct LaneReport<'a> {
    /// Name and version of this report.
    pub schema: &'static str,
    /// The video.
    pub video: &'a Video,
    /// The model.
    pub model: &'a str,
    /// Plugins that ran in the whole lane.
    pub plugins: &'a [String],
    /// Each backend.
    pub backends: Vec<Measured>,
}

/// Measures and prints.
///
/// # Errors
/// Where the video, the model or a plugin cannot be used, a backend that is wanted is absent, or on Ctrl-C.
pub fn run(args: &LaneArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::new()?;
    let stop = interrupt.stop();
    super::quiet();
    let found = backend::find(&args.subject.backends, args.subject.gpu)?;
    // The window leaves out both ends.
    let subject = Subject::prepare(&args.subject, |_| args.frames + 2 * DEPTH, &stop)?;
    let mut backends = Vec::new();
    for (kind, state) in found {
        let present = state.is_ok();
        let mut measured = Measured {
            name: kind.name(),
            present,
            about: state.unwrap_or_else(|why| why),
            edges: Vec::new(),
            parts: BTreeMap::new(),
            whole: None,
        };
        if present {
            measure(&mut measured, kind, &subject, args.seconds, &stop)?;
        }
        backends.push(measured);
    }
    let report = LaneReport {
        schema: "watchpost.bench.lane/1",
        video: &subject.video,
        model: &subject.model,
        plugins: subject.plugins(),
        backends,
    };
    if args.subject.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table::lane(&report));
    }
    Ok(())
}

fn measure(
    measured: &mut Measured,
    kind: Kind,
    subject: &Subject,
    seconds: f64,
    stop: &Stop,
) -> anyhow::Result<()> {
    let mut backend = backend::open(kind, subject, stop)?;
    let mut rig = Rig::start(subject, kind)?;
    let bar = subject::bar((ROUNDS * (Part::ALL.len() + 1)) as u64);
    let time = Duration::from_secs_f64(seconds / (2 * ROUNDS) as f64);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(backend.as_mut(), &mut rig, subject, time, &bar, stop)?);
    }
    bar.finish_and_clear();
    let words = |part| (backend.by(part), backend.floor_is(part), backend.copies(part));
    let outcome = |part| match row(part, &rounds, words(part)) {
        Ok(row) => (part, Outcome::Row(row)),
        Err(error) => (part, Outcome::Failed { error }),
    };
    measured.parts = Part::ALL.into_iter().map(outcome).collect();
    measured.edges = rig.edges().to_vec();
    let mut wholes: Vec<Whole> = rounds.iter().filter_map(|round| whole(round, subject.encode)).collect();
    wholes.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let middle = wholes.len() / 2;
    anyhow::ensure!(middle < wholes.len(), "the whole lane has no floor");
    measured.whole = Some(wholes.swap_remove(middle));
    Ok(())
}

fn round(
    backend: &mut dyn Backend,
    rig: &mut Rig,
    subject: &Subject,
    time: Duration,
    bar: &ProgressBar,
    stop: &Stop,
) -> anyhow::Result<Round> {
    let mut parts = Vec::new();
    for part in Part::ALL {
        bar.set_message(part.name());
        let costs = backend.floor(part, time).and_then(|floor| Ok((floor, backend.part(part, time)?)));
        stop.check()?;
        // A lane without outputs does without an encoder: that it is missing is only said.
        let costs = match costs {
            Err(error) if part == Part::Encode && !subject.encode => Err(format!("{error:#}")),
            costs => Ok(costs.map_err(|error| error.context(part.name()))?),
        };
        parts.push((part, costs));
        bar.inc(1);
    }
    bar.set_message("whole lane");
    let window = Window::of(subject.video.frames);
    let mut all = (Cost::default(), 0, Copies::new());
    while all.0.frames == 0 || all.0.wall < time.as_secs_f64() {
        let out = subject.folder().join("lane");
        // What an earlier pass left.
        let _ = std::fs::remove_dir_all(&out);
        let stream = subject.stream(false, subject.encode.then(|| out.join("lane.mp4")))?;
        let (cost, runs, copies) = rig.pass(stream, window, stop)?;
        all.0 += cost;
        all.1 += runs;
        // Of a frame, and the same in each pass.
        all.2 = copies;
    }
    bar.inc(1);
    Ok(Round { parts, whole: all })
}
