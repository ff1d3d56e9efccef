//! `watchpost bench streams`: how many streams of a kind this box can hold at their own pace, and what is full first.
//!
//! In: a video or a scene, a model. Out: a table or JSON: the largest number that was held, the smallest that was not and
//! why, what was full there, and every step on the way. One that was not held is tried once more, unless it was far off:
//! a hiccup of the machine is no limit. Streams play files as if they were live. Owns what it opens. A wrong video or
//! model is an error.

use anyhow::Context;
use serde::Serialize;

use super::backend::{self, Kind};
use super::interrupt::{Interrupt, Stop};
use super::machine::Gpus;
use super::saturation::{Saturated, saturated};
use super::search::search;
use super::step::{Runner, Step};
use super::subject::{self, Subject, SubjectArgs};
use super::table;
use super::video::Video;
use super::whole::Rig;

/// Seconds of a step beside those that are measured: start and settling.
const AROUND: f64 = 5.0;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct StreamsArgs {
    /// What runs on each stream.
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Seconds for which each number of streams is judged
    #[arg(long, value_name = "N", default_value = "8", value_parser = subject::seconds)]
    pub seconds: f64,
    /// Most streams to try
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    pub most: usize,
}

/// What one backend gave.
#[derive(Serialize)]
pub struct Held {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// What it is, or why it is not there.
    pub about: String,
    /// The most streams that were held; nothing where it is not there.
    pub streams: Option<usize>,
    /// What was full with one more; nothing where the most that were to be tried were held.
    pub saturated: Option<Saturated>,
    /// The step with the most streams that were held.
    pub last_good: Option<Step>,
    /// The step with the fewest that were not.
    pub first_bad: Option<Step>,
    /// All steps, in the order in which they were tried.
    pub steps: Vec<Step>,
}

/// All that is reported.
#[derive(Serialize)]
pub struct StreamsReport<'a> {
    /// Name and version of this report.
    pub schema: &'static str,
    /// The video.
    pub video: &'a Video,
    /// The model.
    pub model: &'a str,
    /// Plugins that ran on each stream.
    pub plugins: &'a [String],
    /// Whether each stream was encoded.
    pub encode: bool,
    /// The most streams that were to be tried.
    pub most: usize,
    /// Each backend.
    pub backends: Vec<Held>,
}

/// Searches and prints.
///
/// # Errors
/// Where the video, the model or a plugin cannot be used, a backend that is wanted is absent, one stream alone does not
/// run, or on Ctrl-C.
pub fn run(args: &StreamsArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::new()?;
    let stop = interrupt.stop();
    super::quiet();
    let found = backend::find(&args.subject.backends, args.subject.gpu)?;
    let needed = |rate: f64| ((args.seconds + AROUND) * rate).ceil() as u64;
    let subject = Subject::prepare(&args.subject, needed, &stop)?;
    let mut backends = Vec::new();
    for (kind, state) in found {
        let mut held = Held {
            name: kind.name(),
            present: state.is_ok(),
            about: state.unwrap_or_else(|why| why),
            streams: None,
            saturated: None,
            last_good: None,
            first_bad: None,
            steps: Vec::new(),
        };
        if held.present {
            measure(&mut held, kind, &subject, args, &stop)?;
        }
        backends.push(held);
    }
    let report = StreamsReport {
        schema: "watchpost.bench.streams/1",
        video: &subject.video,
        model: &subject.model,
        plugins: subject.plugins(),
        encode: subject.encode,
        most: args.most,
        backends,
    };
    if args.subject.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table::streams(&report));
    }
    Ok(())
}

fn measure(
    held: &mut Held,
    kind: Kind,
    subject: &Subject,
    args: &StreamsArgs,
    stop: &Stop,
) -> anyhow::Result<()> {
    let mut runner = Runner {
        rig: Rig::start(subject, kind)?,
        subject,
        seconds: args.seconds,
        stop,
        gpus: Gpus::new(kind == Kind::Cuda),
        number: 0,
    };
    let bar = subject::spinner();
    let steps = &mut held.steps;
    let found = search(args.most, |streams| {
        let mut step = runner.step(streams, &bar)?;
        bar.suspend(|| eprintln!("{}: {}", kind.name(), table::step(&step)));
        if !step.held && !step.counts.hopeless() && step.refused.is_none() {
            steps.push(step);
            step = runner.step(streams, &bar)?;
            bar.suspend(|| eprintln!("{}: again {}", kind.name(), table::step(&step)));
        }
        let held = step.held;
        steps.push(step);
        anyhow::Ok(held)
    })?;
    bar.finish_and_clear();
    let of = |streams: usize| held.steps.iter().rfind(|step| step.streams == streams).cloned();
    held.streams = Some(found.good);
    held.last_good = of(found.good);
    if let Some(bad) = found.bad {
        let step = of(bad).context("a step that was just made")?;
        held.saturated = Some(saturated(&step.load, step.refused.as_deref()));
        held.first_bad = Some(step);
    }
    Ok(())
}
