//! The process that builds an engine.
//!
//! In: a folder as its argument, an order on its standard input. Out: TensorRT's engine in the folder; lines of JSON on
//! the standard output, the last of which says how it went. It belongs to the daemon's thread that started it, and is
//! killed with it. What goes wrong is said in ONNX Runtime's words.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use super::{ENGINE_SUBCOMMAND, EngineOrder, Said};
use crate::infer::cuda::{BoundOptions, BoundSession};
use crate::infer::{ModelDir, Provider, Runtime};

/// How often it says that it is at work.
const TICK: Duration = Duration::from_secs(2);

/// The child's side. `arguments` are those after the subcommand: the folder to build in.
#[must_use]
pub fn build_child(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let built = match arguments.as_slice() {
        [folder] => ticking(|| build(Path::new(folder))),
        _ => Err(format!("usage: watchpost {ENGINE_SUBCOMMAND} FOLDER < ORDER")),
    };
    let code = if built.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    say(&built.map_or_else(Said::Failed, |()| Said::Done));
    code
}

fn build(folder: &Path) -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    // Where the daemon dies, nobody waits for the engine.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::nice(10);

    let mut order = String::new();
    io::stdin().lock().read_to_string(&mut order).map_err(|error| format!("reading the order: {error}"))?;
    let order: EngineOrder =
        serde_json::from_str(&order).map_err(|error| format!("the order is wrong: {error}"))?;
    let runtime = Runtime::load(Some(&order.library)).map_err(|error| error.to_string())?;
    let model = ModelDir::open(&order.model)
        .and_then(|model| model.in_numbers(order.precision))
        .map_err(|error| error.to_string())?;
    let options = BoundOptions {
        provider: Provider::TensorRt,
        device_index: order.device_index,
        batch: order.batch,
        slots: 1,
        engine: Some(folder.to_owned()),
        ..BoundOptions::default()
    };
    // The session's trial run has the engine built, where opening has not.
    BoundSession::open(&runtime, &model, options).map(drop).map_err(|error| error.to_string())
}

/// Says every other second that it is at work, until it is done.
fn ticking(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::channel::<()>();
        let ticker = std::thread::Builder::new().name("alive".into()).spawn_scoped(scope, move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
                say(&Said::Alive);
            }
        });
        let result = work();
        drop(done);
        // Without a thread it builds in silence.
        let _ = ticker.map(std::thread::ScopedJoinHandle::join);
        result
    })
}

/// Whoever does not listen is not waited for.
fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        let mut output = io::stdout().lock();
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }
}
