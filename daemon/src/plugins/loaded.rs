//! A plugin file that was read, compiled and checked against the world: ready to make instances of.
//!
//! In: a file. Out: [`Loaded`], shared by all its instances, or an [`Error`] that names the file and the
//! reason. Owned by whoever holds the `Arc`; the catalogue keeps the newest good one of each name.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::artifact;
use super::bindings::contract::exports::watchpost::plugin as exports;
use super::bindings::{contract, inert};
use super::compile;
use super::descriptor::Descriptor;
use super::error::Error;
use super::guest::Guest;
use super::instance::Instance;
use super::shared::Shared;

/// A plugin, compiled and checked.
pub(super) struct Loaded {
    pub file: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub hash: String,
    pub descriptor: Descriptor,
    pub pre: InstancePre<Guest>,
    pub exports: Exports,
}

/// Which interfaces of the contract a component exports.
#[derive(Clone)]
pub(super) struct Exports {
    pub plugin: exports::plugin::GuestIndices,
    pub signals: Option<exports::signals::GuestIndices>,
    pub state: Option<exports::state::GuestIndices>,
    pub commands: Option<exports::commands::GuestIndices>,
}

/// What the host offers to every plugin.
pub(super) fn linker(engine: &wasmtime::Engine) -> Result<Linker<Guest>, Error> {
    let mut linker = Linker::new(engine);
    let add = |linker: &mut Linker<Guest>| {
        contract::Full::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
        inert::Inert::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
    };
    add(&mut linker).map_err(|error: wasmtime::Error| Error::Engine { reason: format!("{error:#}") })?;
    Ok(linker)
}

/// Reads a plugin's file once, within the limit.
pub(super) fn read(file: &Path, limit_mib: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |reason: String| Error::Unreadable { file: file.to_owned(), reason };
    // Opening a pipe for reading would wait for a writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(file).map_err(|error| {
        let circle = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        let hint = match error.kind() {
            _ if circle => "; a symbolic link that leads in a circle",
            std::io::ErrorKind::PermissionDenied => "; the daemon's user must be able to read it (chmod a+r)",
            std::io::ErrorKind::NotFound => "; a symbolic link that leads nowhere?",
            _ => "",
        };
        unreadable(format!("{error}{hint}"))
    })?;
    let metadata = open.metadata().map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("it is a folder; a plugin is a file".into()));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".into()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(unreadable("anybody may write to it; take that right away (chmod o-w)".into()));
    }
    let limit = limit_mib << 20;
    let too_large = |size| Error::TooLarge { file: file.to_owned(), size, limit_mib };
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    open.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// SHA-256, hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Loaded {
    /// Compiles a plugin's bytes, or takes the code from the cache, and checks it against the world.
    pub(super) fn new(shared: &Arc<Shared>, file: &Path, bytes: &[u8]) -> Result<Self, Error> {
        sniff(file, bytes)?;
        let hash = hash(bytes);
        let component = component(shared, file, bytes, &hash)?;
        imports(shared, file, &component)?;
        let world = |reason: String| Error::World { file: file.to_owned(), reason };
        let pre = shared
            .linker
            .instantiate_pre(&component)
            .map_err(|error| world(format!("an import does not fit: {error:#}")))?;
        let exports = probe(&shared.engine.wasm, &pre).map_err(world)?;
        let mut loaded =
            Self { file: file.to_owned(), hash, descriptor: Descriptor::default(), pre, exports };
        loaded.descriptor = Instance::describe(shared, &loaded)?;
        Ok(loaded)
    }
}

/// Says what a file is that is no component.
fn sniff(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let precompiled = |found: &str| Err(Error::Precompiled { file: file.to_owned(), found: found.into() });
    let other = |found: &str| Err(Error::NotComponent { file: file.to_owned(), found: found.into() });
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return precompiled("wasmtime's");
    }
    match bytes {
        [] => other("empty"),
        [b'\0', b'a', b's', b'm', 0x0d, _, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => other("a WebAssembly core module"),
        [b'\0', b'a', b's', b'm', ..] => other("WebAssembly of a kind that this host does not know"),
        [0x7f, b'E', b'L', b'F', ..] => precompiled("ELF"),
        _ if bytes.starts_with(b"wpcode") => precompiled("from the cache"),
        _ => other("something else"),
    }
}

/// Compiled code from the cache, or compiled now.
fn component(shared: &Shared, file: &Path, bytes: &[u8], hash: &str) -> Result<Component, Error> {
    let engine = &shared.engine.wasm;
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    env!("CARGO_PKG_VERSION").hash(&mut settings);
    let cached = shared.cache.join(format!("{hash}-{:016x}", settings.finish()));
    match artifact::load(engine, &cached) {
        Ok(component) => return Ok(component),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %cached.display(), %error, "compiled code is not usable, compiling again");
        }
    }
    let begun = std::time::Instant::now();
    compile::compile(&shared.compiler, &shared.limits.get().0, file, bytes, &cached)?;
    tracing::info!(path = %file.display(), seconds = begun.elapsed().as_secs_f32(), "compiled a plugin");
    artifact::load(engine, &cached).map_err(|error| Error::io("loading compiled code from", &cached, &error))
}

/// Refuses what no plugin gets, by name, before the linker does so less clearly.
fn imports(shared: &Shared, file: &Path, component: &Component) -> Result<(), Error> {
    let mut refused: Option<(&str, &str)> = None;
    let kind = component.component_type();
    for (name, _) in kind.imports(&shared.engine.wasm) {
        let interface = name.split('@').next().unwrap_or(name);
        let reason = match interface {
            "watchpost:plugin/host" | "watchpost:plugin/types" => continue,
            _ if interface.starts_with("watchpost:plugin/") => "the host offers no such interface",
            _ if interface.starts_with("wasi:filesystem/") => "plugins have no files",
            _ if interface.starts_with("wasi:sockets/") => "plugins have no network",
            _ if interface.starts_with("wasi:http/") => "plugins have no network",
            "wasi:clocks/monotonic-clock" | "wasi:clocks/wall-clock" => continue,
            _ if ["wasi:cli/", "wasi:io/", "wasi:random/"]
                .iter()
                .any(|known| interface.starts_with(known)) =>
            {
                continue;
            }
            _ => "it is not part of the plugin contract",
        };
        // Rust's sockets bring the file system's types along: the network is what such a plugin wants.
        if refused.is_none() || reason == "plugins have no network" {
            refused = Some((name, reason));
        }
    }
    match refused {
        Some((import, reason)) => {
            Err(Error::Import { file: file.to_owned(), import: import.into(), reason: reason.into() })
        }
        None => Ok(()),
    }
}

fn probe(engine: &wasmtime::Engine, pre: &InstancePre<Guest>) -> Result<Exports, String> {
    let component = pre.component();
    let has = |name: &str| component.get_export_index(None, name).is_some();
    if !has("watchpost:plugin/plugin@0.1.0") {
        let found: Vec<_> =
            component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
        let other = found.iter().find(|name| name.starts_with("watchpost:plugin/plugin@"));
        return Err(match other {
            Some(name) => format!("it exports {name}, this host knows watchpost:plugin/plugin@0.1.0"),
            None if found.is_empty() => {
                "it exports nothing; a plugin exports watchpost:plugin/plugin@0.1.0".into()
            }
            None => format!("it exports {} and not watchpost:plugin/plugin@0.1.0", found.join(", ")),
        });
    }
    let text = |error: wasmtime::Error| format!("{error:#}");
    let signals = has("watchpost:plugin/signals@0.1.0");
    let state = has("watchpost:plugin/state@0.1.0");
    let commands = has("watchpost:plugin/commands@0.1.0");
    Ok(Exports {
        plugin: exports::plugin::GuestIndices::new(pre).map_err(text)?,
        signals: signals.then(|| exports::signals::GuestIndices::new(pre)).transpose().map_err(text)?,
        state: state.then(|| exports::state::GuestIndices::new(pre)).transpose().map_err(text)?,
        commands: commands.then(|| exports::commands::GuestIndices::new(pre)).transpose().map_err(text)?,
    })
}
