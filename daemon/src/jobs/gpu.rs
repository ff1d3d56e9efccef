//! `watchpost gpu check`: whether this box's GPU gives what its CPU gives, and gives back what it takes.
//!
//! In: a GPU's index; videos and a model, where the whole lane is to be tried. Out: a line for each part, or JSON; what
//! cannot be tried here (no NVDEC, no NVENC, no provider) is named as untried. Nothing of it touches a running daemon:
//! daemons of its own run in folders of its own. Exit status 1 where a part is wrong; figures are told, not judged.

mod lanes;
mod model;
mod speed;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::encode::{CudaEncoding, VideoCodec};
use crate::gpu::{Device, probe};
use crate::jobs::bench::throughput::Order;
use crate::pipeline::lane::CudaShared;
use crate::pipeline::lane::check::{self, Finding};
use crate::telemetry::Registry;

/// `watchpost gpu check`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Without videos only the kernels and NVENC are checked. With a model also what ONNX Runtime is bound to, and its order with \
kernels. With videos too a daemon of its own runs each on the CPU lane and on the CUDA lane, frame by frame the same, and \
starts and stops a stream a hundred times; with --streams as many as that run as fast as they can, beside decoding alone \
and inference alone.")]
pub struct CheckArgs {
    /// Index of the GPU, counted from 0.
    #[arg(long, default_value_t = 0)]
    pub gpu: u32,
    /// A video for both lanes; may be given several times.
    #[arg(long, requires = "model")]
    pub video: Vec<PathBuf>,
    /// Folder of the model that looks at the videos.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Starts and stops of a stream.
    #[arg(long, default_value_t = 100)]
    pub rounds: u32,
    /// Measure 1, 2, 4, ... streams of the first video at full speed, up to so many.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "video")]
    pub streams: usize,
    /// Frames in one run of the model at most, for that.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub batch: usize,
    /// Seconds for each of its figures.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub seconds: f64,
    /// Write the JSON into this file too.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Not so.
    Wrong,
    /// It could not be tried here.
    Untried,
}

/// One part of the check.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// What was tried.
    pub part: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// The same as numbers, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<serde_json::Value>,
}

impl Part {
    fn new(part: impl Into<String>, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { part: part.into(), outcome, found: found.into(), figures: None }
    }
}

/// A comparison as a part: `cases` of it, of which some `differ`.
fn compared(finding: Finding, cases: &str, differ: &str) -> Part {
    let outcome = if finding.is_good() { Outcome::Good } else { Outcome::Wrong };
    let found = match finding.error {
        Some(error) => error,
        None => format!("{} {cases}, {} {differ}", finding.cases, finding.different),
    };
    Part::new(finding.name, outcome, found)
}

/// Checks a GPU. `library`: `infer.library`, so that models run on the ONNX Runtime that the daemon has.
///
/// # Errors
/// Where there is no driver or no such GPU, or a part is wrong.
pub fn run(arguments: &CheckArgs, library: Option<PathBuf>) -> anyhow::Result<()> {
    let driver = probe()?;
    let gpu = driver.gpus.iter().find(|gpu| gpu.index == arguments.gpu);
    let gpu = gpu.ok_or_else(|| {
        anyhow::anyhow!("there is no GPU {}; the driver has {}", arguments.gpu, driver.gpus.len())
    })?;
    let mut parts = Vec::new();
    let mut add = |part: Part| {
        if !arguments.json {
            let word = match part.outcome {
                Outcome::Good => "ok",
                Outcome::Wrong => "WRONG",
                Outcome::Untried => "untried",
            };
            println!("{word:8} {:42} {}", part.part, part.found);
        }
        parts.push(part);
    };
    let module = driver.module.as_deref().unwrap_or("unknown");
    let (major, minor) = gpu.compute;
    add(Part::new(
        "driver",
        Outcome::Good,
        format!(
            "{}, compute capability {major}.{minor}, driver {module}, CUDA {}.{}",
            gpu.name,
            driver.cuda / 1000,
            driver.cuda % 1000 / 10
        ),
    ));
    {
        let shared = CudaShared::new(Device::open(arguments.gpu)?, &Registry::new());
        for finding in check::check(&shared) {
            add(compared(finding, "cases", "elements differ from the CPU lane"));
        }
        gstreamer(&shared, &mut add);
        match &arguments.model {
            Some(model) => model::providers(&shared, library.as_deref(), model, &mut add),
            None => add(Part::new("model", Outcome::Untried, "no --model was given")),
        }
    }
    if let Some(model) = &arguments.model {
        let subject = lanes::Subject { gpu: arguments.gpu, model: model.clone(), library };
        for video in &arguments.video {
            lanes::same(&subject, video, &mut add);
        }
        if let Some(video) = arguments.video.first() {
            lanes::restarts(&subject, video, arguments.rounds, &mut add);
            if arguments.streams > 0 {
                let (gpu, batch, seconds) = (arguments.gpu, arguments.batch, arguments.seconds);
                let library = subject.library.as_deref();
                let order = Order { gpu, library, video, model, batch, seconds };
                speed::measure(&order, arguments.streams, &mut add);
            } else {
                add(Part::new("throughput", Outcome::Untried, "no --streams were given"));
            }
        }
    }
    if arguments.video.is_empty() {
        add(Part::new("whole lane", Outcome::Untried, "no --video and --model were given"));
    }
    let wrong = parts.iter().filter(|part| part.outcome == Outcome::Wrong).count();
    let report = serde_json::json!({ "schema": "watchpost.gpu-check/1", "gpu": gpu, "parts": parts });
    if let Some(file) = &arguments.report {
        std::fs::write(file, format!("{report}\n")).with_context(|| format!("writing {}", file.display()))?;
    }
    if arguments.json {
        println!("{report}");
    }
    ensure!(wrong == 0, "{wrong} of {} parts are wrong", parts.len());
    Ok(())
}

/// Whether GStreamer uses the daemon's own context, and which codecs NVENC encodes from it.
fn gstreamer(shared: &CudaShared, add: &mut impl FnMut(Part)) {
    let part = "one context with GStreamer";
    let codecs = [VideoCodec::H264, VideoCodec::H265, VideoCodec::Av1];
    let Some(context) = shared.gstreamer() else {
        let why = shared.device.gstreamer().err().map_or_else(String::new, |why| why.to_string());
        add(Part::new(part, Outcome::Untried, why.clone()));
        for codec in codecs {
            add(Part::new(format!("NVENC {codec}"), Outcome::Untried, why.clone()));
        }
        return;
    };
    let same = context.handle() == shared.device.context() as u64;
    let (outcome, found) =
        if same { (Outcome::Good, "the same") } else { (Outcome::Wrong, "it has one of its own") };
    add(Part::new(part, outcome, found));
    let encoding = CudaEncoding::new(context.clone());
    for codec in codecs {
        let (outcome, found) = match encoding.try_codec(codec) {
            Ok(element) => (Outcome::Good, format!("{element} encodes from video memory")),
            Err(why) => (Outcome::Untried, why),
        };
        add(Part::new(format!("NVENC {codec}"), outcome, found));
    }
}
