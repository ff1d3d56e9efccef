//! Where each key of the configuration came from: file and line, or environment variable.
//!
//! In: the text of a file. Out: dotted key → [`Origin`]. The `config` crate merges but forgets this, so the
//! files are read a second time for their spans.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Where a key was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line counted from 1.
    File(PathBuf, usize),
    /// By an environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Origins by dotted key; the last one that set a key wins.
#[derive(Debug, Default, Clone)]
pub struct Origins(HashMap<String, Origin>);

impl PartialEq for Origins {
    /// Always: settings are the same wherever they are written.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    /// A key with the place that set it: "accel.gpu (/etc/watchpost/watchpost.toml:7)".
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(origin) => format!("{key} ({origin})"),
            None => format!("{key} (the default)"),
        }
    }

    /// Notes every key of a parsed file.
    pub(super) fn add_file(&mut self, path: &Path, text: &str, table: &DeTable<'_>) {
        self.add_table("", path, text, table);
    }

    /// Notes a key that a variable set.
    pub(super) fn add_variable(&mut self, key: &str, name: &str) {
        self.0.insert(key.to_owned(), Origin::Variable(name.to_owned()));
    }

    /// The origin of this very key.
    #[must_use]
    pub fn exact(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    /// The origin of a key, or of the nearest table around it.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Origin> {
        let mut key = key;
        loop {
            if let Some(origin) = self.0.get(key) {
                return Some(origin);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    fn add_table(&mut self, prefix: &str, path: &Path, text: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let line = line_of(text, name.span().start);
            self.0.insert(key.clone(), Origin::File(path.to_owned(), line));
            if let DeValue::Table(inner) = value.get_ref() {
                self.add_table(&key, path, text, inner);
            }
        }
    }
}

/// The line, counted from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}
