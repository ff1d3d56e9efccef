//! The version of the state folder: a daemon must not write into what a newer one left.
//!
//! In: `paths.state`. Out: its file `version`, two lines: the number of the layout, and who wrote it last. A newer one
//! is refused, and nothing in the folder is touched; an older one is migrated, step by step, the number written after
//! each, so that a migration that was cut short goes on. A folder without the file is of version 0: the first daemons
//! wrote none, and an empty one is as good. A file that makes no sense is said and written anew: a power cut is likelier
//! than a newer version. `app` asks before anything else looks into the folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::durable;

/// The layout that this daemon writes.
pub const VERSION: u32 = 1;
/// The file's name.
const FILE: &str = "version";

/// One step of a migration, from the version of its place in the list to the next.
type Step = fn(&Path) -> io::Result<()>;

/// From version 0 on. The first daemons wrote no version, and all else as version 1 has it.
const STEPS: [Step; VERSION as usize] = [|_| Ok(())];

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A newer daemon has written it.
    #[error(
        "{folder} holds the state of a newer Watchpost: version {found}, written by {writer}; this is watchpost {own}, which knows versions up to {known}. Nothing was changed. Install {writer} again, or a later one; or give the newer state up: stop the service, move the folder away (mv {folder} {folder}.version-{found}) and make it anew (systemd-tmpfiles --create)"
    )]
    Newer {
        /// The folder.
        folder: String,
        /// Its version.
        found: u32,
        /// Who wrote it.
        writer: String,
        /// This daemon.
        own: &'static str,
        /// The newest version it knows.
        known: u32,
    },
    /// A step failed.
    #[error("{folder}: the state of version {from} cannot be brought to version {to}: {source}")]
    Step {
        /// The folder.
        folder: PathBuf,
        /// The version it stays at.
        from: u32,
        /// The next one.
        to: u32,
        /// Why.
        source: io::Error,
    },
}

/// Looks at the folder, and changes nothing: its version, and who wrote it.
///
/// # Errors
/// Where a newer daemon has written it.
pub fn examine(folder: &Path) -> Result<(u32, String), StateError> {
    judge(folder, STEPS.len() as u32)
}

/// Brings the folder to this daemon's version.
///
/// # Errors
/// Where a newer daemon has written it, or a migration fails.
pub fn claim(folder: &Path) -> Result<(), StateError> {
    bring(folder, &STEPS)
}

fn judge(folder: &Path, known: u32) -> Result<(u32, String), StateError> {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, String::new())),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the state's version cannot be read; it is taken for this one's");
            return Ok((known, String::new()));
        }
    };
    let mut lines = text.lines();
    let Some(found) = lines.next().and_then(|line| line.trim().parse::<u32>().ok()) else {
        tracing::warn!(path = %path.display(), "the state's version makes no sense; it is taken for this one's");
        return Ok((known, String::new()));
    };
    let writer = lines.next().unwrap_or_default().trim().to_owned();
    if found > known {
        let writer = if writer.is_empty() { "a newer watchpost".to_owned() } else { writer };
        let own = env!("CARGO_PKG_VERSION");
        return Err(StateError::Newer { folder: folder.display().to_string(), found, writer, own, known });
    }
    Ok((found, writer))
}

fn bring(folder: &Path, steps: &[Step]) -> Result<(), StateError> {
    let known = steps.len() as u32;
    let (found, writer) = judge(folder, known)?;
    for (from, step) in (found..).zip(&steps[found as usize..]) {
        let to = from + 1;
        step(folder).map_err(|source| StateError::Step { folder: folder.to_owned(), from, to, source })?;
        // The last one is written below.
        if to < known {
            note(folder, to);
        }
        tracing::info!(path = %folder.display(), from, to, "the state folder is of this version now");
    }
    if found != known || writer != own() {
        note(folder, known);
    }
    Ok(())
}

fn own() -> String {
    format!("watchpost {}", env!("CARGO_PKG_VERSION"))
}

/// Writes the version; whole or not at all. A disk that is full must not keep the daemon from its alerts.
fn note(folder: &Path, version: u32) {
    let path = folder.join(FILE);
    if let Err(error) =
        durable::replace(&path, format!("{version}\n{}\n", own()).as_bytes(), durable::Readers::All)
    {
        tracing::warn!(path = %path.display(), %error, "the state's version cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        (folder, file)
    }

    #[test]
    fn a_new_folder_gets_this_version_and_is_taken_again() {
        let (folder, file) = folder();
        claim(folder.path()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("{VERSION}\n{}\n", own()));
        claim(folder.path()).unwrap();
        assert_eq!(examine(folder.path()).unwrap(), (VERSION, own()));
        // A later release of the same layout says that it was there.
        std::fs::write(&file, format!("{VERSION}\nwatchpost 0.0.9\n")).unwrap();
        claim(folder.path()).unwrap();
        assert_eq!(examine(folder.path()).unwrap().1, own());
    }

    #[test]
    fn a_newer_state_is_refused_and_left_as_it_is() {
        let (folder, file) = folder();
        let text = "9\nwatchpost 3.1.0\nwhatever else it says\n";
        std::fs::write(&file, text).unwrap();
        for refused in [claim(folder.path()).unwrap_err(), examine(folder.path()).unwrap_err()] {
            let said = refused.to_string();
            for word in
                ["version 9", "watchpost 3.1.0", "Nothing was changed", env!("CARGO_PKG_VERSION"), "mv "]
            {
                assert!(said.contains(word), "{said}");
            }
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_older_state_is_migrated_step_by_step_and_a_step_that_failed_is_done_again() {
        let (folder, file) = folder();
        let first: Step = |folder| std::fs::write(folder.join("a"), "one");
        let second: Step = |folder| std::fs::rename(folder.join("a"), folder.join("b"));
        let fails: Step = |_| Err(io::Error::other("no room"));
        let error = bring(folder.path(), &[first, fails]).unwrap_err().to_string();
        assert!(error.contains("version 1 cannot be brought to version 2: no room"), "{error}");
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("1\n"));
        let never: Step = |_| panic!("done already");
        bring(folder.path(), &[never, second]).unwrap();
        assert!(folder.path().join("b").exists());
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("2\n"));
    }

    #[test]
    fn a_damaged_file_keeps_nobody_from_starting() {
        let (folder, file) = folder();
        std::fs::write(&file, "\0\0\0").unwrap();
        claim(folder.path()).unwrap();
        assert_eq!(examine(folder.path()).unwrap().0, VERSION);
    }
}
