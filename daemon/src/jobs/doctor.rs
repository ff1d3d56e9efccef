//! `watchpost doctor`: what this box can do, and why not more.
//!
//! In: a configuration, or none. Out: a line for each thing looked at, with what to do where something is missing; an
//! error where the configured streams cannot run. Things are tried and not looked up: libraries are loaded, frames are
//! decoded and encoded, providers registered, sources opened, the broker logged in to. What could not be tried says so.
//! What may crash or hang, which is all that asks a driver or somebody else's library, runs in processes of their own
//! ([`part`]); a crash there is a finding.

mod child;
mod codec;
mod finding;
mod gpu;
mod machine;
mod models;
mod network;
mod nvenc;
mod plugins;
mod report;
mod runtime;
mod source;
mod tries;
mod video;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::config::Settings;
use crate::config::settings::Stream;
use crate::control::{self, Client, socket};
use child::Children;
use report::Report;
use tries::Tries;

pub use child::{Part, PartArgs};
pub use finding::{Finding, Verdict};

/// Name of the hidden command that tries a part.
pub const PART_COMMAND: &str = "__doctor";
/// Sources that are opened at once.
const AT_ONCE: usize = 8;

/// Where the settings are from.
#[derive(Debug)]
pub enum Given {
    /// The file and what is beside it.
    Read,
    /// There is no such file yet: they are the defaults.
    None,
    /// It is wrong: they are the defaults.
    Wrong(anyhow::Error),
}

/// What the doctor is told.
#[derive(Debug)]
pub struct Patient<'a> {
    /// The main file of the configuration.
    pub file: &'a Path,
    /// What it says.
    pub settings: Settings,
    /// Where that is from.
    pub given: Given,
}

/// Looks at everything.
///
/// # Errors
/// Where the configured streams cannot run, or the configuration is wrong.
pub fn run(patient: Patient<'_>, json: bool) -> anyhow::Result<()> {
    let Patient { file, settings, given } = patient;
    let mut report = Report::new(json);
    let streams = enabled(&settings, |_| true);
    report.add(configuration(file, &settings, &streams, &given));
    let (daemon, found) = daemon(&settings);
    // One that cannot be asked may run as well.
    let busy = daemon.is_some() || found.verdict != Verdict::Good;
    report.add(found);
    report.extend(machine::look(&settings));
    let program = std::env::current_exe().context("the own binary cannot be found")?;
    let patience = child::PATIENCE;
    let mut children = Children { program, config: file, driver: false, busy, patience };
    report.extend(children.run(Part::Gpu, "", &[]));
    children.driver = report.has("GPU driver");
    report.extend(video(&children));
    report.extend(children.run(Part::Models, "", &[]));
    report.extend(plugins::look(&settings));
    report.extend(network::look(&settings, busy));
    report.extend(sources(&children, &streams, daemon.as_ref())?);
    report.finish(&streams);
    if let Given::Wrong(error) = given {
        return Err(error);
    }
    if !report.can_run() {
        let names = report.stopped(&streams).join(", ");
        let which = if names.is_empty() {
            "the daemon cannot run".to_owned()
        } else {
            format!("cannot run: {names}")
        };
        bail!("{which}; the lines marked WRONG say why");
    }
    Ok(())
}

/// The hidden command: tries one part, in a process of its own.
pub fn part(settings: &Settings, arguments: &PartArgs) {
    child::settle_in();
    let mut tries = Tries::from(arguments.from);
    match arguments.part {
        Part::Gpu => gpu::look(&mut tries, settings),
        Part::Video => {
            let streams = enabled(settings, |stream| !stream.source.starts_with("scene:"));
            video::look(&mut tries, &streams, arguments.driver, arguments.busy);
        }
        Part::Models => models::look(&mut tries, settings, arguments.driver),
        Part::Source => source::look(&mut tries, settings, &arguments.stream, arguments.driver),
    }
    tries.end();
}

/// Names of the enabled streams of a kind.
fn enabled(settings: &Settings, kind: impl Fn(&Stream) -> bool) -> Vec<String> {
    let all = settings.streams.iter().filter(|(_, stream)| stream.enabled && kind(stream));
    all.map(|(name, _)| name.clone()).collect()
}

fn configuration(file: &Path, settings: &Settings, streams: &[String], given: &Given) -> Finding {
    match given {
        Given::Read => {
            let models = settings.models.len();
            Finding::good(
                "configuration",
                format!("{}: {} streams, {models} models", file.display(), streams.len()),
            )
        }
        Given::None => {
            let fix = "write one, or drop a file into conf.d beside it; docs/configuration.md has every key";
            Finding::limited("configuration", format!("{}: not there yet", file.display()), fix)
        }
        Given::Wrong(error) => Finding::wrong(
            "configuration",
            format!("{error:#}"),
            "mend it; `watchpost check` looks again",
            &[],
        ),
    }
}

/// What the running daemon says of itself, where one runs.
fn daemon(settings: &Settings) -> (Option<Value>, Finding) {
    let what = "daemon";
    let mut client = match Client::connect(&socket(&settings.paths.run)) {
        Ok(client) => client,
        Err(error @ control::Error::Denied(_)) => return (None, Finding::untried(what, error.to_string())),
        Err(_) => return (None, Finding::good(what, "does not run with this configuration")),
    };
    match client.call("status", Value::Null, Duration::from_secs(5)) {
        Ok(status) => {
            let found = format!("runs since {}", status["since"].as_str().unwrap_or("?"));
            (Some(status), Finding::good(what, found))
        }
        Err(error) => (None, Finding::limited(what, error.to_string(), "systemctl restart watchpost")),
    }
}

/// GStreamer keeps a list of what its plugins have. One that was made before the driver came has nothing of the GPU's:
/// then a second look, with a list made anew, shows what the box could do.
fn video(children: &Children<'_>) -> Vec<Finding> {
    let nothing = |findings: &[Finding]| findings.iter().any(|finding| finding.what == video::NO_ELEMENTS);
    let first = children.run(Part::Video, "", &[]);
    if !nothing(&first) {
        return first;
    }
    let Ok(folder) = tempfile::tempdir() else { return first };
    let fresh = folder.path().join("registry");
    let mut second = children.run(Part::Video, "", &[("GST_REGISTRY", &fresh)]);
    if nothing(&second) {
        return first;
    }
    let stale = registry();
    let found =
        format!("its list of plugins, {stale}, is older than the driver: nothing of the GPU is in it");
    let fix = format!("rm {stale}, as the user that the daemon runs as; then restart it");
    second.push(Finding::limited("GStreamer", found, fix));
    second
}

/// Where GStreamer keeps its list, as far as that can be said without asking it.
fn registry() -> String {
    let named = ["GST_REGISTRY_1_0", "GST_REGISTRY"].iter().find_map(std::env::var_os);
    named.map_or_else(
        || format!("~/.cache/gstreamer-1.0/registry.{}.bin", std::env::consts::ARCH),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// Opens the sources, several at once: cameras that are away take long to say so. One that the running daemon has open
/// is left to it, since some cameras serve only one or two readers.
fn sources(
    children: &Children<'_>,
    streams: &[String],
    daemon: Option<&Value>,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut closed = Vec::new();
    for name in streams {
        match daemon.map(|status| &status["streams"][name]).filter(|stream| stream["state"] == "running") {
            Some(stream) => {
                let text = |key: &str| stream[key].as_str().unwrap_or("?").to_owned();
                let found = format!(
                    "{name}: {}: open in the daemon, {} at {} fps",
                    text("source"),
                    text("size"),
                    stream["fps"]
                );
                findings.push(Finding::good("source", found));
            }
            None => closed.push(name),
        }
    }
    for some in closed.chunks(AT_ONCE) {
        let opened = std::thread::scope(|scope| {
            let threads: Vec<_> =
                some.iter().map(|name| scope.spawn(|| children.run(Part::Source, name, &[]))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
        });
        let opened = opened.map_err(|_| anyhow::anyhow!("a thread that opens a source panicked"))?;
        findings.extend(opened.into_iter().flatten());
    }
    Ok(findings)
}
