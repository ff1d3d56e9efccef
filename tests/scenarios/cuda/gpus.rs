//! Several GPUs in one box: each stream on the one it asks for, with a context and models of its own; an index that no GPU
//! has; one GPU that is lost while the other goes on.

use std::path::Path;

use e2e::cuda::Soft;
use e2e::daemon::Daemon;
use serde_json::Value;
use watchpost::control::{Client, socket};

use super::{LONG, scene, status, until, wait_state};

const BOX: &str = "box.name = \"b\"\nmqtt.url = \"off\"\nmodels.people.path = \"people\"\n";

fn two_gpus(folder: &Path) -> Soft {
    Soft::new(folder).with("WATCHPOST_SOFT_DEVICES", "2")
}

/// The models in the box's status: GPU and what runs it.
fn models(daemon: &Daemon) -> Vec<(Option<u64>, String)> {
    let run = daemon.config().with_file_name("run");
    let all = Client::connect(&socket(&run)).unwrap().call("status", serde_json::json!({}), LONG).unwrap();
    let model =
        |model: &Value| (model["gpu"].as_u64(), model["provider"].as_str().unwrap_or_default().to_owned());
    all["models"].as_array().unwrap().iter().map(model).collect()
}

/// A stream's trace without the wall clock and its head.
fn trace(folder: &Path, stream: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(format!("{stream}.jsonl"))).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("captured");
        line
    };
    text.lines().skip(1).map(line).collect()
}

#[test]
fn each_stream_runs_on_its_gpu_and_gives_back_what_it_took_there() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2007&seconds=3&size=320x180&fps=12");
    let out = folder.path().display();
    let stream = |name: &str, more: &str| {
        format!(
            "[streams.{name}]\nsource = \"{}\"\ntrace = \"{out}/{name}.jsonl\"\nmodels.people = {{}}\n{more}\n\
             outputs.small = {{ file = \"{out}/{name}.mp4\", size = \"160x90\", overlay = true }}\n",
            video.display()
        )
    };
    let streams = [stream("zero", ""), stream("one", "gpu = 1"), stream("cpu", "lane = \"cpu\"\ngpu = 1")];
    let soft = two_gpus(folder.path());
    let config = format!("{BOX}accel.lane = \"cuda\"\n{}", streams.concat());
    let daemon = Daemon::start_with(folder.path(), &config, &soft.environment());
    for (name, expected) in
        [("zero", "GPU 0 is Software GPU 0"), ("one", "GPU 1 is Software GPU 1"), ("cpu", "as configured")]
    {
        let ended = wait_state(&daemon, name, "ended");
        assert!(ended["error"].is_null(), "{ended}");
        assert!(ended["lane_reason"].as_str().unwrap().contains(expected), "{ended}");
    }
    let pinned = "CPU, input in pinned memory".to_owned();
    assert_eq!(models(&daemon), [(None, "CPU".to_owned()), (Some(0), pinned.clone()), (Some(1), pinned)]);
    let shown = String::from_utf8(daemon.command(&["status"]).stdout).unwrap();
    assert!(shown.contains("model people on GPU 1  CPU, input in pinned memory"), "{shown}");
    let process = daemon.id();
    let (exit, log) = daemon.stop_with_log();
    assert!(exit.success(), "{log}");

    let expected = trace(folder.path(), "cpu");
    assert!(expected.iter().any(|line| !line["found"].as_array().unwrap().is_empty()));
    for name in ["zero", "one"] {
        assert_eq!(trace(folder.path(), name), expected, "{name}");
    }
    let books = soft.books(process);
    books.balance();
    for device in 0..2 {
        books.balance_of(device);
        let number = |path: &str| books.number(&format!("devices/{device}/{path}"));
        // One context for all that is done there; a launch for each frame's tensor and each view at least.
        assert!(number("primary/retained") > 0 && number("streams/created") > 0, "{}", books.0);
        assert!(number("launches") > 2 * expected.len() as u64, "{}", books.0);
    }
    let launches = |device| books.number(&format!("devices/{device}/launches"));
    assert_eq!(launches(0), launches(1), "the same work on both: {}", books.0);
}

#[test]
fn an_index_that_no_gpu_has_is_named_with_its_key_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let source = "source = \"scene://people?seed=1&seconds=2&size=320x180\"\n";
    let there = "there is no GPU 5; the driver has 2, counted from 0: 0 (Software GPU 0), 1 (Software GPU 1)";
    let soft = two_gpus(folder.path());
    let config = format!(
        "{BOX}accel.lane = \"auto\"\n[streams.good]\n{source}gpu = 1\n[streams.bad]\n{source}lane = \"cuda\"\ngpu = 5\n\
         [streams.auto]\n{source}gpu = 5\n"
    );
    let line = |key: &str| 1 + config.lines().position(|line| line == key).unwrap();
    let at = |key: &str, line| format!("{key} ({}:{line})", folder.path().join("watchpost.toml").display());
    let daemon = Daemon::start_with(folder.path(), &config, &soft.environment());
    let bad = wait_state(&daemon, "bad", "failed");
    let error = bad["error"].as_str().unwrap();
    assert!(error.contains(there) && error.contains(&at("streams.bad.gpu", line("gpu = 5"))), "{error}");
    let auto = wait_state(&daemon, "auto", "ended");
    let why = auto["lane_reason"].as_str().unwrap();
    assert!(auto["lane"] == "cpu" && why.contains(there) && why.contains("streams.auto.gpu ("), "{why}");
    assert_eq!(wait_state(&daemon, "good", "ended")["lane"], "cuda");
    assert!(daemon.stop().success());

    // The box's own: nothing could run.
    let config = format!("accel.gpu = 5\n{BOX}accel.lane = \"cuda\"\n[streams.good]\n{source}");
    let daemon = Daemon::start_with(folder.path(), &config, &soft.environment());
    daemon.wait_for(there, LONG);
    let log = daemon.log();
    assert!(log.contains(&at("accel.gpu", 1)), "{log}");
    assert!(!daemon.stop().success());
}

#[test]
fn a_lost_gpu_ends_its_streams_and_the_other_gpu_goes_on_until_the_daemon_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = "source = \"scene://people?seed=7&size=320x180&fps=12\"\nmodels.people = {}\n";
    let config = format!(
        "{BOX}accel.lane = \"cuda\"\n[streams.zero]\n{source}[streams.one]\n{source}gpu = 1\n\
         [streams.cpu]\n{source}lane = \"cpu\"\n"
    );
    // CUDA_ERROR_LAUNCH_FAILED: the context of GPU 1 is broken, and only that.
    let soft = two_gpus(folder.path()).with("WATCHPOST_SOFT_FAIL", "cuLaunchKernel@1:60=719");
    let daemon = Daemon::start_with(folder.path(), &config, &soft.environment());
    daemon.wait_for("a GPU is lost", LONG);
    let frames = |stream: &str| status(&daemon, stream)["frames"].as_u64();
    let before = ["zero", "cpu"].map(|stream| frames(stream).unwrap_or(0));
    let lost = wait_state(&daemon, "one", "failed");
    let error = lost["error"].as_str().unwrap();
    assert!(error.contains("CUDA_ERROR_LAUNCH_FAILED") && error.contains("GPU 1"), "{lost}");
    for (stream, before) in ["zero", "cpu"].into_iter().zip(before) {
        until("the other streams go on", &daemon, || frames(stream).is_some_and(|now| now > before));
        let there = status(&daemon, stream);
        assert!(there.is_null() || (there["state"] == "running" && there["error"].is_null()), "{there}");
    }
    daemon.wait_for("stopped", LONG);
    let process = daemon.id();
    let log = daemon.log();
    assert!(!daemon.stop().success(), "a service manager must start it again: {log}");
    assert!(!log.contains("panicked"), "{log}");
    // What was on the other GPU was given back as ever.
    soft.books(process).balance_of(0);

    let again = two_gpus(folder.path());
    let daemon = Daemon::start_with(folder.path(), &config, &again.environment());
    for stream in ["zero", "one"] {
        assert_eq!(wait_state(&daemon, stream, "running")["lane"], "cuda");
    }
    let process = daemon.id();
    assert!(daemon.stop().success());
    (0..2).for_each(|device| again.books(process).balance_of(device));
}
