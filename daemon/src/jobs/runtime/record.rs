//! What a runtime's folder holds, written down beside it.
//!
//! In: the files of a folder. Out: [`Record`], `runtime.json` in that folder, with a SHA-256 of each file; later, what
//! has changed since. A record that is missing or cannot be read is an error that names the file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::publish::messages::Timestamp;

/// Name of the record in a runtime's folder.
pub const FILE: &str = "runtime.json";

/// How a runtime came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Out of pinned archives.
    Fetched,
    /// Links to libraries that are installed elsewhere.
    Linked,
    /// Copies of such.
    Copied,
}

/// A runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name of its folder.
    pub name: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// How it came to be.
    pub kind: Kind,
    /// When, RFC 3339.
    pub made: String,
    /// Its files.
    pub files: Vec<FileRecord>,
}

/// A file of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in the folder.
    pub name: String,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// The archive it was in, or the file that it links to or is a copy of.
    pub from: PathBuf,
}

impl Record {
    /// A record made now.
    #[must_use]
    pub fn new(name: &str, onnxruntime: &str, kind: Kind, files: Vec<FileRecord>) -> Self {
        let made = Timestamp::now().to_string();
        Self { name: name.to_owned(), onnxruntime: onnxruntime.to_owned(), kind, made, files }
    }

    /// Reads the record in a folder.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(FILE);
        let text = std::fs::read(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{}: is no record of a runtime", file.display()))
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// How much it is, such as `14 files, 1.90 GiB`.
    #[must_use]
    pub fn extent(&self) -> String {
        let files = self.files.len();
        format!("{files} file{}, {}", if files == 1 { "" } else { "s" }, super::progress::bytes(self.size()))
    }

    /// What is wrong with a file of this runtime now; `None` where it is as it was. `seen` is told of bytes read.
    #[must_use]
    pub fn check(&self, folder: &Path, file: &FileRecord, seen: impl FnMut(u64)) -> Option<String> {
        let path = folder.join(&file.name);
        match hash(&path, seen) {
            Ok((sha256, _)) if sha256 == file.sha256 => None,
            Ok((_, size)) if size != file.size => {
                Some(format!("has {size} bytes; {} were recorded", file.size))
            }
            Ok((sha256, _)) => Some(format!("has SHA-256 {sha256}; {} was recorded", file.sha256)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.kind == Kind::Linked => {
                Some(format!("is gone: {}", file.from.display()))
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// SHA-256 and bytes of a file. `seen` is told of the bytes as they are read.
///
/// # Errors
/// Where it cannot be read.
pub fn hash(file: &Path, mut seen: impl FnMut(u64)) -> std::io::Result<(String, u64)> {
    let mut file = File::open(file)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(hasher), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
        seen(count as u64);
    }
}

/// A finished hash, hexadecimal.
#[must_use]
pub fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
