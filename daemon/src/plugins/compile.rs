//! Compiling a plugin, in a process that can be killed.
//!
//! In: the bytes of a component. Out: compiled code in the cache folder. The daemon starts its own binary with
//! a hidden subcommand; that process limits its own memory and CPU time before it looks at the bytes, and the
//! daemon kills it when its time is over. wasmtime bounds neither, and its own cache (`Config::cache`) would
//! compile inside the daemon whenever something is missing. The daemon owns the child and waits for its end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use super::artifact;
use super::engine;
use super::error::Error;
use crate::config::settings::Limits;

/// Name of the hidden subcommand.
pub const SUBCOMMAND: &str = "__compile";
/// Most of what the child says that is kept.
const WORDS: u64 = 8 << 10;

/// The program that compiles: the daemon's own binary and the arguments before its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// What comes before the output file on its command line.
    pub arguments: Vec<OsString>,
    /// Environment variables set beside its own.
    pub environment: Vec<(OsString, OsString)>,
}

impl Compiler {
    /// The running binary with [`SUBCOMMAND`].
    ///
    /// # Errors
    /// Where the system does not say which binary that is.
    pub fn own() -> io::Result<Self> {
        Ok(Self::of(std::env::current_exe()?))
    }

    /// A `watchpost` binary with [`SUBCOMMAND`].
    #[must_use]
    pub fn of(program: PathBuf) -> Self {
        Self { program, arguments: vec![SUBCOMMAND.into()], environment: Vec::new() }
    }
}

/// The child's side: reads a component from standard input, writes compiled code.
///
/// `arguments` are those after the subcommand: the output file, the CPU seconds, the memory in MiB. What goes
/// wrong is said on standard error.
#[must_use]
pub fn compile_child(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn child(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let [out, seconds, mib] = arguments.as_slice() else {
        return Err(format!("usage: watchpost {SUBCOMMAND} OUT CPU-SECONDS MEMORY-MIB < IN"));
    };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    let (Some(seconds), Some(mib)) = (number(seconds), number(mib)) else {
        return Err("CPU-SECONDS and MEMORY-MIB are whole numbers".into());
    };
    let limit = |resource, value| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, limit).map_err(|error| format!("no limit: {error}"))
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, seconds)?;
    limit(Resource::As, mib << 20)?;
    // Where the daemon dies, nobody waits for the result.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::nice(10);

    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|error| format!("reading: {error}"))?;
    let engine = wasmtime::Engine::new(&engine::config()).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
    fs::write(out, artifact::seal(&code)).map_err(|error| format!("writing: {error}"))
}

/// The daemon's side: compiles `bytes`, which came from `file`, into `out` through a child.
pub(super) fn compile(
    compiler: &Compiler,
    limits: &Limits,
    file: &Path,
    bytes: &[u8],
    out: &Path,
) -> Result<(), Error> {
    let folder = out.parent().unwrap_or(Path::new("."));
    let io = |error: io::Error| Error::io("compiling a plugin in", folder, &error);
    let failed = |reason: String| Error::Compile { file: file.to_owned(), reason };

    // An unlinked file: the child gets exactly the bytes that were hashed, whatever happens to the plugin's file.
    let mut input = tempfile::tempfile_in(folder).map_err(io)?;
    input.write_all(bytes).map_err(io)?;
    input.rewind().map_err(io)?;
    let made = tempfile::Builder::new().prefix(".compiling-").tempfile_in(folder).map_err(io)?;
    let mut words = tempfile::tempfile_in(folder).map_err(io)?;

    let mut child = Command::new(&compiler.program)
        .args(&compiler.arguments)
        .arg(made.path())
        .arg(limits.compile_seconds.to_string())
        .arg(limits.compile_mib.to_string())
        .envs(compiler.environment.iter().cloned())
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(words.try_clone().map_err(io)?))
        .spawn()
        .map_err(|error| {
            failed(format!("the compiler {} does not start: {error}", compiler.program.display()))
        })?;

    // The child writes nothing to its standard output: it closes when the child ends.
    let mut end = child.stdout.take();
    let (done, ended) = mpsc::channel();
    let waiter = std::thread::Builder::new()
        .name("plugin-compile".into())
        .spawn(move || {
            let _ = end.as_mut().map(|pipe| io::copy(pipe, &mut io::sink()));
            let _ = done.send(());
        })
        .map_err(io)?;
    let in_time = ended.recv_timeout(Duration::from_secs(limits.compile_seconds)).is_ok();
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().map_err(io)?;
    let _ = waiter.join();

    if !in_time || signal(status) == Some(Signal::XCPU.as_raw()) {
        return Err(failed(format!(
            "it takes more than {} s (limits.compile_seconds)",
            limits.compile_seconds
        )));
    }
    if !status.success() {
        let said = said(&mut words);
        let reason = if said.contains("memory allocation of") {
            format!("it takes more than {} MiB of memory (limits.compile_mib)", limits.compile_mib)
        } else if said.is_empty() {
            format!("the compiler ended with {status}")
        } else {
            said
        };
        return Err(failed(reason));
    }
    made.persist(out).map_err(|error| io(error.error))?;
    Ok(())
}

fn signal(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

fn said(words: &mut File) -> String {
    let mut text = Vec::new();
    let read = words.rewind().and_then(|()| words.take(WORDS).read_to_end(&mut text));
    read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&text).trim().to_owned())
}
