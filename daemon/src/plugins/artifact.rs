//! Compiled code on disk: fences wasmtime's loading of machine code, which it cannot check.
//!
//! In: a file in the cache folder that the daemon's own compiler process wrote. Out: a component. The folder
//! and the file must belong to the daemon's user, and nobody else may write to them; a digest over the code
//! finds what a power cut or a bad disk did to it. Whatever does not fit is an error, and is compiled again.

#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// First bytes of a sealed file.
const MAGIC: &[u8; 8] = b"wpcode01";

/// Code with its digest before it.
pub(super) fn seal(code: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(MAGIC.len() + 32 + code.len());
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&Sha256::digest(code));
    sealed.extend_from_slice(code);
    sealed
}

/// Makes the cache folder, or checks that nobody else may write to the one that is there.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    ours(&fs::metadata(folder)?)
}

/// Loads compiled code from the cache folder.
pub(super) fn load(engine: &Engine, path: &Path) -> io::Result<Component> {
    if let Some(folder) = path.parent() {
        ours(&fs::metadata(folder)?)?;
    }
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file: File = fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    ours(&file.metadata()?)?;
    let mut sealed = Vec::new();
    file.read_to_end(&mut sealed)?;
    let spoiled = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let rest = sealed.strip_prefix(MAGIC).ok_or_else(|| spoiled("not written by this daemon"))?;
    let (digest, code) = rest.split_at_checked(32).ok_or_else(|| spoiled("cut off"))?;
    if Sha256::digest(code)[..] != *digest {
        return Err(spoiled("its digest does not match"));
    }
    // SAFETY: wasmtime requires that the bytes are what `precompile_component` gave, unchanged. They were
    // written by our own compiler process into a folder that only our user may write to (both checked above,
    // the file through the open descriptor), and the digest shows that they are whole. Version and settings of
    // the engine are checked by wasmtime itself.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| spoiled(&format!("{error:#}")))
}

fn ours(metadata: &fs::Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    if metadata.uid() != user {
        return refuse(format!("belongs to user {}, not to {user}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse(format!("others may write to it (mode {:o})", metadata.mode() & 0o7777));
    }
    Ok(())
}
