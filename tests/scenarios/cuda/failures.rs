//! What goes wrong on a GPU: no driver, every call of it failing in turn, a lost device, a hundred starts and stops.

use std::path::Path;

use e2e::cuda::{Books, Soft};
use e2e::daemon::Daemon;
use serde_json::Value;
use watchpost::control::{Client, socket};

use super::{LONG, scene, status, until, wait_state};

const BOX: &str = "box.name = \"b\"\nmqtt.url = \"off\"\n\
                   models.people.path = \"people\"\nmodels.violence.path = \"violence\"\n";

fn config(lane: &str, streams: &str) -> String {
    format!("{BOX}accel.lane = \"{lane}\"\n{streams}")
}

fn stream(name: &str, source: &str) -> String {
    format!(
        "[streams.{name}]\nsource = \"{source}\"\nmodels.people = {{}}\nmodels.violence = {{}}\n\
         masks.m = {{ polygon = [[10, 10], [60, 10], [30, 70]] }}\n\
         outputs.small = {{ file = \"OUT/{name}.mp4\", size = \"320x180\", overlay = true }}\n"
    )
}

#[test]
fn without_a_driver_cuda_is_an_error_and_auto_says_why_it_takes_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let scene = "scene://people?seed=1&seconds=1&size=320x180";
    let asked = Daemon::start(folder.path(), &config("cuda", &format!("[streams.a]\nsource = \"{scene}\"")));
    asked.wait_for("no libcuda.so.1", LONG);
    let log = asked.log();
    assert!(!asked.stop().success() && log.contains("accel.lane"), "{log}");

    let streams =
        format!("[streams.a]\nsource = \"{scene}\"\n[streams.b]\nsource = \"{scene}\"\nlane = \"cuda\"");
    let daemon = Daemon::start(folder.path(), &config("auto", &streams));
    let good = wait_state(&daemon, "a", "ended");
    let why = good["lane_reason"].as_str().unwrap();
    assert!(good["lane"] == "cpu" && why.contains("no libcuda.so.1"), "{good}");
    let bad = wait_state(&daemon, "b", "failed");
    let error = bad["error"].as_str().unwrap();
    assert!(error.contains("lane \"cuda\" cannot start") && error.contains("doctor"), "{bad}");
    assert!(daemon.stop().success());
}

#[test]
fn a_driver_that_is_too_old_or_has_no_gpu_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let streams = "[streams.a]\nsource = \"scene://people?seed=1&seconds=1&size=320x180\"\n";
    for (variable, value, expected) in [
        ("WATCHPOST_SOFT_VERSION", "10020", "the NVIDIA driver is for CUDA 10.2"),
        ("WATCHPOST_SOFT_DEVICES", "0", "CUDA_ERROR_NO_DEVICE"),
    ] {
        let soft = Soft::new(folder.path()).with(variable, value);
        let daemon = Daemon::start_with(folder.path(), &config("auto", streams), &soft.environment());
        let ended = wait_state(&daemon, "a", "ended");
        let why = ended["lane_reason"].as_str().unwrap();
        assert!(ended["lane"] == "cpu" && why.contains(expected), "{ended}");
        assert!(daemon.stop().success());
    }
    let soft = Soft::new(folder.path());
    let streams = format!("{streams}gpu = 3\n");
    let daemon = Daemon::start_with(folder.path(), &config("auto", &streams), &soft.environment());
    let ended = wait_state(&daemon, "a", "ended");
    assert!(
        ended["lane_reason"].as_str().unwrap().contains("there is no GPU 3; the driver has 1"),
        "{ended}"
    );
    assert!(daemon.stop().success());
}

/// One run of a short video with a fault; the stream's last status, its log, the books.
fn with_fault(folder: &Path, video: &str, lane: &str, fault: &str) -> (Value, String, Books) {
    let soft = Soft::new(folder);
    let soft = if fault.is_empty() { soft } else { soft.with("WATCHPOST_SOFT_FAIL", fault) };
    let streams = stream("s", video).replace("OUT", &folder.display().to_string());
    let daemon = Daemon::start_with(folder, &config(lane, &streams), &soft.environment());
    let status = wait_state(&daemon, "s", "ended");
    let process = daemon.id();
    let (exit, log) = daemon.stop_with_log();
    assert!(exit.success(), "{fault}: {log}");
    assert!(!log.contains("panicked") && !log.contains("internal error"), "{fault}: {log}");
    (status, log, soft.books(process))
}

/// Calls that open the driver or a GPU: without them there is none, which `auto` says.
const OPENING: [&str; 11] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceTotalMem",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuModuleLoadData",
    "cuModuleGetFunction",
];
/// Calls that give something back: nobody can do anything about one that fails, and nothing stops for it.
const GIVING_BACK: [&str; 6] = [
    "cuDevicePrimaryCtxRelease",
    "cuModuleUnload",
    "cuStreamDestroy",
    "cuMemFreeHost",
    "cuEventDestroy",
    "cuMemFree",
];
/// Calls of GStreamer's plugin, which makes and destroys a context when its elements are looked for.
const GSTREAMER: [&str; 5] =
    ["cuCtxCreate", "cuCtxDestroy", "cuCtxPushCurrent", "cuCtxPopCurrent", "cuDeviceCanAccessPeer"];

#[test]
fn every_call_of_the_driver_may_fail() {
    let folder = tempfile::tempdir().unwrap();
    let video = scene(folder.path(), "scene://people?seed=2005&seconds=3&size=320x180&fps=12");
    let video = video.to_str().unwrap();
    let (good, log, books) = with_fault(folder.path(), video, "cuda", "");
    assert!(good["error"].is_null(), "{good}: {log}");
    books.balance();
    let mut tried = 0;
    for function in books.functions() {
        let name = function.trim_end_matches("_v2");
        if GSTREAMER.contains(&name) {
            continue;
        }
        tried += 1;
        if OPENING.contains(&name) {
            let (status, _, _) = with_fault(folder.path(), video, "auto", &format!("{name}:*=999"));
            let why = status["lane_reason"].as_str().unwrap();
            assert!(status["lane"] == "cpu" && why.starts_with("auto: "), "{name}: {status}");
            assert!(why.contains("CUDA_ERROR_UNKNOWN") || why.contains("no GPU"), "{name}: {why}");
            continue;
        }
        if GIVING_BACK.contains(&name) {
            let (status, log, _) = with_fault(folder.path(), video, "cuda", &format!("{name}:1=1"));
            assert!(status["error"].is_null(), "{name}: {status}");
            assert!(log.contains(name), "{name}: nobody says that it failed: {log}");
            continue;
        }
        // In the middle of the work where it is called often. A stream that stops comes back by itself.
        let calls = books.number(&format!("calls/{function}"));
        let code = if name.contains("Alloc") { 2 } else { 1 };
        let fault = format!("{name}:{}={code}", (calls / 2).max(1));
        let (status, log, books) = with_fault(folder.path(), video, "cuda", &fault);
        let said = if code == 2 { "CUDA_ERROR_OUT_OF_MEMORY" } else { "CUDA_ERROR_INVALID_VALUE" };
        assert_eq!(books.number("faults"), 1, "{fault} came: {}", books.0);
        assert!(log.contains(said) && log.contains(name), "{fault}: nobody says so: {log}");
        let error = status["error"].as_str().unwrap_or_default();
        assert!(error.contains(name) || log.contains("does not take something back"), "{fault}: {status}");
        books.balance();
    }
    assert!(tried >= 25, "only {tried} functions were tried: {:?}", books.functions());
}

#[test]
fn a_lost_gpu_ends_its_streams_and_then_the_daemon_while_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let live = "scene://people?seed=7&size=320x180&fps=12";
    let streams = format!(
        "{}{}lane = \"cpu\"\n",
        stream("gpu", live).replace("OUT", &folder.path().display().to_string()),
        format_args!("[streams.cpu]\nsource = \"{live}\"\nmodels.people = {{}}\n")
    );
    // CUDA_ERROR_LAUNCH_FAILED: the context is broken.
    let soft = Soft::new(folder.path()).with("WATCHPOST_SOFT_FAIL", "cuLaunchKernel:60=719");
    let daemon = Daemon::start_with(folder.path(), &config("cuda", &streams), &soft.environment());
    daemon.wait_for("a GPU is lost", LONG);
    let before = status(&daemon, "cpu")["frames"].as_u64().unwrap_or(0);
    let lost = wait_state(&daemon, "gpu", "failed");
    assert!(lost["error"].as_str().unwrap().contains("CUDA_ERROR_LAUNCH_FAILED"), "{lost}");
    until("the CPU stream goes on", &daemon, || {
        status(&daemon, "cpu")["frames"].as_u64().is_some_and(|now| now > before)
    });
    daemon.wait_for("stopped", LONG);
    let log = daemon.log();
    assert!(!daemon.stop().success(), "a service manager must start it again: {log}");
    assert!(!log.contains("panicked"), "{log}");

    let again = Soft::new(folder.path());
    let daemon = Daemon::start_with(folder.path(), &config("cuda", &streams), &again.environment());
    assert_eq!(wait_state(&daemon, "gpu", "running")["lane"], "cuda");
    assert!(!daemon.log().contains("crashed"), "a lost GPU is no crash: {}", daemon.log());
    assert!(daemon.stop().success());
}

#[test]
fn a_hundred_starts_and_stops_leak_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let streams = "[streams.s]\nsource = \"scene://people?seed=7&size=320x180&fps=60\"\nmodels.people = {}\n";
    let soft = Soft::new(folder.path());
    let daemon = Daemon::start_with(folder.path(), &config("cuda", streams), &soft.environment());
    wait_state(&daemon, "s", "running");
    let files = || std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    let mut after_ten = 0;
    for round in 0..100 {
        for command in ["disable", "enable"] {
            let mut control = Client::connect(&socket(&folder.path().join("run"))).unwrap();
            control.call(command, serde_json::json!({ "stream": "s" }), LONG).unwrap();
        }
        until("frames come", &daemon, || status(&daemon, "s")["frames"].as_u64() > Some(1));
        if round == 10 {
            wait_state(&daemon, "s", "running");
            after_ten = files();
        }
    }
    wait_state(&daemon, "s", "running");
    assert!(files() <= after_ten + 2, "{} files open, {after_ten} after ten rounds", files());
    let process = daemon.id();
    assert!(daemon.stop().success());
    let books = soft.books(process);
    books.balance();
    let peak = books.number("bytes/device_peak");
    assert!(peak < 64 << 20, "{peak} bytes of video memory at once");
    assert!(books.number("streams/created") >= 90, "{}", books.0);
}
