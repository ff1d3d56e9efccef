//! What is measured: a video, a model, what else runs on each stream.
//!
//! In: the arguments that `bench lane` and `bench streams` share. Out: a [`Subject`]: a video file whose size, rate and
//! first pictures are known, and settings with the model in place. A scene is rendered into a temporary folder first,
//! so that what is measured is video, not rendering. The folder goes with the subject. What is wrong with the video or
//! the model is said before anything is measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::backend::Kind;
use super::interrupt::Stop;
use super::video::{self, Video};
use crate::config::Settings;
use crate::config::settings::{Model, ModelUse, PluginUse, Sample, Stream};
use crate::jobs::scene::{ExportOptions, export_until};
use crate::scene::SceneSpec;

/// What is measured where nothing else is said.
const SCENE: &str = "scene://people?seed=1&size=1280x720&fps=25";

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct SubjectArgs {
    /// A video file, or a scene to render first
    #[arg(value_name = "VIDEO", default_value = SCENE)]
    pub video: String,
    /// The model: a folder with model.toml, or its name below the models folders
    #[arg(long, value_name = "NAME|FOLDER", default_value = "people")]
    pub model: String,
    /// Threads within one run of the model; 0: half the processors, as in the daemon
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Frames in one run of the model at most, where it takes more than one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub batch: usize,
    /// Which frames the model sees: every:N or fps:X; default: every frame, a clip model its window's
    #[arg(long, value_name = "RULE")]
    pub sample: Option<Sample>,
    /// A plugin that runs on each stream; several run in the order given
    #[arg(long = "plugin", value_name = "NAME")]
    pub plugins: Vec<String>,
    /// Encode the whole picture of each stream too, into a temporary file
    #[arg(long)]
    pub encode: bool,
    /// Index of the GPU that the CUDA backend uses, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gpu: u32,
    /// `infer.library`, where who measures knows it.
    #[arg(skip)]
    pub library: Option<PathBuf>,
    /// Measure this backend alone, and fail where it is absent; default: all that are present
    #[arg(long = "backend", value_name = "NAME")]
    pub backends: Vec<Kind>,
    /// One JSON object on standard output instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A time in seconds, for arguments.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.1 to 3600".to_owned())
}

/// What is measured.
pub struct Subject {
    /// The video.
    pub video: Video,
    /// Name of the model in the settings.
    pub model: String,
    /// Settings without streams, which the daemon would run with.
    pub settings: Settings,
    sample: Option<Sample>,
    plugins: Vec<String>,
    /// Whether each stream encodes.
    pub encode: bool,
    folder: TempDir,
}

impl Subject {
    /// Makes it ready. `needed` says how many frames of a video with this rate are wanted.
    ///
    /// # Errors
    /// Where the video or the model cannot be used, or the user wants to stop.
    pub fn prepare(args: &SubjectArgs, needed: impl Fn(f64) -> u64, stop: &Stop) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("watchpost-bench-").tempdir()?;
        let (settings, model) = settings(args, folder.path())?;
        // A wrong model is told of before anything is rendered or measured.
        // Its text names its causes.
        crate::pipeline::check_model(&settings, &model).map_err(|error| anyhow::anyhow!("{error}"))?;
        let path = if args.video.starts_with("scene:") {
            let spec = SceneSpec::parse(&args.video)?;
            let frames = needed(spec.fps()).min(spec.frames().unwrap_or(u64::MAX));
            eprintln!("rendering {frames} frames of {}", args.video);
            render(&spec, frames, folder.path(), stop)?
        } else {
            video::file(&args.video)?
        };
        let video = video::look(&args.video, path, needed, stop)?;
        Ok(Self {
            video,
            model,
            settings,
            sample: args.sample,
            plugins: args.plugins.clone(),
            encode: args.encode,
            folder,
        })
    }

    /// A folder for files that may go at any time.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Names of the plugins.
    #[must_use]
    pub fn plugins(&self) -> &[String] {
        &self.plugins
    }

    /// A stream of this kind. `live`: it plays at its own pace and over and over. `out`: where its picture goes.
    ///
    /// # Errors
    /// None that a program can bring about: the stream's defaults are read from the configuration's.
    pub fn stream(&self, live: bool, out: Option<PathBuf>) -> anyhow::Result<Stream> {
        let source = self.video.path.to_str().context("a path that is no text")?;
        let mut stream: Stream = serde_json::from_value(serde_json::json!({ "source": source }))?;
        (stream.loop_, stream.realtime) = (live, live);
        stream.models.insert(self.model.clone(), ModelUse { sample: self.sample });
        for (order, name) in self.plugins.iter().enumerate() {
            let used = PluginUse { order: order as i64, enabled: true, ..PluginUse::default() };
            stream.plugins.insert(name.clone(), used);
        }
        if let Some(file) = out {
            stream.outputs.insert("bench".into(), output(file));
        }
        Ok(stream)
    }
}

impl Subject {
    /// A stream of this kind that plays over and over, as fast as it goes.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub fn endless(&self) -> anyhow::Result<Stream> {
        let mut stream = self.stream(false, None)?;
        stream.loop_ = true;
        Ok(stream)
    }
}

fn output(file: PathBuf) -> crate::config::settings::VideoOutput {
    crate::config::settings::VideoOutput { file: Some(file), ..Default::default() }
}

/// Settings as the daemon would have them, with folders that go; and the model's name in them.
fn settings(args: &SubjectArgs, folder: &Path) -> anyhow::Result<(Settings, String)> {
    let mut settings = Settings::default();
    "bench".clone_into(&mut settings.box_.name);
    "off".clone_into(&mut settings.mqtt.url);
    settings.accel.gpu = args.gpu;
    settings.infer.library.clone_from(&args.library);
    settings.paths.state = folder.join("state");
    settings.paths.cache = folder.join("cache");
    settings.paths.run = folder.join("run");
    if let Some(share) = crate::share::folder() {
        settings.paths.models.push(share.join("models"));
        settings.paths.plugins.insert(0, share.join("plugins"));
    }
    if args.plugins.is_empty() {
        // None is compiled in vain.
        settings.paths.plugins.clear();
    }
    let named = Path::new(&args.model);
    let path = if named.join("model.toml").is_file() {
        named.canonicalize().with_context(|| format!("--model {}", args.model))?
    } else {
        ensure!(!args.model.is_empty(), "--model: expected a name or a folder");
        named.to_owned()
    };
    let name =
        path.file_name().map_or_else(|| args.model.clone(), |name| name.to_string_lossy().into_owned());
    let model = Model { path, batch: args.batch, threads: args.threads, threshold: None, precision: None };
    settings.models.insert(name.clone(), model);
    Ok((settings, name))
}

fn render(spec: &SceneSpec, frames: u64, folder: &Path, stop: &Stop) -> anyhow::Result<PathBuf> {
    let options = ExportOptions { frames: Some(frames), ..ExportOptions::default() };
    let done = export_until(spec, &folder.join("scene"), &options, || stop.asked());
    stop.check()?;
    Ok(done?.video)
}

/// A bar on standard error for so many steps; nothing where that is no terminal.
pub(super) fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A line on standard error that says what is being done; nothing where that is no terminal.
pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
        bar.set_style(style);
    }
    bar
}
