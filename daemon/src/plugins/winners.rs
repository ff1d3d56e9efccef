//! Which file stands for each plugin name, and what is said of the others.
//!
//! In: the good files. Out: of each name one winner: that of the later folder; in one folder that of the higher version;
//! of equal versions the one whose file name comes first. Pure functions, but for the log of what changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::library::Known;
use super::loaded::Loaded;
use super::shared::Catalogue;
use super::status::{PluginInfo, PluginOrigin, PluginState};

/// A file that could stand for its plugin's name.
pub(super) struct Candidate {
    path: PathBuf,
    rank: usize,
    version: Option<semver::Version>,
    loaded: Arc<Loaded>,
}

/// The winner of each name.
pub(super) struct Winners(BTreeMap<String, Candidate>);

impl Candidate {
    pub(super) fn of(path: &Path, known: &Known) -> Option<Self> {
        let loaded = known.good.clone()?;
        let version = semver::Version::parse(&loaded.descriptor.version).ok();
        Some(Self { path: path.to_owned(), rank: known.rank, version, loaded })
    }

    /// Why this one stands for the name in place of another; `None`: it does not.
    fn beats(&self, other: &Self) -> Option<&'static str> {
        if self.rank != other.rank {
            return (self.rank > other.rank).then_some("its folder comes later in paths.plugins");
        }
        if self.version != other.version {
            return (self.version > other.version).then_some("its version is higher");
        }
        (self.path < other.path).then_some("of two with one version, its file name comes first")
    }
}

impl Winners {
    pub(super) fn among(candidates: impl Iterator<Item = Candidate>) -> Self {
        let mut winners: BTreeMap<String, Candidate> = BTreeMap::new();
        for candidate in candidates {
            let name = candidate.loaded.descriptor.name.clone();
            if winners.get(&name).is_none_or(|best| candidate.beats(best).is_some()) {
                winners.insert(name, candidate);
            }
        }
        Self(winners)
    }

    pub(super) fn plugins(&self) -> BTreeMap<String, Arc<Loaded>> {
        self.0.iter().map(|(name, winner)| (name.clone(), Arc::clone(&winner.loaded))).collect()
    }

    /// What is known of a file; `last` is the rank of the user's folder.
    pub(super) fn info(&self, path: &Path, known: &Known, last: usize) -> PluginInfo {
        let origin = if known.rank == last { PluginOrigin::User } else { PluginOrigin::Shipped };
        let mut error = known.error.as_ref().map(ToString::to_string);
        let Some(own) = Candidate::of(path, known) else {
            return PluginInfo {
                name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                version: String::new(),
                summary: String::new(),
                file: path.to_owned(),
                origin,
                hash: String::new(),
                state: PluginState::Bad,
                error,
                events: Vec::new(),
                states: Vec::new(),
                cameras: Vec::new(),
                commands: Vec::new(),
                config_schema: serde_json::Value::Bool(true),
            };
        };
        let descriptor = &own.loaded.descriptor;
        let rival = self.0.get(&descriptor.name).filter(|winner| winner.path != path);
        if let (Some(rival), None) = (rival, &error) {
            let why = rival.beats(&own).unwrap_or("it was there first");
            let (file, version) = (rival.path.display(), &rival.loaded.descriptor.version);
            error = Some(format!("{file} ({version}) has the same name and wins: {why}"));
        }
        PluginInfo {
            name: descriptor.name.clone(),
            version: descriptor.version.clone(),
            summary: descriptor.summary.clone(),
            file: path.to_owned(),
            origin,
            hash: own.loaded.hash.clone(),
            state: if rival.is_none() { PluginState::Ready } else { PluginState::Shadowed },
            error,
            events: descriptor.events.clone(),
            states: descriptor.states.clone(),
            cameras: descriptor.cameras.iter().map(|(name, _)| name.clone()).collect(),
            commands: descriptor.commands.clone(),
            config_schema: descriptor.schema.clone(),
        }
    }
}

/// Says which file stands for a name from now on, where there was another, and which one stands aside.
pub(super) fn log_changes(before: &Catalogue, after: &Catalogue) {
    let winner = |catalogue: &Catalogue, name: &str| {
        catalogue.infos.iter().find(|info| info.name == name && info.state == PluginState::Ready).cloned()
    };
    for info in &after.infos {
        let known = before.infos.iter().find(|old| old.file == info.file);
        match info.state {
            PluginState::Shadowed if known.is_none_or(|old| old.error != info.error) => {
                let (plugin, version) = (&info.name, &info.version);
                let reason = info.error.as_deref().unwrap_or_default();
                tracing::info!(path = %info.file.display(), plugin, version, "a plugin stands aside: {reason}");
            }
            PluginState::Ready => {
                let Some(old) = winner(before, &info.name) else { continue };
                if old.file != info.file && old.hash != info.hash {
                    let (plugin, version) = (&info.name, &info.version);
                    tracing::info!(path = %info.file.display(), plugin, version, was = old.version, "another file stands for this plugin");
                }
            }
            _ => {}
        }
    }
}
