//! What a model is made of, to tell whether a reload changes it.
//!
//! In: settings, the model's folder. Out: [`Looks`]; two that are equal give the same model. Plain data: a folder that is
//! nowhere or cannot be read looks like one without files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::Settings;
use crate::config::settings::{Infer, Model};

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Looks {
    pub(super) settings: Model,
    pub(super) infer: Infer,
    folder: Option<PathBuf>,
    /// Name, bytes and time of the last change of each file in the folder.
    files: Vec<(OsString, u64, Option<SystemTime>)>,
}

impl Looks {
    /// Of a configured model; `None` where none of that name is.
    pub(super) fn of(settings: &Settings, name: &str) -> Option<Self> {
        let model = settings.models.get(name)?;
        let folder = super::pool::find(name, &model.path, &settings.paths.models).ok();
        let files = folder.as_deref().map(files).unwrap_or_default();
        Some(Self { settings: model.clone(), infer: settings.infer.clone(), folder, files })
    }
}

fn files(folder: &Path) -> Vec<(OsString, u64, Option<SystemTime>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        // What editors and copying tools leave for a while is no part of it.
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .filter_map(|entry| {
            let metadata = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file)?;
            Some((entry.file_name(), metadata.len(), metadata.modified().ok()))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_place_or_setting_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["a", "b"] {
            let model = folder.path().join(place).join("people");
            std::fs::create_dir_all(&model).unwrap();
            std::fs::write(model.join("model.toml"), "task = \"detect\"").unwrap();
        }
        let mut settings = Settings::default();
        assert_eq!(Looks::of(&settings, "people"), None);
        let model = Model { path: "people".into(), batch: 1, threads: 0, threshold: None, precision: None };
        settings.models.insert("people".into(), model);
        settings.paths.models = vec![folder.path().join("a")];
        let first = Looks::of(&settings, "people").unwrap();
        std::fs::write(folder.path().join("a/people/.model.toml.swp"), "x").unwrap();
        assert_eq!(Looks::of(&settings, "people").unwrap(), first);

        std::fs::write(folder.path().join("a/people/labels.txt"), "person\n").unwrap();
        let labelled = Looks::of(&settings, "people").unwrap();
        assert_ne!(labelled, first);
        settings.infer.batch_wait_ms += 1;
        assert_ne!(Looks::of(&settings, "people").unwrap(), labelled);
        settings.infer.batch_wait_ms -= 1;
        settings.paths.models.insert(0, folder.path().join("b"));
        assert_ne!(Looks::of(&settings, "people").unwrap(), labelled, "another folder comes first");
    }
}
