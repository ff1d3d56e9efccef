//! Plugin states on disk, so that they survive a restart.
//!
//! In: a plugin's blob. Out: the blob of the last life, if the file is whole and of the same plugin. One file
//! for each entry, `state/snapshots/STREAM/ENTRY`; a line of JSON, then the bytes. A file that is not whole is
//! no state: the plugin starts fresh.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::instance::Blob;
use super::loaded::hash;

#[derive(Serialize, Deserialize)]
struct Head {
    plugin: String,
    version: u32,
    sha256: String,
}

/// Where an entry's state is kept.
pub(super) fn path(state: &Path, stream: &str, entry: &str) -> PathBuf {
    state.join("snapshots").join(stream).join(entry)
}

/// Writes a state. Replaced at once, but not forced to the disk: after a power cut an older one will do.
pub(super) fn save(path: &Path, plugin: &str, blob: &Blob) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let head = Head { plugin: plugin.into(), version: blob.version, sha256: hash(&blob.bytes) };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, &head)?;
    file.write_all(b"\n")?;
    file.write_all(&blob.bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Reads the state of an earlier life of this plugin.
pub(super) fn load(path: &Path, plugin: &str) -> Option<Blob> {
    let content = fs::read(path).ok()?;
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&content[..end]).ok()?;
    let bytes = content[end + 1..].to_vec();
    let whole = head.plugin == plugin && head.sha256 == hash(&bytes);
    whole.then_some(Blob { version: head.version, bytes })
}

/// Forgets a state.
pub(super) fn forget(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_state_of_the_same_plugin_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "door", "tracker");
        assert_eq!(load(&path, "tracker"), None);
        let blob = Blob { version: 3, bytes: b"two\nlines".to_vec() };
        save(&path, "tracker", &blob).unwrap();
        assert_eq!(load(&path, "tracker"), Some(blob));
        assert_eq!(load(&path, "another"), None);
        let mut content = fs::read(&path).unwrap();
        content.pop();
        fs::write(&path, content).unwrap();
        assert_eq!(load(&path, "tracker"), None);
    }
}
