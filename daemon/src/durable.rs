//! Files that are replaced as a whole.
//!
//! In: a path and what it is to hold. Out: the file, on disk, with its name. Errors are the file system's. One writer a path
//! at a time: what is written lies beside it as `.NAME.new` until it is whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Who may read a file, beside the user it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    None,
    /// Everyone who can enter its folder, whatever the umask.
    All,
}

/// Replaces a file so that after a power cut either the old or the new content is there; on disk when this returns. Its
/// folder must be there.
///
/// # Errors
/// Those of the file system. The file is as it was, or has the new content and may yet lose it in a power cut.
pub fn replace(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let written = write(&beside, content, readers).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn write(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::None => 0o600,
        Readers::All => 0o644,
    };
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
    // Whatever the umask, and whatever the mode of one that a power cut left.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_new_content_takes_the_place_of_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        // What a power cut left.
        fs::write(folder.path().join(".number.new"), "of an earlier life, and longer").unwrap();
        for (content, readers, expected) in [("one", Readers::None, 0o600), ("two", Readers::All, 0o644)] {
            replace(&path, content.as_bytes(), readers).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
            assert_eq!(mode(&path), expected, "{readers:?}");
        }
        let fresh = folder.path().join("secret");
        replace(&fresh, b"x", Readers::None).unwrap();
        assert_eq!(mode(&fresh), 0o600);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        replace(&path, b"two", Readers::None).unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        replace(&folder.path().join("none/here"), b"two", Readers::None).unwrap_err();
        replace(Path::new("/"), b"two", Readers::None).unwrap_err();
    }
}
