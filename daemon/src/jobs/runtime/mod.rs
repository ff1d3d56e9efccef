//! `watchpost runtime`: the GPU runtime, which is not in the package: ONNX Runtime with its CUDA and TensorRT providers,
//! CUDA's libraries, cuDNN.
//!
//! In: arguments, settings. Out: runtimes in `paths.state`/runtime, one of them in use from the next start of the
//! service on; text on stdout, progress on stderr. An administrator runs it, as root or as the service's user. Nothing
//! is used before it is there as a whole.

mod adopt;
mod download;
mod fetch;
mod index;
mod manifest;
mod progress;
mod record;
mod report;
mod source;
mod space;
mod store;
mod unpack;

use std::path::PathBuf;

use anyhow::Context;

use crate::config::Settings;
use crate::infer::{LIBRARY, version_of};

pub use adopt::AdoptArgs;
pub use fetch::FetchArgs;
pub use record::{FileRecord, Kind, Record};
pub use store::Store;

use manifest::Manifest;

/// Arguments of `watchpost runtime`.
#[derive(Debug, Clone, clap::Args)]
pub struct RuntimeArgs {
    /// Configuration, for `paths.state` and `runtime.from`; default: /etc/watchpost/watchpost.toml where there is one
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: RuntimeCommand,
}

/// What to do with runtimes.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum RuntimeCommand {
    /// Show the runtimes of this box, and those that can be fetched.
    List {
        /// Manifest with pinned archives, instead of the one in this program
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a runtime: pinned archives from a package index or a folder; goes on where an earlier try ended.
    Fetch(FetchArgs),
    /// Make a runtime out of libraries that are on this machine: a Python environment, /usr/lib, /usr/local/cuda.
    Adopt(AdoptArgs),
    /// Choose the runtime that the daemon loads; `system`: the installed library.
    Use {
        /// The runtime's name, or `system`
        name: String,
    },
    /// Remove a runtime, or what there is of an unfinished one.
    Remove {
        /// The runtime's name
        name: String,
    },
    /// Check every file of the runtimes against what was recorded, and that ONNX Runtime loads.
    Verify {
        /// Which; default: all
        names: Vec<String>,
    },
}

impl RuntimeCommand {
    /// Whether it changes nothing.
    #[must_use]
    pub fn only_prints(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Verify { .. })
    }
}

/// Does it.
///
/// # Errors
/// Whatever stands in its way, and what to do.
pub fn run(command: &RuntimeCommand, settings: &Settings) -> anyhow::Result<()> {
    let store = Store::new(&settings.paths.state);
    match command {
        RuntimeCommand::List { manifest, json } => {
            report::list(&store, &Manifest::load(manifest.as_deref())?, *json)
        }
        RuntimeCommand::Fetch(args) => {
            let record = fetch::fetch(&store, args, settings.runtime.from.as_deref())?;
            made(&store, &record, args.use_, settings)
        }
        RuntimeCommand::Adopt(args) => {
            let record = adopt::adopt(&store, args)?;
            made(&store, &record, args.use_, settings)
        }
        RuntimeCommand::Use { name } => choose(&store, name, settings),
        RuntimeCommand::Remove { name } => {
            store.remove(&store.lock()?, name)?;
            println!("runtime {name} is removed");
            Ok(())
        }
        RuntimeCommand::Verify { names } => report::verify(&store, names),
    }
}

/// Says what has been made, and what it lacks; uses it where that was asked for.
fn made(store: &Store, record: &Record, use_: bool, settings: &Settings) -> anyhow::Result<()> {
    println!(
        "runtime {}: ONNX Runtime {}, {}, in {}",
        record.name,
        record.onnxruntime,
        record.extent(),
        store.path(&record.name).display()
    );
    report::print_providers(&report::providers(store, &record.name), "  ");
    if use_ {
        return choose(store, &record.name, settings);
    }
    if store.current().as_deref() != Some(record.name.as_str()) {
        println!("It is not in use yet: `watchpost runtime use {}`", record.name);
    }
    Ok(())
}

/// Makes a runtime the one in use, after trying that its library loads.
fn choose(store: &Store, name: &str, settings: &Settings) -> anyhow::Result<()> {
    let lock = store.lock()?;
    if name == "system" {
        store.set_current(&lock, None)?;
        println!("the installed ONNX Runtime is used from the next start on");
    } else {
        store.record(name)?;
        let library = store.path(name).join(LIBRARY);
        version_of(&library).map_err(|why| anyhow::anyhow!("{} {why}", library.display())).with_context(
            || format!("runtime {name} cannot be used; `watchpost runtime verify {name}` says more"),
        )?;
        store.set_current(&lock, Some(name))?;
        println!("runtime {name} is used from the next start on");
    }
    println!("  (systemctl restart watchpost)");
    if let Some(library) = &settings.infer.library {
        println!("  but `infer.library` names {}, and wins", library.display());
    }
    Ok(())
}
