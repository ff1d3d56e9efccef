//! The plugin folders as they lie on the disk: which files want to be plugins, and what cannot be looked at.
//!
//! In: a folder. Out: its files, or why it cannot be read; stamps that tell one content of a file from another. Owned by
//! whoever asks; nothing is kept. A folder that is not there is empty; one that cannot be read is not: what was loaded
//! from it stays in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A folder of plugins, and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderInfo {
    /// The folder.
    pub folder: PathBuf,
    /// Whether it is there.
    pub present: bool,
    /// Why it cannot be read, and what to do.
    pub error: Option<String>,
}

/// Tells one content of a file from another; `Err`: it cannot be looked at, with the system's number for why.
pub(super) type Stamp = Result<(u64, u64, u64, i64, i64, i64, i64, u32), i32>;

/// Tells a folder from another one of the same name: also where the disk gave it the number of the one before.
pub(super) type Identity = Option<(u64, u64, Option<std::time::SystemTime>)>;

/// What lies in a folder.
pub(super) enum Look {
    /// These files want to be plugins.
    Files(Vec<PathBuf>),
    /// It is not there.
    Missing,
    /// It cannot be read.
    Unreadable(String),
}

/// Looks into a folder.
pub(super) fn look(folder: &Path) -> Look {
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; the daemon's user must be able to read it (chmod a+rx)",
            io::ErrorKind::NotADirectory => "; a folder is expected",
            _ => "",
        };
        Look::Unreadable(format!("{error}{hint}"))
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Look::Missing,
        Err(error) => return unreadable(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            // Half a list would look as if the other files were gone.
            Err(error) => return unreadable(error),
        }
    }
    files.retain(|path| wanted(path));
    Look::Files(files)
}

/// Hidden files, and those with more behind `.wasm`, are what tools write before they rename.
fn wanted(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|extension| extension == "wasm") && !hidden
}

/// The stamp of a file, or of what a symbolic link leads to.
pub(super) fn stamp(path: &Path) -> Stamp {
    let m = fs::metadata(path).map_err(|error| error.raw_os_error().unwrap_or(-1))?;
    Ok((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.mode()))
}

/// What stays of a stamp when a file gets another name.
pub(super) fn content(stamp: Stamp) -> Option<(u64, u64, u64, i64, i64)> {
    stamp.ok().map(|(dev, ino, size, mtime, nanos, ..)| (dev, ino, size, mtime, nanos))
}

/// Which folder this is; `None` where there is none.
pub(super) fn identity(folder: &Path) -> Identity {
    let metadata = fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

/// What a component lacks at its end, as the sizes of its own sections tell; `None`: it may be whole. A file that is
/// being copied is cut off somewhere in a section.
pub(super) fn cut_off(bytes: &[u8]) -> Option<String> {
    let total = bytes.len();
    if !bytes.is_empty() && bytes.len() < 8 && b"\0asm\x0d\0\x01\0".starts_with(bytes) {
        return Some(format!("it ends after {total} bytes, in its first eight"));
    }
    let mut rest = bytes.strip_prefix(b"\0asm")?.get(4..)?;
    while let Some((_, after)) = rest.split_first() {
        let at = total - rest.len();
        let Some((size, payload)) = leb128(after) else {
            return Some(format!("it ends after {total} bytes, in the head of a section at byte {at}"));
        };
        let Some(next) = usize::try_from(size).ok().and_then(|size| payload.get(size..)) else {
            let missing = size - payload.len() as u64;
            return Some(format!(
                "it has {total} bytes, and the section at byte {at} goes on for {missing} more"
            ));
        };
        rest = next;
    }
    None
}

/// A 32-bit number of at most five bytes, and what follows; `None` where the bytes end within it. One that is longer is
/// no number: the compiler says so better.
fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    (bytes.len() >= 5).then(|| (0, &bytes[5..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with a custom section of two bytes and one of two hundred.
    fn component() -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0\0\x02\x01x".to_vec();
        bytes.extend([0, 0xc8, 0x01, 1, b'y']);
        bytes.extend([7; 198]);
        bytes
    }

    #[test]
    fn every_cut_within_a_section_is_found_and_nothing_else() {
        let whole = component();
        assert_eq!(cut_off(&whole), None);
        for end in 1..whole.len() {
            // At these the file could be whole, as far as its own sizes tell.
            let boundary = matches!(end, 8 | 12);
            assert_eq!(cut_off(&whole[..end]).is_none(), boundary, "{end}");
        }
        let said = cut_off(&whole[..100]).unwrap();
        assert_eq!(said, "it has 100 bytes, and the section at byte 12 goes on for 115 more");
        assert_eq!(cut_off(b"#!/bin/sh\n"), None);
        assert_eq!(cut_off(b""), None);
    }

    #[test]
    fn hidden_and_temporary_names_are_left_alone() {
        for name in ["a.wasm", "two words.wasm", "tracker-1.2.0.wasm"] {
            assert!(wanted(Path::new(name)), "{name}");
        }
        for name in [
            ".a.wasm",
            ".a.wasm.Xb12",
            "a.wasm~",
            "a.wasm.part",
            "a.wasm.dpkg-new",
            "a.wasm.swp",
            "#a.wasm#",
            "a.cwasm",
            "a.WASM",
            "wasm",
        ] {
            assert!(!wanted(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_folder_is_there_missing_or_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("plugins");
        assert!(matches!(look(&at), Look::Missing));
        fs::write(&at, "a file").unwrap();
        assert!(matches!(look(&at), Look::Unreadable(error) if error.contains("a folder is expected")));
        fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink("plugins", &at).unwrap();
        assert!(matches!(look(&at), Look::Unreadable(_)), "a link to itself");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        fs::write(at.join("a.wasm"), "").unwrap();
        assert!(matches!(look(&at), Look::Files(files) if files == [at.join("a.wasm")]));
    }
}
