//! The whole lane, by daemons of the check's own: both lanes on a video, and a stream that starts and stops.
//!
//! In: a video, a model's folder. Out: parts. Each daemon runs in a temporary folder and is stopped before the next.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{Outcome, Part};
use crate::control::{Client, socket};
use crate::gpu::Nvml;
use crate::infer::{RUNTIMES, Runtime};

/// The longest that a video may take on either lane.
const LONGEST: Duration = Duration::from_secs(600);
/// How often a daemon is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// What is run.
pub(super) struct Subject {
    /// Index of the GPU.
    pub(super) gpu: u32,
    /// The model's folder.
    pub(super) model: PathBuf,
    /// `infer.library`.
    pub(super) library: Option<PathBuf>,
}

/// A daemon in a folder of its own.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start(subject: &Subject, lane: &str, video: &Path, extra: &str) -> anyhow::Result<Self> {
        let Subject { gpu, model, library } = subject;
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        let here = folder.path();
        for name in ["state", "cache", "run"] {
            std::fs::create_dir(here.join(name))?;
        }
        // The runtime that the box has chosen.
        std::os::unix::fs::symlink(Runtime::folder(), here.join("state").join(RUNTIMES))?;
        let path = |path: &Path| Value::from(path.display().to_string()).to_string();
        let infer = library.as_deref().map(|file| format!("infer.library = {}\n", path(file)));
        let config = format!(
            "{}box.name = \"check\"\nmqtt.url = \"off\"\naccel = {{ lane = \"{lane}\", gpu = {gpu} }}\n\
             paths = {{ state = {}, cache = {}, run = {}, plugins = [], models = [] }}\n\
             models.it.path = {}\n[streams.s]\nsource = {}\nmodels.it = {{}}\ntrace = {}\noutputs.view = {{ file = {} }}\n{extra}\n",
            infer.unwrap_or_default(),
            path(&here.join("state")),
            path(&here.join("cache")),
            path(&here.join("run")),
            path(&std::path::absolute(model)?),
            path(&std::path::absolute(video)?),
            path(&here.join("trace.jsonl")),
            path(&here.join("view.mp4")),
        );
        let file = here.join("watchpost.toml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(here.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(&file)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the daemon cannot be started")?;
        Ok(Self { child, folder })
    }

    /// Asks it over its socket.
    fn ask(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        if let Some(exit) = self.child.try_wait()? {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            bail!("the daemon ended ({exit}): {}", log.lines().last().unwrap_or_default());
        }
        let mut control = Client::connect(&socket(&self.folder.path().join("run")))?;
        Ok(control.call(command, arguments, Duration::from_secs(60))?)
    }

    /// Waits until the stream is so; gives its status.
    fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + LONGEST;
        loop {
            match self.ask("status", json!({})) {
                Ok(status) if is_so(&status["streams"]["s"]) => return Ok(status["streams"]["s"].clone()),
                Ok(status) => ensure!(
                    Instant::now() < deadline,
                    "not done within {} s: {}",
                    LONGEST.as_secs(),
                    status["streams"]["s"]
                ),
                // It does not listen yet, or has ended.
                Err(error) => {
                    ensure!(self.child.try_wait()?.is_none() && Instant::now() < deadline, "{error:#}")
                }
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Stops it, and waits; gives its folder.
    fn stop(mut self) -> anyhow::Result<tempfile::TempDir> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let exit = self.child.wait()?;
        ensure!(exit.success(), "the daemon stopped with {exit}");
        Ok(std::mem::replace(&mut self.folder, tempfile::tempdir()?))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Where `stop` came first there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A trace without the wall clock, and the stream's last status with the size of what it encoded.
fn trace(subject: &Subject, lane: &str, video: &Path) -> anyhow::Result<(Vec<Value>, Value, u64)> {
    let mut daemon = Daemon::start(subject, lane, video, "")?;
    let status = daemon.until(|stream| stream["state"] == "ended" || stream["state"] == "failed")?;
    ensure!(status["state"] == "ended", "{lane} lane: {}", status["error"]);
    let file = daemon.folder.path().join("trace.jsonl");
    let text = std::fs::read_to_string(file).context("the stream left no trace")?;
    let frames = text.lines().skip(1).map(|line| {
        let mut frame: Value = serde_json::from_str(line)?;
        if let Some(frame) = frame.as_object_mut() {
            frame.remove("captured");
        }
        Ok(frame)
    });
    let frames = frames.collect::<anyhow::Result<_>>()?;
    let folder = daemon.stop()?;
    let encoded = std::fs::metadata(folder.path().join("view.mp4")).map_or(0, |file| file.len());
    Ok((frames, status, encoded))
}

/// One video on both lanes.
pub(super) fn same(subject: &Subject, video: &Path, add: &mut impl FnMut(Part)) {
    let name = video.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let part = format!("lanes on {name}");
    let both = trace(subject, "cpu", video).and_then(|cpu| Ok((cpu, trace(subject, "cuda", video)?)));
    let ((cpu, ..), (cuda, status, encoded)) = match both {
        Ok(both) => both,
        Err(error) => return add(Part::new(part, Outcome::Wrong, format!("{error:#}"))),
    };
    let objects = |frames: &[Value]| -> usize {
        frames.iter().map(|frame| frame["found"].as_array().map_or(0, Vec::len)).sum()
    };
    let alike = cpu.iter().zip(&cuda).filter(|(one, other)| one == other).count();
    let exact = cpu.len() == cuda.len() && alike == cpu.len();
    let close = close(&cpu, &cuda);
    // Inference on another device rounds differently; what counts then is that the same is found in the same places.
    let outcome = if exact || close >= 0.99 { Outcome::Good } else { Outcome::Wrong };
    let found = format!(
        "{} frames on the CPU lane, {} on CUDA, {alike} equal; {} and {} objects, {:.1} % matched at IoU 0.9",
        cpu.len(),
        cuda.len(),
        objects(&cpu),
        objects(&cuda),
        close * 100.0
    );
    add(Part::new(part, outcome, found));
    for edge in status["edges"].as_array().into_iter().flatten() {
        let (name_, by) =
            (edge["name"].as_str().unwrap_or_default(), edge["by"].as_str().unwrap_or_default());
        let native = edge["copies"] == false;
        let (outcome, found) = match native {
            _ if name_.starts_with("encode") && encoded == 0 => {
                (Outcome::Wrong, format!("{by} has left an empty file"))
            }
            true => (Outcome::Good, by.to_owned()),
            false => (Outcome::Untried, format!("no native edge here: {by}")),
        };
        add(Part::new(format!("{name_} on {name}"), outcome, found));
    }
}

/// Share of all objects of both that have one of the other's, of the same class, at IoU 0.9 or more.
fn close(cpu: &[Value], cuda: &[Value]) -> f64 {
    use crate::flow::Rect;

    let objects = |frame: &Value| -> Vec<(u64, Rect)> {
        let number = |value: &Value| value.as_f64().unwrap_or(0.0) as f32;
        let list = frame["found"].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|object| {
                let at = |index: usize| number(&object["bounds"][index]);
                (object["class"].as_u64().unwrap_or(0), Rect::new(at(0), at(1), at(2), at(3)))
            })
            .collect()
    };
    let (mut all, mut matched) = (0usize, 0usize);
    for (one, other) in cpu.iter().zip(cuda) {
        let (one, other) = (objects(one), objects(other));
        let has = |object: &(u64, Rect), among: &[(u64, Rect)]| {
            among.iter().any(|(class, bounds)| *class == object.0 && bounds.iou(&object.1) >= 0.9)
        };
        all += one.len() + other.len();
        matched += one.iter().filter(|object| has(object, &other)).count();
        matched += other.iter().filter(|object| has(object, &one)).count();
    }
    if all == 0 { 1.0 } else { matched as f64 / all as f64 }
}

/// What a process held after the first few starts, and in the end.
struct Held {
    files: (usize, usize),
    /// Bytes, where NVML tells them; or why it does not.
    memory: Result<(u64, u64), String>,
}

/// A stream that starts and stops many times: neither video memory nor file handles may grow.
pub(super) fn restarts(subject: &Subject, video: &Path, rounds: u32, add: &mut impl FnMut(Part)) {
    let (part, memory) =
        (format!("{rounds} starts and stops"), format!("video memory of {rounds} starts and stops"));
    let Held { files: (first, last), memory: bytes } = match turns(subject, video, rounds) {
        Ok(held) => held,
        Err(error) => return add(Part::new(part, Outcome::Wrong, format!("{error:#}"))),
    };
    let judged = |good| if good { Outcome::Good } else { Outcome::Wrong };
    let figures = Some(json!({ "files": [first, last] }));
    let found = format!("{first} file handles, {last} in the end");
    add(Part { figures, ..Part::new(part, judged(last <= first + 4), found) });
    match bytes {
        Ok((first, last)) => {
            let [from, to] = [first, last].map(|bytes| bytes as f64 / f64::from(1 << 20));
            let found = format!("{from:.1} MiB, {to:.1} MiB in the end, of all programs");
            let figures = Some(json!({ "bytes": [first, last] }));
            add(Part { figures, ..Part::new(memory, judged(last < first + (32 << 20)), found) });
        }
        Err(why) => add(Part::new(memory, Outcome::Untried, why)),
    }
}

fn turns(subject: &Subject, video: &Path, rounds: u32) -> anyhow::Result<Held> {
    let mut daemon = Daemon::start(subject, "cuda", video, "realtime = true\nloop = true\n")?;
    let nvml = Nvml::start();
    let video_memory = || -> Result<u64, String> {
        let loads = nvml.as_ref().map_err(ToString::to_string)?.loads().map_err(|error| error.to_string())?;
        let load =
            loads.into_iter().find(|load| load.index == subject.gpu).ok_or("NVML does not know the GPU")?;
        load.memory_used.ok_or_else(|| "NVML tells no memory".to_owned())
    };
    let files = |daemon: &Daemon| {
        std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).map_or(0, Iterator::count)
    };
    let frames_come = |stream: &Value| stream["frames"].as_u64().is_some_and(|frames| frames > 1);
    let (mut first_files, mut first_memory) = (0, Err(String::new()));
    for round in 0..=rounds {
        daemon.until(frames_come)?;
        // What is kept for good is there after a few.
        if round == rounds.min(5) {
            (first_files, first_memory) = (files(&daemon), video_memory());
        }
        if round < rounds {
            for command in ["disable", "enable"] {
                daemon.ask(command, json!({ "stream": "s" }))?;
            }
        }
    }
    let (last_files, last_memory) = (files(&daemon), video_memory());
    daemon.stop()?;
    let memory = first_memory.and_then(|first| Ok((first, last_memory?)));
    Ok(Held { files: (first_files, last_files), memory })
}
