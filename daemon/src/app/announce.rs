//! What the publisher announces beside the box's own topics: alerts, ONVIF's rules, Home Assistant's device.
//!
//! In: the settings in force, the plugins that there are. Out: [`Facts`] for the publisher, which compares them with what
//! it announced last. Called by the daemon's duties, so that a reload, a new plugin or one that is gone shows at once.

use std::sync::PoisonError;

use super::daemon::Core;
use crate::config::Settings;
use crate::plugins::{PluginInfo, PluginState};
use crate::publish::{Facts, Rule};

/// What there is to announce now.
pub(super) fn facts(core: &Core) -> Facts {
    let plugins = core.host.plugins();
    of(&core.settings.lock().unwrap_or_else(PoisonError::into_inner), &plugins)
}

fn of(settings: &Settings, plugins: &[PluginInfo]) -> Facts {
    let kinds = |name: &str| {
        let found = plugins.iter().find(|plugin| plugin.name == name && plugin.state == PluginState::Ready);
        found.map(|plugin| plugin.events.clone()).unwrap_or_default()
    };
    let streams = settings.streams.iter().map(|(name, stream)| {
        let entries = stream.plugins.iter().filter(|(_, used)| used.enabled);
        let rules = entries
            .map(|(entry, used)| Rule {
                entry: entry.clone(),
                kinds: kinds(used.use_.as_deref().unwrap_or(entry)),
            })
            .filter(|rule| !rule.kinds.is_empty());
        (name.clone(), rules.collect())
    });
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        streams: streams.collect(),
        plugins: plugins
            .iter()
            .filter(|plugin| plugin.state == PluginState::Ready)
            .map(|plugin| plugin.name.clone())
            .collect(),
        homeassistant: settings.homeassistant.clone(),
        onvif: settings.onvif.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};

    use super::*;

    fn plugin(name: &str, state: PluginState, events: &[&str]) -> PluginInfo {
        PluginInfo {
            name: name.into(),
            version: "1.0.0".into(),
            summary: String::new(),
            file: PathBuf::from("x.wasm"),
            origin: crate::plugins::PluginOrigin::User,
            hash: String::new(),
            state,
            error: None,
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            states: Vec::new(),
            cameras: Vec::new(),
            commands: Vec::new(),
            config_schema: serde_json::Value::Bool(true),
        }
    }

    #[test]
    fn a_stream_s_rules_are_the_kinds_of_the_plugins_that_it_runs() {
        let text = r#"
            homeassistant.enabled = true
            [streams.gate]
            source = "a.mp4"
            plugins.tracker = {}
            plugins.fights = { use = "violence-alert" }
            plugins.off = { use = "violence-alert", enabled = false }
            plugins.nobody = {}
        "#;
        let settings =
            crate::config::merge(&[(Path::new("w.toml"), text.to_owned())], &HashMap::new()).unwrap();
        let plugins = [
            plugin("tracker", PluginState::Ready, &[]),
            plugin("violence-alert", PluginState::Shadowed, &["old"]),
            plugin("violence-alert", PluginState::Ready, &["violence"]),
            plugin("broken", PluginState::Bad, &[]),
        ];
        let facts = of(&settings, &plugins);
        let rule = Rule { entry: "fights".into(), kinds: vec!["violence".into()] };
        assert_eq!(facts.streams["gate"], [rule]);
        assert_eq!(facts.plugins.iter().collect::<Vec<_>>(), ["tracker", "violence-alert"]);
        assert!(facts.homeassistant.enabled && !facts.onvif.enabled);
    }
}
