//! Where `watchpost runtime fetch` gets GPU runtimes from.
//!
//! In: the table `[runtime]`. Out: an address, checked. No default: which package index a box may ask is its owner's to say.

use serde::{Deserialize, Serialize};

/// Where GPU runtimes come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSource {
    /// A Python package index, or a folder with the archives: `https://`, `http://` or `file:///`.
    pub from: Option<String>,
}

impl RuntimeSource {
    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let from = self.from.as_deref()?;
        let (scheme, rest) = from.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        match scheme {
            "http" | "https" if host.contains('@') => Some(
                "credentials do not belong in the address; name a folder with the archives instead (file:///FOLDER)",
            ),
            "http" | "https" if !host.is_empty() => None,
            "file" if rest.starts_with('/') => None,
            _ => Some("expected https://HOST/..., http://HOST/... or file:///FOLDER"),
        }
    }
}
