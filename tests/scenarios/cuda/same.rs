//! The same objects, scores, views and pictures from both lanes, and every copy accounted for.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::cuda::{Books, Soft};
use e2e::daemon::Daemon;
use e2e::data::data;
use e2e::models::{shared_model, two_stage};
use e2e::mosquitto::Mosquitto;
use serde_json::Value;

use super::{scene, wait_state};

/// What one run of a stream left.
struct Run {
    /// The trace without the wall clock.
    trace: Vec<Value>,
    /// The stream's last status.
    status: Value,
    /// Every metric of the last telemetry message.
    metrics: Vec<Value>,
    folder: tempfile::TempDir,
}

impl Run {
    /// A counter of the daemon's, over all labels but the edge.
    fn counted(&self, name: &str, edge: &str) -> u64 {
        self.metrics
            .iter()
            .filter(|metric| metric["name"] == name && metric["labels"]["edge"] == edge)
            .map(|metric| metric["value"].as_u64().unwrap())
            .sum()
    }
}

/// Runs `[streams.s]` to its end on a lane; `stream` is the rest of its table, in which OUT is a folder.
fn run(lane: &str, models: &str, stream: &str, soft: Option<&dyn Fn(&Path) -> Soft>) -> (Run, Option<Books>) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start();
    let inbox = broker.subscribe("watchpost/b/telemetry");
    let out = folder.path().display().to_string();
    let config = format!(
        "box.name = \"b\"\nmqtt.url = \"{}\"\nmqtt.telemetry_interval = 1\naccel.lane = \"{lane}\"\n{models}\n\
         [streams.s]\ntrace = \"{out}/trace.jsonl\"\n{}\n",
        broker.url(),
        stream.replace("OUT", &out)
    );
    let soft = soft.map(|soft| soft(folder.path()));
    let environment = soft.as_ref().map(Soft::environment).unwrap_or_default();
    let daemon = Daemon::start_with(folder.path(), &config, &environment);
    let status = wait_state(&daemon, "s", "ended");
    // One that was made after the end: what it counts does not change any more.
    inbox.clear();
    inbox.wait_for("watchpost/b/telemetry", |_| true);
    inbox.clear();
    let telemetry = inbox.wait_for("watchpost/b/telemetry", |_| true);
    let process = daemon.id();
    let log = daemon.log();
    assert!(daemon.stop().success(), "{log}");
    let trace = std::fs::read_to_string(folder.path().join("trace.jsonl")).unwrap();
    let trace = trace
        .lines()
        // Between the frames are signals, which come by the clock.
        .filter(|line| line.starts_with("{\"schema\"") || line.starts_with("{\"frame\""))
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            // The wall clock; and plugins may say how they are when they start, which is a moment before or after.
            for key in ["captured", "states", "entries"] {
                line.as_object_mut().unwrap().remove(key);
            }
            line
        })
        .collect();
    let metrics = telemetry["metrics"].as_array().unwrap().clone();
    let books = soft.as_ref().map(|soft| soft.books(process));
    (Run { trace, status, metrics, folder }, books)
}

/// Both lanes say the same of every frame.
fn agree(cpu: &Run, cuda: &Run) {
    assert_eq!(cpu.trace.len(), cuda.trace.len());
    for (number, (one, other)) in cpu.trace.iter().zip(&cuda.trace).enumerate() {
        assert_eq!(one, other, "frame {number}");
    }
    assert_eq!((&cpu.status["lane"], &cuda.status["lane"]), (&"cpu".into(), &"cuda".into()));
    let found: usize = cuda.trace.iter().skip(1).map(|line| line["found"].as_array().unwrap().len()).sum();
    assert!(found > 0, "nothing was found, so nothing was compared");
}

/// Mean difference of luma between two videos, 0 to 255, over all frames.
fn difference(one: &Path, other: &Path) -> f64 {
    let luma = |file: &Path| {
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(file)
            .args(["-pix_fmt", "gray", "-f", "rawvideo", "-"])
            .output()
            .unwrap();
        assert!(!done.stdout.is_empty(), "{}: {}", file.display(), String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let (one, other) = (luma(one), luma(other));
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(&other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

const SHIPPED: &str = "models.people.path = \"people\"\nmodels.violence.path = \"violence\"";

/// The whole lane on a rendered scene: detector, clip model, three plugins, a mask, an output as it is, a virtual camera
/// with an overlay.
#[test]
fn the_whole_lane_gives_what_the_cpu_lane_gives_and_copies_only_at_its_edges() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2003&seconds=6&fights=6&size=640x360");
    let stream = format!(
        r#"
source = "{}"
models.people = {{}}
models.violence = {{}}
plugins.tracker = {{ order = 1 }}
plugins.fights = {{ order = 2, use = "violence-alert" }}
plugins.follow = {{ order = 3, use = "camera-framing", mode = "group" }}
masks.corner = {{ polygon = [[0, 0], [120.5, 0], [0, 90]] }}
outputs.wide = {{ file = "OUT/wide.mp4", bitrate = "8M" }}
outputs.live = {{ file = "OUT/live.mp4", view = "follow/main", size = "482x270", overlay = true, bitrate = "8M" }}
"#,
        video.display()
    );
    let (cpu, _) = run("cpu", SHIPPED, &stream, None);
    // Late workers show work that nobody waits for, pages show work beyond its memory.
    for mode in ["WATCHPOST_SOFT_ASYNC", "WATCHPOST_SOFT_PAGES"] {
        let soft = |folder: &Path| Soft::new(folder).with(mode, "1");
        let (cuda, books) = run("cuda", SHIPPED, &stream, Some(&soft));
        agree(&cpu, &cuda);
        let books = books.unwrap();
        books.balance();
        accounted(&cuda, &books, 150);
        for (output, most) in [("wide.mp4", 1.0), ("live.mp4", 1.0)] {
            let off = difference(&cpu.folder.path().join(output), &cuda.folder.path().join(output));
            assert!(off < most, "{output} differs by {off} in the mean");
        }
        let edges = cuda.status["edges"].as_array().unwrap();
        let copies: Vec<(&str, bool)> = edges
            .iter()
            .map(|edge| (edge["name"].as_str().unwrap(), edge["copies"].as_bool().unwrap()))
            .collect();
        let expected = ["decode", "infer people", "infer violence", "encode live", "encode wide"];
        assert_eq!(copies, expected.map(|name| (name, true)), "{edges:?}");
    }
}

/// The daemon's counters are the driver's: an upload a frame, a download a frame and output, tables, and nothing else.
fn accounted(run: &Run, books: &Books, frames: u64) {
    let bytes = |edge| run.counted("gpu_copied_bytes_total", edge);
    let copies = |edge| run.counted("gpu_copies_total", edge);
    assert_eq!((copies("upload"), copies("download")), (frames, 2 * frames));
    let pictures = (640 * 360 + (482 * 270)) * 3 / 2;
    assert_eq!((bytes("upload"), bytes("download")), (frames * 640 * 360 * 3 / 2, frames * pictures));
    assert_eq!(bytes("upload") + bytes("tables"), books.number("copies/host_to_device/bytes"));
    assert_eq!(bytes("download"), books.number("copies/device_to_host/bytes"));
    assert_eq!(books.number("copies/device_to_device/calls"), 0);
    assert!(bytes("tables") * 10 < bytes("upload"), "tables weigh {} bytes", bytes("tables"));
}

/// Elements that stand for NVDEC and NVENC: pictures that come in video memory are not copied, their motion is measured
/// there, and views are encoded from there.
#[test]
fn pictures_that_are_decoded_on_the_gpu_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2007&seconds=4&fights=12&size=640x360");
    let stream = format!(
        "source = \"{}\"\nmodels.people = {{}}\nmodels.violence = {{}}\nplugins.tracker = {{}}\n\
         masks.m = {{ polygon = [[10, 10], [60, 10], [30, 70]] }}\n\
         outputs.small = {{ file = \"OUT/small.mp4\", size = \"320x180\", overlay = true, bitrate = \"4M\" }}",
        video.display()
    );
    let (cpu, _) = run("cpu", SHIPPED, &stream, None);
    let codecs = e2e::data::root().join("target/cuda/codecs");
    let soft = |folder: &Path| {
        Soft::new(folder).with("GST_PLUGIN_PATH", codecs.to_str().unwrap()).with("WATCHPOST_SOFT_ASYNC", "1")
    };
    let (cuda, books) = run("cuda", SHIPPED, &stream, Some(&soft));
    agree(&cpu, &cuda);
    let books = books.unwrap();
    books.balance();
    let edges = cuda.status["edges"].as_array().unwrap();
    assert!(edges[0]["name"] == "decode" && edges[0]["by"] == "nvh264dec", "{edges:?}");
    assert_eq!(edges[0]["copies"], false);
    let encode = &edges[edges.len() - 1];
    assert!(encode["name"] == "encode small" && encode["by"] == "nvh264enc", "{edges:?}");
    assert_eq!(encode["copies"], false);
    let off = difference(&cpu.folder.path().join("small.mp4"), &cuda.folder.path().join("small.mp4"));
    assert!(off < 3.0, "what another encoder made differs by {off} in the mean");
    assert_eq!(
        (cuda.counted("gpu_copies_total", "upload"), cuda.counted("gpu_copies_total", "download")),
        (0, 0)
    );
    // What stands for NVDEC uploads its pictures; the masks copy them within video memory, two calls each. A picture more
    // goes up and comes down when NVENC is tried.
    let frames = 100;
    let tables = cuda.counted("gpu_copied_bytes_total", "tables");
    let up = books.number("copies/host_to_device/bytes");
    let (least, picture) = (frames * 640 * 360 * 3 / 2, 1920 * 1080 * 3 / 2);
    assert!((least..least + picture).contains(&(up - tables)), "{up} {tables} {}", books.0);
    // Of what stands for NVENC, a call or two a picture.
    let down = books.number("copies/device_to_host/calls");
    assert!((frames..=2 * frames + 2).contains(&down), "{}", books.0);
    assert_eq!(books.number("copies/device_to_device/calls"), 2 * frames, "{}", books.0);
}

/// Real video and a real model.
#[test]
fn real_video_gives_the_same_objects() {
    let Some(data) = data("real_video_gives_the_same_objects") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = shared_model(&data, "yolox_nano_416", folder.path());
    let models = format!("models.nano.path = \"{}\"", model.display());
    for (name, seconds) in [("nvidia_Retail02_short", 2), ("supervision_walking", 2)] {
        let video = cut(&data.join(format!("videos/{name}.mp4")), folder.path(), seconds, &["-c", "copy"]);
        let stream = format!("source = \"{}\"\nmodels.nano = {{}}\nplugins.tracker = {{}}", video.display());
        let (cpu, _) = run("cpu", &models, &stream, None);
        let (cuda, books) = run("auto", &models, &stream, Some(&|folder: &Path| Soft::new(folder)));
        agree(&cpu, &cuda);
        books.unwrap().balance();
        let why = cuda.status["lane_reason"].as_str().unwrap();
        assert!(why.contains("auto: GPU 0 is Software GPU"), "{why}");
    }
}

/// A backbone whose features the windows share, and a head: real video, real features.
#[test]
fn a_two_stage_clip_model_gives_the_same_scores() {
    let Some(data) = data("a_two_stage_clip_model_gives_the_same_scores") else { return };
    let folder = tempfile::tempdir().unwrap();
    let models = format!("models.clip.path = \"{}\"", two_stage(&data, folder.path()).display());
    let walking = data.join("videos/supervision_walking.mp4");
    let video = cut(&walking, folder.path(), 3, &["-c", "copy"]);
    let stream = format!("source = \"{}\"\nmodels.clip = {{}}", video.display());
    let (cpu, _) = run("cpu", &models, &stream, None);
    let (cuda, books) = run("cuda", &models, &stream, Some(&|folder: &Path| Soft::new(folder)));
    books.unwrap().balance();
    assert_eq!(cpu.trace, cuda.trace);
    let lines = cuda.trace.iter().skip(1);
    let scores: Vec<f64> = lines
        .flat_map(|line| line["scores"].as_array().unwrap())
        .map(|it| it["value"].as_f64().unwrap())
        .collect();
    // 24 frames of 8 a second: a window of 8, then one every 2.
    assert_eq!(scores.len(), 2 * ((24 - 8) / 2 + 1), "{scores:?}");
    assert!(
        scores.windows(3).any(|pair| (pair[0] - pair[2]).abs() > 1e-4),
        "all windows score alike: {scores:?}"
    );
}

/// Ten bits, odd sizes, a batch of two streams' frames in one run.
#[test]
fn ten_bits_and_odd_sizes_give_the_same_objects() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2004&seconds=2&size=640x360");
    let ten = ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"];
    let odd = ["-vf", "crop=477:269:3:5,format=yuv420p", "-c:v", "mpeg4", "-q:v", "2"];
    for (name, coding) in [("ten", &ten[..]), ("odd", &odd[..])] {
        let video = cut(&video, &folder.path().join(name), 2, coding);
        let stream = format!(
            "source = \"{}\"\nmodels.people = {{}}\nplugins.tracker = {{}}\n\
             masks.m = {{ polygon = [[10, 10], [60, 10], [30, 70]] }}\n\
             outputs.small = {{ file = \"OUT/small.mp4\", size = \"318x178\", overlay = true }}",
            video.display()
        );
        let (cpu, _) = run("cpu", SHIPPED, &stream, None);
        let soft = |folder: &Path| Soft::new(folder).with("WATCHPOST_SOFT_PAGES", "1");
        let (cuda, books) = run("cuda", SHIPPED, &stream, Some(&soft));
        agree(&cpu, &cuda);
        books.unwrap().balance();
        let off = difference(&cpu.folder.path().join("small.mp4"), &cuda.folder.path().join("small.mp4"));
        assert!(off < 2.0, "{name} differs by {off} in the mean");
    }
}

/// The first seconds of a video, coded in some way.
fn cut(video: &Path, folder: &Path, seconds: u32, coding: &[&str]) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let out = folder.join(format!("cut-{}", video.file_name().unwrap().to_string_lossy()));
    let seconds = seconds.to_string();
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-t", &seconds, "-i"])
        .arg(video)
        .args(["-an"])
        .args(coding)
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}
