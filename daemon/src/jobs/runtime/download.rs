//! One archive, from its source into a file, checked against its pinned hash on the way.
//!
//! In: a [`Source`], the archive, the file. Out: the whole archive, or an error that says what to do; what came by then
//! stays and is continued, unless it is wrong. A connection that breaks is opened again at once, as long as each one
//! brings something.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::manifest::Archive;
use super::progress::bytes;
use super::record::hex;
use super::source::{Source, SourceError};

/// What keeps an archive from being whole.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It does not come.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It came in part.
    #[error("{file}: broken off at {} of {}: {why}; run the same command again, it continues there", bytes(*at), bytes(*size))]
    Broken {
        /// The archive.
        file: String,
        /// Bytes that are there.
        at: u64,
        /// Its bytes.
        size: u64,
        /// Why.
        why: String,
    },
    /// It came as a whole, but is another one.
    #[error(
        "{file}: has SHA-256 {found}; {expected} is pinned. What came is thrown away: it was damaged, or is not what it \
         says. Run the same command again; where it stays so, do not use this source"
    )]
    Hash {
        /// The archive.
        file: String,
        /// What came.
        found: String,
        /// What is pinned.
        expected: String,
    },
    /// It cannot be written.
    #[error(
        "{file}: {} cannot be written: {why}; {}then run the same command again, it continues where it is",
        path.display(),
        match why.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, ",
            ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f), ",
            _ => "see to it, ",
        }
    )]
    Write {
        /// The archive.
        file: String,
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

/// Gets an archive into `part`; goes on with what is there of it. `bar` stands over the archive's bytes.
///
/// # Errors
/// As [`DownloadError`] says.
pub fn download(
    source: &mut Source,
    archive: &Archive,
    part: &Path,
    bar: &ProgressBar,
) -> Result<(), DownloadError> {
    let write = |why| DownloadError::Write { file: archive.file.clone(), path: part.to_path_buf(), why };
    let mut part = Part::open(part, archive.size, bar).map_err(write)?;
    while part.at < archive.size {
        let before = part.at;
        let mut opened = source.open(archive, part.at)?;
        if opened.at == 0 && part.at > 0 {
            part.start_over().map_err(write)?;
        }
        let why = match part.fill(&mut opened.bytes, archive.size) {
            Ok(()) if part.at >= archive.size => break,
            Ok(()) => "the connection ended".to_owned(),
            Err(Failed::Read(why)) => why.to_string(),
            Err(Failed::Write(why)) => return Err(write(why)),
        };
        if part.at <= before {
            let (file, at, size) = (archive.file.clone(), part.at, archive.size);
            return Err(DownloadError::Broken { file, at, size, why });
        }
    }
    part.file.sync_all().map_err(write)?;
    let found = hex(part.hasher.clone());
    if found == archive.sha256 {
        return Ok(());
    }
    part.start_over().map_err(write)?;
    Err(DownloadError::Hash { file: archive.file.clone(), found, expected: archive.sha256.clone() })
}

enum Failed {
    Read(std::io::Error),
    Write(std::io::Error),
}

/// The beginning of an archive.
struct Part<'a> {
    file: File,
    hasher: Sha256,
    at: u64,
    bar: &'a ProgressBar,
}

impl<'a> Part<'a> {
    /// Opens it and hashes what is there. More than the archive has is no beginning of it.
    fn open(path: &Path, size: u64, bar: &'a ProgressBar) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let mut part = Self { file, hasher: Sha256::new(), at: 0, bar };
        if part.file.metadata()?.len() > size {
            part.start_over()?;
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = part.file.read(&mut buffer)?;
            if count == 0 {
                bar.reset_eta();
                return Ok(part);
            }
            part.add(&buffer[..count]);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.bar.set_position(self.at);
    }

    fn start_over(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Sha256::new();
        self.at = 0;
        self.bar.set_position(0);
        Ok(())
    }

    /// Adds what comes, at most up to the archive's size.
    fn fill(&mut self, from: &mut dyn Read, size: u64) -> Result<(), Failed> {
        let mut buffer = vec![0; 256 << 10];
        while self.at < size {
            let most = usize::try_from(size - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let count = match from.read(&mut buffer[..most]) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failed::Read(error)),
            };
            self.file.write_all(&buffer[..count]).map_err(Failed::Write)?;
            self.add(&buffer[..count]);
        }
        Ok(())
    }
}
