//! How long the daemon takes from the start of its process to READY=1, its caches warm.
//!
//! In: the shipped models and plugins on one rendered stream, a broker, and a socket such as systemd's. Out: one
//! line, the median of five starts after a first one that fills the caches. Each daemon is stopped again.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::daemon::Daemon;
use e2e::mosquitto::Mosquitto;

use crate::figures::{line, median};

const STARTS: usize = 5;
const LONG: Duration = Duration::from_secs(60);

/// Measures and prints.
pub fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Mosquitto::start();
    let config = format!(
        "box.name = \"bench\"\nmqtt.url = \"{}\"\nmodels.people.path = \"people\"\nmodels.violence.path = \"violence\"\n\
         [streams.yard]\nsource = \"scene://people?seed=1&size=640x360&fps=25\"\nmodels.people = {{}}\nmodels.violence = {{}}\n\
         plugins.tracker = {{ order = 1 }}\nplugins.fights = {{ order = 2, use = \"violence-alert\" }}\n\
         plugins.follow = {{ order = 3, use = \"camera-framing\", mode = \"group\" }}\n",
        broker.url()
    );
    let (cold, _) = start(folder.path(), &config)?;
    let (mut times, mut log) = (Vec::new(), String::new());
    for _ in 0..STARTS {
        let (time, lines) = start(folder.path(), &config)?;
        times.push(time.as_secs_f64());
        log = lines;
    }
    line("start to READY=1, caches warm, median of 5", median(&times), 1.0, "s", || {
        format!("the five took {times:.2?} s; the last one's log:\n{log}")
    });
    println!("    the first start, which compiles the plugins, took {:.2} s", cold.as_secs_f64());
    Ok(())
}

/// One start and stop: how long until it said that it was ready, and what it logged until then.
fn start(folder: &Path, config: &str) -> anyhow::Result<(Duration, String)> {
    let path = folder.join("notify");
    // What an earlier start left.
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).context("a socket for notifications")?;
    socket.set_read_timeout(Some(LONG))?;
    let begun = Instant::now();
    let daemon = Daemon::start_with(folder, config, &[("NOTIFY_SOCKET", &path)]);
    let mut buffer = [0; 4096];
    loop {
        let count = socket.recv(&mut buffer).with_context(|| format!("no READY=1:\n{}", daemon.log()))?;
        if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == "READY=1") {
            break;
        }
    }
    let time = begun.elapsed();
    let log = daemon.log();
    ensure!(daemon.stop().success(), "the daemon did not stop cleanly:\n{log}");
    Ok((time, log))
}
