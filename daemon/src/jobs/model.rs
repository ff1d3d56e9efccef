//! `watchpost model check`: what a model folder holds, and what the model sees in a picture or video.
//!
//! In: a folder with `model.toml`, optionally a file to look at. Out: a description, results as text or JSON on
//! stdout, and PNG files with what was found drawn in. Owns the session and the decoding pipeline; whatever is
//! wrong with the folder, the graph or the file comes back as an error that names it.

pub mod engines;
mod media;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::config::Manifest;
use crate::config::manifest::{Activation, Decoder as Outputs, Domain};
use crate::flow::{Objects, Picture, Rect, Score, Tensor};
use crate::infer::{Head, ModelDir, Runtime, Session, SessionOptions, WindowBuilder, gather};
use crate::postprocess::{Decoder, ModelInfo};
use crate::preprocess::Preprocessor;
use crate::render::{BoxMark, Overlay, Renderer};

use media::Frames;
use report::{FrameReport, Report};

/// Arguments of `watchpost model check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Folder with model.toml
    pub folder: PathBuf,
    /// Picture (PNG, JPEG) or video to look at
    #[arg(long, value_name = "FILE")]
    pub on: Option<PathBuf>,
    /// Draw what was found into this PNG; with several frames, their numbers are added to its name
    #[arg(long, value_name = "FILE", requires = "on")]
    pub out: Option<PathBuf>,
    /// Of a video, look at every N-th frame (a clip model looks at those of its window)
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub every: u64,
    /// Of a video, look at so many frames or windows at most
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub frames: usize,
    /// Threshold in place of the manifest's
    #[arg(long, value_name = "0..1")]
    pub threshold: Option<f32>,
    /// Threads within a run; 0: half the processors
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// libonnxruntime.so to use; default: as the daemon finds it
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Checks a model folder and prints what it is and what it sees.
///
/// # Errors
/// Where ONNX Runtime, the folder, the graph or the file to look at cannot be loaded, where the graph does not fit
/// the manifest, or where a PNG cannot be written.
pub fn check(args: &CheckArgs) -> anyhow::Result<()> {
    if let Some(threshold) = args.threshold {
        ensure!((0.0..=1.0).contains(&threshold), "--threshold: {threshold} given; expected 0 to 1");
    }
    ensure!(args.every >= 1 && args.frames >= 1, "--every and --frames: expected at least 1");
    let runtime = Runtime::load(args.library.as_deref())?;
    let mut model = Model::open(&runtime, args)?;
    let mut report = model.describe(&runtime)?;
    if let Some(file) = &args.on {
        if model.manifest.domain == Domain::Rendered {
            let warning = "trained on rendered scenes only: what it says of other pictures means little";
            report.warnings.push(warning.to_owned());
        }
        report.frames = model.look(file, args)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// A model with everything a frame visits on its way to results.
struct Model {
    name: String,
    hash: String,
    manifest: Manifest,
    /// The model, or the backbone of a two-stage clip model.
    session: Session,
    head: Option<Head<Tensor>>,
    preprocessor: Preprocessor,
    decoder: Decoder,
    tensor: Tensor,
    /// A window of tensors, put together.
    window: Tensor,
}

impl Model {
    fn open(runtime: &Runtime, args: &CheckArgs) -> anyhow::Result<Self> {
        let folder = &args.folder;
        let model = ModelDir::open(folder)?;
        let options = SessionOptions { threads: args.threads, batch: 1 };
        let session = Session::open(runtime, &model, options)?;
        let head = Head::open(runtime, &model, &session, options)?;
        let last = head.as_ref().map_or(&session, Head::session);
        let decoder = Decoder::new(&ModelInfo {
            decoder: &model.manifest.output,
            labels: session.labels(),
            keep: &model.manifest.keep,
            input: session.input().size,
            names: last.output_names(),
            outputs: last.outputs(),
            threshold: args.threshold,
        })
        .with_context(|| format!("model {}", model.onnx.display()))?;
        let input = session.input();
        let preprocessor = Preprocessor::new(&model.manifest.input, input.size, input.element)?;
        let (tensor, window) = (Tensor::default(), Tensor::default());
        let (name, hash) = (model.name(), model.hash);
        let manifest = model.manifest;
        Ok(Self { name, hash, manifest, session, head, preprocessor, decoder, tensor, window })
    }

    /// What it is, and how long a run of one entry takes (the median of ten).
    fn describe(&mut self, runtime: &Runtime) -> anyhow::Result<Report> {
        let input = self.session.input().clone();
        let milliseconds = run_time(&mut self.session)?;
        let last = self.head.as_ref().map_or(&self.session, Head::session);
        let outputs = last.output_names().iter().zip(last.outputs());
        let head = self.head.as_ref().map(Head::session).map(|head| {
            let (input, output) = (head.input(), self.manifest.head.as_ref());
            let features = output.and_then(|head| head.features.as_deref());
            report::describe_head(input, features.unwrap_or(&self.session.output_names()[0]))
        });
        Ok(Report {
            head,
            model: self.name.clone(),
            summary: self.manifest.summary.clone(),
            hash: self.hash.clone(),
            task: report::word(&self.manifest.task),
            domain: report::word(&self.manifest.domain),
            decoder: self.decoder.describe().to_owned(),
            labels: self.session.labels().to_vec(),
            input: report::describe_input(&input, &self.manifest),
            outputs: outputs.map(|(name, output)| format!("`{name}` {:?}", output.shape)).collect(),
            window: self.manifest.window,
            runtime: format!("ONNX Runtime {} on the CPU ({})", runtime.version(), runtime.place()),
            threads: self.session.threads(),
            milliseconds,
            warnings: self.doubts(),
            frames: Vec::new(),
        })
    }

    /// What looks wrong, though it runs.
    fn doubts(&self) -> Vec<String> {
        let softmax = Outputs::Classes { activation: Activation::Softmax };
        let last = self.head.as_ref().map_or(&self.session, Head::session);
        let values = last.outputs().first().and_then(Tensor::as_f32).unwrap_or_default();
        let classes = self.session.labels().len();
        let one = values.get(..classes).unwrap_or_default();
        let sum: f32 = one.iter().sum();
        if self.manifest.output == softmax
            && classes > 1
            && one.iter().all(|v| *v >= 0.0)
            && (sum - 1.0).abs() < 1e-2
        {
            let doubt = "the output is probabilities already; `output.activation` should be \"none\"";
            return vec![doubt.to_owned()];
        }
        Vec::new()
    }

    /// Runs it on a picture or video; draws what it finds.
    fn look(&mut self, file: &Path, args: &CheckArgs) -> anyhow::Result<Vec<FrameReport>> {
        let mut reports = Vec::new();
        let mut windows = self.manifest.window.map(WindowBuilder::new);
        let mut frames = Frames::open(file)?;
        let mut index = 0;
        let mut drawn = Drawing::new(args.out.as_deref());
        while let Some((pts, picture)) = frames.next_frame()? {
            let found = match &mut windows {
                None if index % args.every == 0 => Some(self.see(&picture, pts)?),
                None => None,
                Some(windows) => self.watch(&picture, pts, windows)?,
            };
            if let Some(found) = found {
                let mut report = FrameReport::new(index, pts, &found, self.session.labels());
                report.picture = drawn.draw(&picture, index, &found, self.session.labels())?;
                reports.push(report);
            }
            index += 1;
            if reports.len() >= args.frames {
                break;
            }
        }
        drawn.name_the_only_one(&mut reports)?;
        ensure!(index > 0, "{}: holds no frame", file.display());
        if let (Some(window), true) = (self.manifest.window, reports.is_empty()) {
            let seconds = window.frames as f64 / window.fps;
            anyhow::bail!("{}: shorter than the model's window of {seconds:.1} s", file.display());
        }
        Ok(reports)
    }

    /// One frame through a detector or classifier.
    fn see(&mut self, picture: &Picture, pts: u64) -> anyhow::Result<Found> {
        let begin = Instant::now();
        let rect = Rect::of_size(picture.size);
        let letterbox = self.preprocessor.letterbox(picture.size, &rect)?;
        self.preprocessor.run(picture, &[rect], &mut self.tensor)?;
        let outputs = self.session.run(&self.tensor)?;
        let mut found = Found::default();
        self.decoder.objects(outputs, 0, &letterbox, 0, &mut found.objects);
        self.decoder.scores(outputs, 0, 0, pts, pts, &mut found.scores);
        found.took = begin.elapsed();
        Ok(found)
    }

    /// One frame of a clip model; results where it completes a window.
    fn watch(
        &mut self,
        picture: &Picture,
        pts: u64,
        windows: &mut WindowBuilder<Tensor>,
    ) -> anyhow::Result<Option<Found>> {
        if !windows.wants(pts) {
            return Ok(None);
        }
        let begin = Instant::now();
        self.preprocessor.run(picture, &[Rect::of_size(picture.size)], &mut self.tensor)?;
        let Some(window) = windows.push(pts, self.tensor.clone()) else { return Ok(None) };
        let outputs = match &mut self.head {
            None => {
                let frames = window.frames.iter().map(|frame| &***frame).collect();
                gather(&[frames], self.manifest.input.layout, &mut self.window);
                self.session.run(&self.window)?
            }
            Some(head) => {
                for frame in head.wanting([window.frames.as_slice()]) {
                    let outputs = self.session.run(&frame)?;
                    head.keep(std::slice::from_ref(&frame), outputs)?;
                }
                head.run(&[&window.frames])?
            }
        };
        let mut found = Found::default();
        self.decoder.scores(outputs, 0, 0, window.begin, window.end, &mut found.scores);
        found.took = begin.elapsed();
        Ok(Some(found))
    }
}

/// Milliseconds of a run with one entry: the median of ten.
fn run_time(session: &mut Session) -> anyhow::Result<f64> {
    let input = session.input();
    let zeros = Tensor::zeros(input.element, &input.shape(1));
    let mut times = Vec::new();
    for _ in 0..10 {
        let begin = Instant::now();
        session.run(&zeros)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e3)
}

/// What one run gave.
#[derive(Debug, Default)]
struct Found {
    objects: Objects,
    scores: Vec<Score>,
    took: Duration,
}

impl Found {
    /// The strongest scores, at most five.
    fn strongest(&self) -> Vec<&Score> {
        let mut scores: Vec<&Score> = self.scores.iter().collect();
        scores.sort_by(|a, b| b.value.total_cmp(&a.value));
        scores.truncate(5);
        scores
    }
}

/// Writes pictures with what was found.
struct Drawing<'a> {
    out: Option<&'a Path>,
    files: Vec<PathBuf>,
}

impl<'a> Drawing<'a> {
    fn new(out: Option<&'a Path>) -> Self {
        Self { out, files: Vec::new() }
    }

    fn draw(
        &mut self,
        picture: &Picture,
        index: u64,
        found: &Found,
        labels: &[String],
    ) -> anyhow::Result<Option<PathBuf>> {
        let Some(out) = self.out else { return Ok(None) };
        let name = |class: u32| labels.get(class as usize).map_or("?", String::as_str);
        let objects = &found.objects;
        let boxes = (0..objects.len()).rev().map(|i| {
            let class = objects.classes[i];
            BoxMark::object(objects.bounds[i], name(class), class, objects.scores[i], 0)
        });
        let caption =
            found.strongest().first().map(|score| format!("{} {:.2}", name(score.class), score.value));
        let overlay = Overlay { boxes: boxes.collect(), caption, ..Overlay::default() };
        let drawn = Renderer::new(picture.size).render(picture, Rect::of_size(picture.size), Some(&overlay));
        let stem = out.file_stem().unwrap_or_default().to_string_lossy();
        let file = out.with_file_name(format!("{stem}-{index:06}.png"));
        media::write_png(&drawn, &file)?;
        self.files.push(file.clone());
        Ok(Some(file))
    }

    /// A single picture gets the very name that was asked for.
    fn name_the_only_one(&self, reports: &mut [FrameReport]) -> anyhow::Result<()> {
        if let (Some(out), [file], [report]) = (self.out, self.files.as_slice(), reports) {
            std::fs::rename(file, out).with_context(|| format!("cannot write {}", out.display()))?;
            report.picture = Some(out.to_path_buf());
        }
        Ok(())
    }
}
