//! `watchpost plugin replay`: a plugin over the recorded objects of a trace.
//!
//! In: a component, a trace as `streams.NAME.trace` and `watchpost run --record` write it. Out: what the plugin emits, as
//! lines or JSON lines; or, compared with what the trace says the same entry emitted, the first difference and counts.
//! Needs no daemon, no model and no video, and works in a temporary folder. A trace that is cut off or damaged is replayed
//! as far as it is whole, and the lines that are not are named.

mod compare;
mod read;
mod run;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use crate::config::settings::Limits;
use crate::pipeline::trace::lines::Header;
use crate::plugins::Player;

/// Arguments of `watchpost plugin replay`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  watchpost run --record /var/lib/watchpost/traces
  watchpost plugin replay tracker.wasm entrance.jsonl --compare
  watchpost plugin replay violence_alert.wasm entrance.jsonl --config '{ \"enter\": 0.9 }' --compare
  watchpost plugin replay my_plugin.wasm entrance.jsonl --json > emitted.jsonl

Exit status: 0 replayed, and equal where compared; 1 different, or the plugin failed.")]
pub struct ReplayArgs {
    /// The component, such as target/wasm32-wasip2/release/NAME.wasm.
    pub file: PathBuf,
    /// The trace.
    pub trace: PathBuf,
    /// The entry in whose place it runs; default: the one entry of a plugin of its name, else behind the last one.
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Its configuration, in place of the entry's: JSON, or a file with JSON or TOML.
    #[arg(long, value_name = "JSON|FILE")]
    pub config: Option<String>,
    /// Compare with what the trace says that the entry emitted.
    #[arg(long)]
    pub compare: bool,
    /// Print JSON: a line for each thing that is emitted, or the comparison.
    #[arg(long)]
    pub json: bool,
}

/// Which of the trace's entries is replayed.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// Name of the entry; the plugin's, where it stands in for none.
    entry: String,
    /// Its place in the row; behind the last one, where it stands in for none.
    place: usize,
    /// Its configuration in the trace.
    config: Option<Map<String, Value>>,
}

/// Replays, and prints what came of it.
///
/// # Errors
/// Where the file is no plugin or the trace is none, the plugin fails, or what it emits differs.
pub fn run(arguments: &ReplayArgs, limits: &Limits) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = super::aside(folder.path(), limits)?;
    let config = arguments.config.as_deref().map(given).transpose()?;
    let mut player = Player::load(options, &arguments.file)?;
    let (header, lines) = read::open(&arguments.trace)?;
    let part = choose(&header, player.plugin().0, arguments.entry.as_deref(), arguments.compare)?;
    let config = config.map(Value::Object).map(|config| config.to_string());
    let replay = run::Replay { header: &header, part: &part, config, compare: arguments.compare };
    if arguments.compare {
        let mut tally = compare::Tally::new(part.entry.clone());
        let done = replay.run(&mut player, lines, |at, told| tally.take(at, told))?;
        tally.close(done);
        show::comparison(&tally, &player, arguments)
    } else {
        let mut printer = show::Printer::new(arguments.json);
        let done = replay.run(&mut player, lines, |at, told| printer.take(at, told))?;
        printer.close(&done, &player)
    }
}

/// The configuration that is given on the command line.
fn given(text: &str) -> anyhow::Result<Map<String, Value>> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).context("--config is no JSON object");
    }
    let file = Path::new(text);
    let content = std::fs::read_to_string(file)
        .with_context(|| format!("--config: {text} is neither a JSON object nor a file that can be read"))?;
    if file.extension().is_some_and(|extension| extension == "toml") {
        return toml::from_str(&content).with_context(|| format!("--config: {text} is no TOML"));
    }
    serde_json::from_str(&content).with_context(|| format!("--config: {text} holds no JSON object"))
}

/// The entry in whose place a plugin runs.
fn choose(header: &Header, plugin: &str, wanted: Option<&str>, compare: bool) -> anyhow::Result<Part> {
    let part = |place: usize| {
        let line = &header.entries[place];
        Part { entry: line.entry.clone(), place, config: Some(line.config.clone()) }
    };
    let names = |places: &mut dyn Iterator<Item = usize>| {
        places
            .map(|place| format!("{} ({})", header.entries[place].entry, header.entries[place].plugin))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let all = || match names(&mut (0..header.entries.len())) {
        none if none.is_empty() => "none".into(),
        some => some,
    };
    if let Some(wanted) = wanted {
        let found = header.entries.iter().position(|line| line.entry == wanted);
        return found
            .map(part)
            .with_context(|| format!("the trace has no entry \"{wanted}\"; it has: {}", all()));
    }
    let mut same = (0..header.entries.len()).filter(|place| header.entries[*place].plugin == plugin);
    match (same.next(), same.next()) {
        (Some(place), None) => Ok(part(place)),
        (Some(first), Some(second)) => {
            bail!(
                "several entries of the trace are of plugin {plugin}; name one with --entry: {}",
                names(&mut [first, second].into_iter().chain(same))
            )
        }
        (None, _) if compare => bail!(
            "no entry of the trace is of plugin {plugin}; name the one to compare with by --entry: {}",
            all()
        ),
        (None, _) => Ok(Part { entry: plugin.to_owned(), place: header.entries.len(), config: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::trace::lines::{EntryLine, SCHEMA};

    fn header(entries: &[(&str, &str)]) -> Header {
        let entry = |(entry, plugin): &(&str, &str)| EntryLine {
            entry: (*entry).into(),
            plugin: (*plugin).into(),
            config: Map::new(),
        };
        Header {
            schema: SCHEMA.into(),
            version: "1".into(),
            stream: "door".into(),
            models: Vec::new(),
            zones: [].into(),
            size: [640, 360],
            rate: 25.0,
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn a_plugin_stands_in_for_the_entry_of_its_name() {
        let header = header(&[("ids", "tracker"), ("a", "alert"), ("b", "alert")]);
        assert_eq!(choose(&header, "tracker", None, true).unwrap().place, 0);
        assert_eq!(choose(&header, "tracker", Some("b"), true).unwrap().entry, "b");
        let error = |result: anyhow::Result<Part>| result.unwrap_err().to_string();
        let several = error(choose(&header, "alert", None, false));
        assert!(several.ends_with("--entry: a (alert), b (alert)"), "{several}");
        let new = choose(&header, "new", None, false).unwrap();
        assert_eq!((new.entry.as_str(), new.place, new.config), ("new", 3, None));
        assert!(error(choose(&header, "new", None, true)).contains("no entry of the trace is of plugin new"));
        assert!(error(choose(&header, "new", Some("c"), false)).contains("it has: ids (tracker), a (alert)"));
    }

    #[test]
    fn a_configuration_is_json_or_a_file() {
        assert_eq!(given("{ \"a\": 1 }").unwrap()["a"], 1);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        assert_eq!(given(&file("a.toml", "a = 2\n[b]\nc = true\n")).unwrap()["b"]["c"], true);
        assert_eq!(given(&file("a.json", "{\"a\":3}")).unwrap()["a"], 3);
        assert!(given("nowhere.json").unwrap_err().to_string().contains("neither a JSON object nor a file"));
        assert!(given("{ no").is_err());
    }
}
