//! The CUDA lane under the software driver: device memory is host memory there, kernels run on the host, every call is
//! counted and may be made to fail. What the lane gives must be what the CPU lane gives.

#[path = "cuda/bundle.rs"]
mod bundle;
#[path = "cuda/check.rs"]
mod check;
#[path = "cuda/engines.rs"]
mod engines;
#[path = "cuda/failures.rs"]
mod failures;
#[path = "cuda/gpus.rs"]
mod gpus;
#[path = "cuda/same.rs"]
mod same;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::daemon::{Daemon, binary};
use serde_json::Value;
use watchpost::control::{Client, socket};

/// A rendered scene as H.264.
fn scene(folder: &Path, uri: &str) -> PathBuf {
    let out = folder.join("scene");
    let mut export = Command::new(binary());
    let done = export.args(["scene", "export", "--uri", uri, "--out"]).arg(&out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out.join("video.mp4")
}

/// The status of a stream; null while the daemon does not answer.
fn status(daemon: &Daemon, stream: &str) -> Value {
    let run = daemon.config().with_file_name("run");
    Client::connect(&socket(&run))
        .and_then(|mut control| control.call("status", serde_json::json!({}), LONG))
        .map_or(Value::Null, |all| all["streams"][stream].clone())
}

/// Waits until something is so, looking many times a second.
fn until(what: &str, daemon: &Daemon, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}:\n{}", daemon.log());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Waits until a stream is in a state; gives its status.
fn wait_state(daemon: &Daemon, stream: &str, state: &str) -> Value {
    let mut found = Value::Null;
    until(&format!("stream {stream} is {state}"), daemon, || {
        found = status(daemon, stream);
        found["state"] == state
    });
    found
}

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);
