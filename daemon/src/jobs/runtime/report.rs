//! `watchpost runtime list` and `verify`: what there is, and whether it is as it was.
//!
//! In: the store, a manifest. Out: text or JSON on stdout. A runtime whose record cannot be read is listed with that;
//! `verify` fails where anything is wrong.

use anyhow::bail;
use serde::Serialize;

use super::manifest::Manifest;
use super::progress::{self, bytes};
use super::record::{Kind, Record};
use super::store::Store;
use crate::infer::libraries::Shelf;
use crate::infer::{LIBRARY, Provider, Readiness, readiness, version_of};

/// What `list` shows.
#[derive(Debug, Serialize)]
struct Listing {
    folder: std::path::PathBuf,
    current: Option<String>,
    installed: Vec<Installed>,
    unfinished: Vec<String>,
    available: Vec<Available>,
}

#[derive(Debug, Serialize)]
struct Installed {
    name: String,
    current: bool,
    onnxruntime: Option<String>,
    kind: Option<Kind>,
    made: Option<String>,
    bytes: Option<u64>,
    providers: Vec<ProviderState>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Available {
    name: String,
    summary: String,
    default: bool,
    download_bytes: u64,
    bytes: u64,
}

/// A provider of a runtime, as files say.
#[derive(Debug, Serialize)]
pub struct ProviderState {
    provider: String,
    state: State,
    /// Files that are not there.
    missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ready,
    Missing,
    /// This ONNX Runtime is without it.
    Absent,
}

/// What a runtime's providers lack.
#[must_use]
pub fn providers(store: &Store, name: &str) -> Vec<ProviderState> {
    let folder = store.path(name);
    let shelf = Shelf::new(std::slice::from_ref(&folder), 0);
    let of = |provider| {
        let (state, missing) = match readiness(provider, &folder, &shelf) {
            Readiness::Ready => (State::Ready, Vec::new()),
            Readiness::Missing(missing) => (State::Missing, missing),
            Readiness::Absent(missing) => (State::Absent, missing),
        };
        ProviderState { provider: provider.to_string(), state, missing }
    };
    [Provider::Cuda, Provider::TensorRt].map(of).into()
}

/// One line a provider.
pub fn print_providers(states: &[ProviderState], indent: &str) {
    for ProviderState { provider, state, missing } in states {
        let missing_names = missing.join(", ");
        match state {
            State::Ready => println!("{indent}{provider}: all libraries are there"),
            State::Missing => println!("{indent}{provider}: missing {missing_names}{}", hint(missing)),
            State::Absent => println!("{indent}{provider}: not in this ONNX Runtime (no {missing_names})"),
        }
    }
}

fn hint(missing: &[String]) -> &'static str {
    if missing.iter().any(|name| name.starts_with("libcuda.so")) {
        " (libcuda.so.1 comes with NVIDIA's driver)"
    } else if missing.iter().any(|name| name.starts_with("libnvinfer") || name.starts_with("libnvonnxparser"))
    {
        " (TensorRT: install it, then adopt it together with this runtime)"
    } else {
        ""
    }
}

/// `watchpost runtime list`.
///
/// # Errors
/// Where the folder or the manifest cannot be read.
pub fn list(store: &Store, manifest: &Manifest, json: bool) -> anyhow::Result<()> {
    let current = store.current();
    let installed =
        store.installed()?.into_iter().map(|name| installed(store, name, current.as_deref())).collect();
    let available = manifest.runtimes.iter().filter(|(_, runtime)| runtime.machine == std::env::consts::ARCH);
    let available = available.map(|(name, runtime)| {
        let archives = || runtime.archives.iter().filter_map(|name| manifest.archives.get(name));
        Available {
            name: name.clone(),
            summary: runtime.summary.clone(),
            default: *name == manifest.default,
            download_bytes: archives().map(|archive| archive.size).sum(),
            bytes: archives().map(|archive| archive.unpacked).sum(),
        }
    });
    let listing = Listing {
        folder: store.folder().to_path_buf(),
        current,
        installed,
        unfinished: store.unfinished()?,
        available: available.collect(),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&listing)?);
    } else {
        print(&listing);
    }
    Ok(())
}

fn installed(store: &Store, name: String, current: Option<&str>) -> Installed {
    let record = store.record(&name);
    let providers = providers(store, &name);
    let current = current == Some(name.as_str());
    match record {
        Ok(record) => Installed {
            name,
            current,
            bytes: Some(record.size()),
            onnxruntime: Some(record.onnxruntime),
            kind: Some(record.kind),
            made: Some(record.made),
            providers,
            error: None,
        },
        Err(error) => Installed {
            name,
            current,
            onnxruntime: None,
            kind: None,
            made: None,
            bytes: None,
            providers,
            error: Some(format!("{error:#}")),
        },
    }
}

fn print(listing: &Listing) {
    println!("In {}:", listing.folder.display());
    if listing.installed.is_empty() {
        println!("  nothing; the installed ONNX Runtime is used");
    }
    for runtime in &listing.installed {
        let used = if runtime.current { "in use" } else { "" };
        let kind = match runtime.kind {
            Some(Kind::Fetched) => "fetched",
            Some(Kind::Linked) => "links",
            Some(Kind::Copied) => "copies",
            None => "unknown",
        };
        let size = runtime.bytes.map(bytes).unwrap_or_default();
        let version = runtime.onnxruntime.as_deref().unwrap_or("?");
        println!("  {:<24} {used:<7} ONNX Runtime {version}, {kind}, {size}", runtime.name);
        if let Some(error) = &runtime.error {
            println!("    WRONG  {error}");
        }
        print_providers(&runtime.providers, "    ");
    }
    if let Some(gone) =
        listing.current.as_ref().filter(|name| !listing.installed.iter().any(|r| r.name == **name))
    {
        println!(
            "  WRONG  {gone} is in use, but is not there; `watchpost runtime use` another one, or `system`"
        );
    }
    for name in &listing.unfinished {
        println!(
            "  {name:<24} unfinished; `watchpost runtime fetch {name}` goes on, `remove` throws it away"
        );
    }
    println!("Can be fetched (`watchpost runtime fetch NAME --from URL`):");
    for runtime in &listing.available {
        let default = if runtime.default { " (default)" } else { "" };
        println!("  {}{default}: {}", runtime.name, runtime.summary);
        println!("    {} to fetch, {} on disk", bytes(runtime.download_bytes), bytes(runtime.bytes));
    }
    println!("TensorRT is not fetched: it is adopted (docs/gpu.md).");
}

/// `watchpost runtime verify`: every file against its record, and whether ONNX Runtime loads.
///
/// # Errors
/// Where one is not as it was; all of them are said.
pub fn verify(store: &Store, names: &[String]) -> anyhow::Result<()> {
    let names = if names.is_empty() { store.installed()? } else { names.to_vec() };
    if names.is_empty() {
        println!("nothing to verify in {}", store.folder().display());
    }
    let mut wrong = 0;
    for name in &names {
        let record = store.record(name)?;
        let problems = check(store, &record);
        if problems.is_empty() {
            println!("ok     {name}: {}", record.extent());
        }
        for problem in &problems {
            println!("WRONG  {name}: {problem}");
        }
        print_providers(&providers(store, name), "       ");
        wrong += usize::from(!problems.is_empty());
    }
    if wrong > 0 {
        bail!(
            "{wrong} of {} runtimes are not as they were; fetch or adopt them again with --replace",
            names.len()
        );
    }
    Ok(())
}

fn check(store: &Store, record: &Record) -> Vec<String> {
    let folder = store.path(&record.name);
    let bar = progress::bar(&format!("reading {}", record.name), record.size());
    let mut problems: Vec<String> = record
        .files
        .iter()
        .filter_map(|file| {
            let problem = record.check(&folder, file, |bytes| bar.inc(bytes))?;
            Some(format!("{} {problem}", file.name))
        })
        .collect();
    bar.finish_and_clear();
    if problems.is_empty()
        && let Err(why) = version_of(&folder.join(LIBRARY))
    {
        problems.push(format!("{LIBRARY} {why}"));
    }
    problems
}
