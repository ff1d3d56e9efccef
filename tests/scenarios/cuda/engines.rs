//! TensorRT's engines, from their build to their removal: with an ONNX Runtime that says that CUDA and TensorRT are there
//! and runs both on the CPU (`tests/cuda/onnxruntime.c`), and that builds an engine when the test opens a gate.

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use e2e::cuda::Soft;
use e2e::daemon::Daemon;
use e2e::data::root;
use e2e::mosquitto::Mosquitto;
use serde_json::Value;
use watchpost::control::{Client, socket};

use super::{LONG, scene, status, until, wait_state};

/// Reads what systemd is told, as it comes: whoever tells waits for a reader.
struct Systemd {
    socket: UnixDatagram,
    told: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Systemd {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (from, told) = (socket.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&told);
        let read = move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = from.recv(&mut buffer) {
                sink.lock().unwrap().push(String::from_utf8_lossy(&buffer[..count]).trim_end().to_owned());
            }
        };
        let reader = std::thread::Builder::new().name("systemd".into()).spawn(read).unwrap();
        Self { socket, told, reader: Some(reader) }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// A box in a folder of its own.
struct Case {
    folder: tempfile::TempDir,
    soft: Soft,
    systemd: Systemd,
    broker: Mosquitto,
    video: PathBuf,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let video = scene(path, "scene://people?seed=2008&seconds=3&size=320x180&fps=12");
        let real = std::env::var_os("ORT_DYLIB_PATH")
            .map_or_else(|| root().join("target/onnxruntime/libonnxruntime.so"), PathBuf::from);
        let soft = Soft::new(path)
            .with("WATCHPOST_SOFT_ONNXRUNTIME", &real.display().to_string())
            .with("WATCHPOST_SOFT_GATE", &path.join("gate").display().to_string())
            .with("NOTIFY_SOCKET", &path.join("notify").display().to_string());
        let systemd = Systemd::new(&path.join("notify"));
        Self { soft, systemd, broker: Mosquitto::start(), video, folder }
    }

    /// A daemon whose stream `s` plays the video again and again: no frame of a file is ever left out.
    fn start(&self, infer: &str) -> Daemon {
        self.start_with(infer, "people")
    }

    fn start_with(&self, infer: &str, model: &str) -> Daemon {
        let library = root().join("target/cuda/onnxruntime/libonnxruntime.so");
        let trace = self.folder.path().join("trace.jsonl");
        let config = format!(
            "box.name = \"b\"\nmqtt.url = \"{}\"\nmqtt.telemetry_interval = 1\naccel.lane = \"cuda\"\n\
             infer.library = \"{}\"\n{infer}\nmodels.{model}.path = \"people\"\n\
             [streams.s]\nsource = \"{}\"\nloop = true\ntrace = \"{}\"\nmodels.{model} = {{}}\n",
            self.broker.url(),
            library.display(),
            self.video.display(),
            trace.display()
        );
        Daemon::start_with(self.folder.path(), &config, &self.soft.environment())
    }

    fn open_gate(&self, words: &str) {
        // Whole or not there.
        std::fs::write(self.folder.path().join("opening"), words).unwrap();
        std::fs::rename(self.folder.path().join("opening"), self.folder.path().join("gate")).unwrap();
    }

    /// What systemd was told since it was looked at last.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.systemd.told.lock().unwrap())
    }

    /// Waits until systemd is told something; gives all that it was told till then.
    fn wait_told(&self, daemon: &Daemon, what: &str) -> Vec<String> {
        let mut all = Vec::new();
        until(&format!("systemd hears {what}"), daemon, || {
            all.extend(self.told());
            all.iter().any(|line| line.contains(what))
        });
        all
    }
}

/// The one model of a box.
fn model(daemon: &Daemon) -> Value {
    let run = daemon.config().with_file_name("run");
    Client::connect(&socket(&run))
        .and_then(|mut control| control.call("status", serde_json::json!({}), LONG))
        .map_or(Value::Null, |all| all["models"][0].clone())
}

/// Waits until its engine is in a state; gives the model.
fn wait_engine(daemon: &Daemon, state: &str) -> Value {
    let mut found = Value::Null;
    until(&format!("the engine is {state}"), daemon, || {
        found = model(daemon);
        found["engine"]["state"] == state
    });
    found
}

fn engines(daemon: &Daemon, soft: &Soft, more: &[&str]) -> (Output, Vec<Value>) {
    let output = std::process::Command::new(e2e::daemon::binary())
        .args(["model", "engines", "--json"])
        .args(more)
        .arg("--config")
        .arg(daemon.config())
        .envs(soft.environment())
        .output()
        .unwrap();
    let list = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, list)
}

fn frames(daemon: &Daemon) -> u64 {
    status(daemon, "s")["frames"].as_u64().unwrap_or(0)
}

/// Waits until so many more frames have left.
fn go_on(daemon: &Daemon, more: u64) {
    let before = frames(daemon);
    until("frames go on", daemon, || frames(daemon) >= before + more);
}

#[test]
fn cuda_serves_until_the_engine_is_built_and_no_frame_is_lost_when_it_takes_over() {
    let case = Case::new();
    let inbox = case.broker.subscribe("watchpost/b/#");
    let daemon = case.start("");
    wait_state(&daemon, "s", "running");
    let building = wait_engine(&daemon, "building");
    assert_eq!(
        (building["provider"].as_str(), building["gpu"].as_u64()),
        (Some("CUDA"), Some(0)),
        "{building}"
    );
    assert!(building["progress"].as_str().unwrap().starts_with("engine of people on GPU 0: "), "{building}");
    // The start does not wait for it.
    case.wait_told(&daemon, "READY=1");
    case.wait_told(&daemon, "building the TensorRT engine of people on GPU 0: ");
    let message =
        inbox.wait_for("watchpost/b/status", |status| status["models"][0]["engine"]["state"] == "building");
    let engine = &message["models"][0]["engine"];
    assert!(engine["since"].is_string() && engine["reason"] == "there is none yet", "{message}");
    let gauge = |state: &str, value: f64| {
        inbox.wait_for("watchpost/b/telemetry", |telemetry| {
            telemetry["metrics"].as_array().unwrap().iter().any(|metric| {
                metric["name"] == "infer_engine"
                    && metric["labels"]["state"] == state
                    && metric["value"].as_f64() == Some(value)
            })
        });
    };
    gauge("building", 1.0);
    let shown = String::from_utf8(daemon.command(&["status"]).stdout).unwrap();
    assert!(shown.contains("model people on GPU 0  CUDA  engine building, "), "{shown}");
    assert_eq!(status(&daemon, "s")["edges"][1]["by"], "CUDA");
    go_on(&daemon, 10);

    case.open_gate("");
    let ready = wait_engine(&daemon, "ready");
    assert_eq!(ready["provider"], "TensorRT", "{ready}");
    until("the stream's edge is TensorRT's", &daemon, || {
        status(&daemon, "s")["edges"][1]["by"] == "TensorRT"
    });
    inbox.wait_for("watchpost/b/status", |status| status["models"][0]["engine"]["state"] == "ready");
    inbox.clear();
    gauge("building", 0.0);
    gauge("ready", 1.0);
    go_on(&daemon, 10);
    // It is used, so it stays, whatever is asked for.
    let (output, list) = engines(&daemon, &case.soft, &["--clear"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&list[0]["state"], &list[0]["in_use"]), (&"fresh".into(), &true.into()), "{list:?}");
    assert_eq!(list[0]["removed"], false);
    let process = daemon.id();
    let (exit, log) = daemon.stop_with_log();
    assert!(exit.success(), "{log}");
    case.soft.books(process).balance();

    // Every frame was looked at, before, while and after the engine took over.
    let text = std::fs::read_to_string(case.folder.path().join("trace.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 20);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["frame"], index, "{line}");
        assert_eq!(line["runs"].as_array().unwrap().len(), 1, "{line}");
    }

    // The next start finds it, and does not build.
    std::fs::remove_file(case.folder.path().join("gate")).unwrap();
    let daemon = case.start("");
    assert_eq!(wait_engine(&daemon, "ready")["provider"], "TensorRT");
    assert!(!daemon.log().contains("is built"), "{}", daemon.log());
    assert!(daemon.stop().success());
    // One of a model that is configured no more goes, and only after another was loaded.
    let daemon = case.start_with("infer.providers = [\"cuda\"]", "persons");
    daemon.wait_for("an engine of no more use is removed", LONG);
    let (_, list) = engines(&daemon, &case.soft, &[]);
    assert!(list.is_empty(), "{list:?}");
    assert!(daemon.stop().success());
}

#[test]
fn where_nothing_else_may_serve_the_start_waits_and_systemd_with_it() {
    let case = Case::new();
    let only = "infer.providers = [\"tensorrt\"]";
    let daemon = case.start(only);
    let building = wait_engine(&daemon, "building");
    assert!(building["provider"].is_null(), "{building}");
    let mut told = case.wait_told(&daemon, "EXTEND_TIMEOUT_USEC=30000000");
    told.extend(case.wait_told(&daemon, "building the TensorRT engine of people"));
    assert!(told.last().unwrap().starts_with("STATUS=0 of 1 streams running; 1 starting"), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("READY=1")), "{told:?}");
    let waits = status(&daemon, "s");
    assert!(waits["state"] == "starting" && waits["error"].is_null(), "{waits}");
    assert!(waits["warnings"][0].as_str().unwrap().contains("infer.providers"), "{waits}");
    // It can be stopped all the while, and its build with it.
    let (exit, log) = daemon.stop_with_log();
    assert!(exit.success() && !log.contains("panicked"), "{log}");
    let left: BTreeSet<_> = std::fs::read_dir(case.folder.path().join("cache/engines"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [".lock", ".turn"].map(str::to_owned).into());

    case.told();
    let daemon = case.start(only);
    wait_engine(&daemon, "building");
    case.open_gate("");
    assert_eq!(wait_engine(&daemon, "ready")["provider"], "TensorRT");
    case.wait_told(&daemon, "READY=1");
    let runs = wait_state(&daemon, "s", "running");
    assert!(!runs["warnings"].to_string().contains("infer.providers"), "{runs}");
    go_on(&daemon, 5);
    assert!(daemon.stop().success());
}

#[test]
fn an_engine_that_cannot_be_built_is_said_with_its_reason_and_cuda_goes_on() {
    let case = Case::new();
    case.open_gate("no room for its tactics");
    let daemon = case.start("");
    let failed = wait_engine(&daemon, "failed");
    assert_eq!(failed["provider"], "CUDA");
    assert!(failed["engine"]["reason"].as_str().unwrap().contains("no room for its tactics"), "{failed}");
    wait_state(&daemon, "s", "running");
    go_on(&daemon, 10);
    assert!(status(&daemon, "s")["error"].is_null());
    assert!(daemon.stop().success());
    // Numbers that nobody knows the ranges for are no reason to build anything.
    let config = case.folder.path().join("watchpost.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("models.people.path", "models.people.precision = \"int8\"\nmodels.people.path");
    let daemon = Daemon::start_with(Path::new(case.folder.path()), &text, &case.soft.environment());
    let failed = wait_state(&daemon, "s", "failed");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("precision \"int8\"") && error.contains("calibration.flatbuffers"), "{error}");
    assert!(daemon.stop().success());
}
