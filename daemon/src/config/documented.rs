//! Rule 8: the shipped configuration parses, every key is documented, and every documented key exists.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;

use super::{Settings, merge};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One of everything, so that serializing it gives every key.
fn full() -> Settings {
    let text = r#"
        [plugins.NAME]
        [models.NAME]
        path = "x"
        [streams.NAME]
        source = "x.mp4"
        models.NAME = {}
        plugins.ENTRY = {}
        masks.MASK = { polygon = [[0, 0], [1, 0], [1, 1]] }
        zones.ZONE = { polygon = [[0, 0], [1, 0], [1, 1]] }
        outputs.OUTPUT = { serve = "rtsp" }
    "#;
    merge(&[(Path::new("full.toml"), text.to_owned())], &HashMap::new()).unwrap()
}

fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                keys(&key, value, found);
            }
        }
        _ => {
            found.insert(prefix.replace("models.NAME.sample", "models.MODEL.sample"));
        }
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let mut exist = BTreeSet::new();
    keys("", &serde_json::to_value(full()).unwrap(), &mut exist);
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|key| !key.ends_with('…'))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = exist.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&exist).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
    assert!(invented.is_empty(), "in docs/configuration.md, but no key: {invented:?}");
}

#[test]
fn the_shipped_configuration_parses_also_with_its_comments_taken_as_keys() {
    let text = std::fs::read_to_string(root().join("packaging/etc/watchpost.toml")).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains('=') || rest.starts_with('[')).unwrap_or(line)
        })
        .fold(String::new(), |all, line| all + line + "\n");
    merge(&[(Path::new("watchpost.toml"), text)], &HashMap::new()).unwrap();
    let all = merge(&[(Path::new("watchpost.toml"), uncommented)], &HashMap::new()).unwrap();
    assert_eq!(all.streams["entrance"].plugins.len(), 3);
}

#[test]
fn the_example_in_the_documentation_parses() {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    merge(&[(Path::new("configuration.md"), example.to_owned())], &HashMap::new()).unwrap();
}

/// The settings that the documentation shows are the ones the code has.
#[test]
fn stream_defaults_are_those_of_the_documentation() {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let settings = serde_json::to_value(full()).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (key, default) = (cells[1].trim_matches('`'), cells[2]);
        let Some(default) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else {
            continue;
        };
        let pointer = format!("/{}", key.replace('.', "/"));
        let Some(value) = settings.pointer(&pointer) else { continue };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if value != default && !value.is_empty() && value != "null" && !default.contains("`, `") {
            wrong.push(format!("{key}: documented {default}, is {value}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
