//! The folder of recordings: whole files only, bounded by bytes and days, the oldest go first.
//!
//! In: bytes to write, finished files to take in. Out: files below the folder, `<stream>/<name>`. Owned by the writer. What
//! a killed daemon left unfinished is removed when the folder is opened. Errors are the system's, as a [`Trouble`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Rules;
use super::status::Trouble;

/// Ending of a file that is not whole.
const PART: &str = "part";
/// What a disk must take before it is believed to work again.
const PROBE: usize = 64 << 10;

/// A recording: when it was written, where, how large.
type Entry = (SystemTime, PathBuf, u64);

/// The recordings on the disk.
pub(super) struct Store {
    root: PathBuf,
    files: BTreeSet<Entry>,
    bytes: u64,
}

impl Store {
    /// Looks through the folder; one that is not there has no recordings.
    pub fn open(root: &Path) -> Self {
        let mut store = Self { root: root.to_owned(), files: BTreeSet::new(), bytes: 0 };
        for stream in entries(root) {
            for path in entries(&stream) {
                if path.extension().is_some_and(|extension| extension == PART) {
                    // It stays where the disk refuses; nobody takes it for a recording.
                    let _ = fs::remove_file(&path);
                } else {
                    store.note(&path);
                }
            }
        }
        store
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many, and their bytes.
    pub fn held(&self) -> (u64, u64) {
        (self.files.len() as u64, self.bytes)
    }

    /// Where a recording is written before it is whole; its folder is there.
    pub fn part(&self, name: &str) -> Result<PathBuf, Trouble> {
        let path = self.root.join(format!("{name}.{PART}"));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| Trouble::of(&error, folder))?;
        }
        Ok(path)
    }

    /// Writes a recording.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let part = self.part(name)?;
        let written = File::create(&part).and_then(|mut file| file.write_all(bytes));
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(Trouble::of(&error, &part));
        }
        self.take_in(name, &part)
    }

    /// A file is whole: it gets its name once it is on the disk.
    pub fn take_in(&mut self, name: &str, part: &Path) -> Result<(), Trouble> {
        let path = self.root.join(name);
        let moved = File::open(part).and_then(|file| file.sync_all()).and_then(|()| fs::rename(part, &path));
        if let Err(error) = moved {
            let _ = fs::remove_file(part);
            return Err(Trouble::of(&error, &path));
        }
        // One of this name that was there before has been replaced.
        let old = self.files.iter().find(|(_, known, _)| *known == path).cloned();
        if let Some(old) = old {
            self.bytes -= old.2;
            self.files.remove(&old);
        }
        self.note(&path);
        Ok(())
    }

    fn note(&mut self, path: &Path) {
        if let Ok(meta) = fs::metadata(path)
            && meta.is_file()
        {
            self.bytes += meta.len();
            self.files.insert((
                meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path.to_owned(),
                meta.len(),
            ));
        }
    }

    /// Removes what is too much or too old; gives back how many.
    pub fn trim(&mut self, rules: &Rules, now: SystemTime) -> u64 {
        let days = u64::from(rules.settings.keep_days);
        let oldest = if days > 0 { now.checked_sub(Duration::from_secs(days * 86400)) } else { None };
        let mut removed = 0;
        while let Some((written, path, bytes)) = self.files.first() {
            let too_old = oldest.is_some_and(|oldest| *written < oldest);
            if self.bytes <= rules.settings.max_bytes && !too_old {
                break;
            }
            match fs::remove_file(path) {
                Ok(()) => removed += 1,
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an old recording cannot be removed")
                }
            }
            if let Some(folder) = path.parent() {
                // Refused while there is something in it.
                let _ = fs::remove_dir(folder);
            }
            self.bytes -= bytes;
            self.files.pop_first();
        }
        removed
    }

    /// Whether the disk has the room that is to stay free.
    pub fn check(&self, rules: &Rules) -> Result<(), Trouble> {
        fs::create_dir_all(&self.root).map_err(|error| Trouble::of(&error, &self.root))?;
        let disk = rustix::fs::statvfs(&self.root).map_err(|error| Trouble::of(&error.into(), &self.root))?;
        let (free, wanted) = (disk.f_bavail.saturating_mul(disk.f_frsize), rules.settings.min_free_bytes);
        if free >= wanted {
            return Ok(());
        }
        let text = format!(
            "the disk of {} has {} MB free, and {} MB are to stay free (record.min_free_bytes)",
            self.root.display(),
            free / 1_000_000,
            wanted / 1_000_000
        );
        Err(Trouble { full: true, text })
    }

    /// Whether the disk takes data again.
    pub fn probe(&self, rules: &Rules) -> Result<(), Trouble> {
        self.check(rules)?;
        let path = self.root.join(format!("probe.{PART}"));
        let tried = File::create(&path).and_then(|mut file| {
            file.write_all(&[0x5A; PROBE])?;
            file.sync_all()
        });
        let removed = fs::remove_file(&path);
        tried.and(removed).map_err(|error| Trouble::of(&error, &path))
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Record;

    fn rules(root: &Path, max_bytes: u64, keep_days: u32) -> Rules {
        let settings = Record { max_bytes, keep_days, min_free_bytes: 0, ..Record::default() };
        Rules { settings, root: root.to_owned(), shown: false }
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = entries(root)
            .iter()
            .flat_map(|stream| entries(stream))
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    fn age(path: &Path, days: u64) {
        let then = SystemTime::now() - Duration::from_secs(days * 86400);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn the_oldest_go_first_and_a_new_start_knows_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("clips");
        let mut store = Store::open(&root);
        for (index, name) in ["a/1.jpg", "b/2.jpg", "a/3.jpg", "a/3.mp4"].iter().enumerate() {
            store.write(name, &[1; 1000]).unwrap();
            age(&root.join(name), 10 - index as u64);
        }
        // A daemon that was killed left something unfinished.
        fs::write(root.join("a/4.mp4.part"), [0; 500]).unwrap();
        let mut store = Store::open(&root);
        assert_eq!(store.held(), (4, 4000));
        assert_eq!(names(&root), ["a/1.jpg", "a/3.jpg", "a/3.mp4", "b/2.jpg"]);
        let now = SystemTime::now();
        assert_eq!(store.trim(&rules(&root, 4000, 0), now), 0);
        assert_eq!(store.trim(&rules(&root, 3999, 0), now), 1);
        assert_eq!(names(&root), ["a/3.jpg", "a/3.mp4", "b/2.jpg"]);
        // Ages are 9, 8 and 7 days. The folder of a stream that has none left goes too.
        assert_eq!(store.trim(&rules(&root, 1 << 30, 8), now + Duration::from_secs(60)), 2);
        assert_eq!((names(&root), store.held()), (vec!["a/3.mp4".to_owned()], (1, 1000)));
        assert!(!root.join("b").exists());
        store.write("a/3.mp4", &[1; 10]).unwrap();
        assert_eq!(store.held(), (1, 10), "replaced, not counted twice");
    }

    #[test]
    fn a_disk_with_too_little_room_is_full_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("clips"));
        let mut rules = rules(folder.path(), 1 << 30, 0);
        store.check(&rules).unwrap();
        store.probe(&rules).unwrap();
        rules.settings.min_free_bytes = u64::MAX;
        let trouble = store.check(&rules).unwrap_err();
        assert!(trouble.full && trouble.text.contains("record.min_free_bytes"), "{trouble:?}");
        assert!(store.probe(&rules).is_err());
        assert!(entries(&folder.path().join("clips")).is_empty(), "the probe is gone");
    }
}
