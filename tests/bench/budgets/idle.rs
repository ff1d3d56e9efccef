//! What a further idle stream of 720p costs in memory.
//!
//! In: a rendered 720p video on an RTSP server, played by one stream without models, then by five. Out: one line: the
//! difference divided by four. The daemon's memory is looked at once it no longer grows, its rings of packets full.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::daemon::Daemon;
use e2e::rtsp::RtspServer;
use watchpost::jobs::scene::{ExportOptions, export};
use watchpost::scene::SceneSpec;

use crate::figures::line;
use crate::process::memory;

const FURTHER: usize = 4;
/// Two looks at the memory lie so far apart; three that differ by less than [`STILL`] MB end the wait.
const LOOK: Duration = Duration::from_secs(3);
const STILL: f64 = 0.5;
/// The rings hold ten seconds: no look before counts.
const FILL: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures and prints.
pub fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let quiet = ExportOptions { progress: false, ..ExportOptions::default() };
    let scene = SceneSpec::parse("scene://people?seed=1&size=1280x720&fps=25&seconds=4")?;
    let video = export(&scene, folder.path(), &quiet)?.video;
    let camera = RtspServer::serve(&video);
    let one = running(&folder.path().join("one"), &camera, 1)?;
    let five = running(&folder.path().join("five"), &camera, 1 + FURTHER)?;
    let each = |one: f64, five: f64| (five - one) / FURTHER as f64;
    line("memory of a further idle 720p stream", each(one.0, five.0), 40.0, "MB", || {
        format!(
            "{:.1} MB of it are the process's own, the rest pages of files; a decoded frame is 1.4 MB",
            each(one.1, five.1)
        )
    });
    println!("    PSS with 1 stream {:.1} MB, with {} {:.1} MB", one.0, 1 + FURTHER, five.0);
    Ok(())
}

/// Memory with so many streams, in MB: all, and what is not of files.
fn running(folder: &Path, camera: &RtspServer, streams: usize) -> anyhow::Result<(f64, f64)> {
    std::fs::create_dir_all(folder)?;
    let mut config = String::from("box.name = \"bench\"\nmqtt.url = \"off\"\n");
    for stream in 0..streams {
        config += &format!("[streams.s{stream}]\nsource = \"{}\"\n", camera.url("/main"));
    }
    let daemon = Daemon::start(folder, &config);
    daemon.wait_ready();
    let ready = format!("running={streams}");
    ensure!(daemon.log().contains(&ready), "not every stream runs:\n{}", daemon.log());
    let begun = Instant::now();
    let mut looks: Vec<(f64, f64)> = Vec::new();
    while begun.elapsed() < PATIENCE {
        std::thread::park_timeout(LOOK);
        if begun.elapsed() < FILL {
            continue;
        }
        looks.push(memory(daemon.id())?);
        if let [.., a, b, c] = looks.as_slice()
            && a.0.max(b.0).max(c.0) - a.0.min(b.0).min(c.0) < STILL
        {
            break;
        }
    }
    let last = looks.last().copied().unwrap_or_default();
    ensure!(daemon.stop().success(), "the daemon did not stop cleanly");
    Ok(last)
}
