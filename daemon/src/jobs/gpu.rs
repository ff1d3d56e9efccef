//! `watchpost gpu check`: whether this box's GPU gives what its CPU gives, and gives back what it takes.
//!
//! In: a GPU's index; videos and a model, where the whole lane is to be tried. Out: a line for each part, or JSON; what
//! cannot be tried here (no NVDEC, no provider) is named as untried. Nothing of it touches a running daemon: daemons of
//! its own run in folders of its own. Exit status 1 where a part is wrong.

mod lanes;

use std::path::PathBuf;

use anyhow::ensure;
use serde::Serialize;

use crate::gpu::{Device, probe};
use crate::pipeline::lane::{CudaShared, check};
use crate::telemetry::Registry;

/// `watchpost gpu check`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Without videos only the kernels are checked. With them, and a model, a daemon of its own runs each video on the CPU lane \
and on the CUDA lane, frame by frame the same; and starts and stops a stream a hundred times.")]
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
}

impl Part {
    fn new(part: impl Into<String>, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { part: part.into(), outcome, found: found.into() }
    }
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
            println!("{word:8} {:34} {}", part.part, part.found);
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
            let outcome = if finding.is_good() { Outcome::Good } else { Outcome::Wrong };
            let found = match &finding.error {
                Some(error) => error.clone(),
                None => format!(
                    "{} cases, {} elements differ from the CPU lane",
                    finding.cases, finding.different
                ),
            };
            add(Part::new(finding.name, outcome, found));
        }
    }
    if let Some(model) = &arguments.model {
        let subject = lanes::Subject { gpu: arguments.gpu, model: model.clone(), library };
        for video in &arguments.video {
            lanes::same(&subject, video, &mut add);
        }
        if let Some(video) = arguments.video.first() {
            lanes::restarts(&subject, video, arguments.rounds, &mut add);
        }
    } else {
        add(Part::new("whole lane", Outcome::Untried, "no --video and --model were given"));
    }
    let wrong = parts.iter().filter(|part| part.outcome == Outcome::Wrong).count();
    if arguments.json {
        println!("{}", serde_json::json!({ "schema": "watchpost.gpu-check/1", "gpu": gpu, "parts": parts }));
    }
    ensure!(wrong == 0, "{wrong} of {} parts are wrong", parts.len());
    Ok(())
}
