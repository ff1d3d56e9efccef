//! The CPU lane: what the daemon spends on a frame over the floor of decoding and inference alone.
//!
//! In: the shared videos and a model: the shared `yolox_nano_416`, or a small one written here. Out: a line for each
//! video. No outputs, no plugins, no broker, one thread a model, every frame. Floor and daemon take turns. Videos of
//! many frames are cut. Nothing where the shared data is absent, said aloud.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::data::data;
use e2e::frames::Frames;
use e2e::models::shared_model;
use watchpost::flow::{ElementType, Picture, Rect, Size, Tensor};
use watchpost::infer::ModelDir;
use watchpost::preprocess::Preprocessor;

use crate::figures::{line, process_cpu};
use crate::floor::{cut, decode, together};
use crate::inference::Inference;
use crate::small;
use crate::whole::{Spent, a_frame, daemon};

/// Floor and daemon take so many turns; the turn with the middle ratio counts.
const ROUNDS: usize = 3;
/// Frames of the beginning that is taken off.
const BEGINNING: u64 = 40;
/// How long inference alone runs in each turn, before and after the daemon.
const RUNS: Duration = Duration::from_millis(400);

/// A model to run.
struct Model {
    what: String,
    folder: PathBuf,
    graph: PathBuf,
    input: Size,
    budget: f64,
    /// Frames of a video at most.
    frames: u64,
}

/// With yolox_nano_416.
pub fn measure() -> anyhow::Result<()> {
    let Some(data) = data("the CPU lane with yolox_nano_416") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let model = shared_model(&data, "yolox_nano_416", folder.path());
    let graph = model.join("yolox_nano_416.onnx");
    let what = "yolox_nano_416".into();
    videos(
        &data,
        &Model { what, folder: model, graph, input: Size::new(416, 416), budget: 1.05, frames: 240 },
    )
}

/// With a model of about a millisecond, so that the pipeline around it shows.
pub fn measure_small() -> anyhow::Result<()> {
    let Some(data) = data("the CPU lane with a 1 ms model") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (graph, seconds) = small::write(folder.path())?;
    let side = small::SIDE as u32;
    let what = format!("a {:.2} ms model of {side}x{side}", seconds * 1e3);
    videos(
        &data,
        &Model {
            what,
            folder: folder.path().to_owned(),
            graph,
            input: Size::new(side, side),
            budget: 1.25,
            frames: 600,
        },
    )
}

fn videos(data: &Path, model: &Model) -> anyhow::Result<()> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data.join("videos"))?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "mp4"));
    files.sort();
    ensure!(!files.is_empty(), "no videos");
    println!(
        "CPU lane, {}, at most {} frames each, over decoding plus inference alone:",
        model.what, model.frames
    );
    let mut inference = Inference::open(&model.graph)?;
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        video(&name, &file, model, &mut inference).with_context(|| name.clone())?;
    }
    Ok(())
}

fn video(name: &str, file: &Path, model: &Model, inference: &mut Inference) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (short, beginning) = (folder.path().join("short.mp4"), folder.path().join("beginning.mp4"));
    cut(file, &short, model.frames)?;
    cut(file, &beginning, BEGINNING)?;
    let picture = Frames::open(&short).next().context("no frame")?;
    let mut rounds = Vec::new();
    let mut frames = 0;
    for _ in 0..ROUNDS {
        let (count, before) = decode(&short)?;
        let (tensor, preprocess) = preprocess(&picture, model)?;
        let run_before = inference.seconds(&tensor, RUNS)?;
        let (first, begun) = decode(&beginning)?;
        ensure!(count > first, "a video of {count} frames: the beginning of {first} is all of it");
        let rest = count - first;
        let daemon_begun = daemon(&beginning, &model.folder, folder.path(), first)?;
        let daemon = daemon(&short, &model.folder, folder.path(), count)?.a_frame(&daemon_begun, rest);
        let both_begun = together(&beginning, inference, &tensor)?;
        let together = a_frame(together(&short, inference, &tensor)?, both_begun, rest);
        let run_after = inference.seconds(&tensor, RUNS)?;
        let (_, after) = decode(&short)?;
        let decode = a_frame((before + after) / 2.0, begun, rest);
        let inference = (run_before + run_after) / 2.0;
        rounds.push(Round {
            ratio: daemon.all / (decode + inference),
            decode,
            inference,
            preprocess,
            together,
            daemon,
        });
        frames = count;
    }
    // The one in the middle, whole, so that its parts belong to its ratio.
    rounds.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let Round { ratio, decode, inference, preprocess, together, daemon } = rounds.swap_remove(ROUNDS / 2);
    line(&format!("  {name}, {frames} frames"), ratio, model.budget, "x", || {
        let ms = |seconds: f64| seconds * 1e3;
        let rest = daemon.all - daemon.inference - daemon.worker - daemon.reader;
        format!(
            "{:.2} ms a frame over {:.2}. Inference thread {:.2}, alone {:.2}; decoding and all else {:.2}, alone \
             {:.2}; worker {:.2}, of which preprocessing alone {:.2}; reader {:.2}. Decoding and inference in one process, frame by frame, take \
             {:.2}: the daemon is {:.2} x that",
            ms(daemon.all),
            ms(decode + inference),
            ms(daemon.inference),
            ms(inference),
            ms(rest),
            ms(decode),
            ms(daemon.worker),
            ms(preprocess),
            ms(daemon.reader),
            ms(together),
            daemon.all / together
        )
    });
    Ok(())
}

/// A frame as the model's input, and CPU seconds for making it.
fn preprocess(picture: &Picture, model: &Model) -> anyhow::Result<(Tensor, f64)> {
    let manifest = ModelDir::open(&model.folder)?.manifest;
    let mut tensor = Tensor::zeros(ElementType::F32, &[0]);
    let rect = [Rect::of_size(picture.size)];
    let mut preprocessor = Preprocessor::new(&manifest.input, model.input, ElementType::F32)?;
    preprocessor.run(picture, &rect, &mut tensor)?;
    let (begun, runs) = (process_cpu(), 100);
    for _ in 0..runs {
        preprocessor.run(picture, &rect, &mut tensor)?;
    }
    let spent = process_cpu().saturating_sub(begun).as_secs_f64();
    Ok((tensor, spent / f64::from(runs)))
}

/// CPU seconds a frame: the floor's, preprocessing alone, and the daemon's.
struct Round {
    ratio: f64,
    decode: f64,
    inference: f64,
    preprocess: f64,
    /// Decoding and inference in one process, frame by frame.
    together: f64,
    daemon: Spent,
}
