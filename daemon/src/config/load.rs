//! Files and environment → merged → validated [`Settings`].
//!
//! In: the main file, `conf.d/*.toml` beside it in the order of their names, and `WATCHPOST_A__B=value`
//! variables; a later one wins, tables are merged. Out: [`Settings`], or every problem found, each with its
//! file, line and key. Nothing is half applied: the caller keeps what it had.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};

use super::Settings;
use super::credentials::resolve;
use super::origin::{Origin, Origins, line_of};
use super::validate::validate;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Where, if a place is known.
    pub origin: Option<Origin>,
    /// Dotted key; empty for a whole file.
    pub key: String,
    /// What is wrong, what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

impl ConfigError {
    fn whole_file(path: &Path, message: impl fmt::Display) -> Self {
        Self(vec![Problem {
            origin: None,
            key: String::new(),
            message: format!("{}: {message}", path.display()),
        }])
    }
}

/// A loaded configuration: the settings, and where each key came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated settings.
    pub settings: Settings,
    /// Credentials that are named and not here: this process is not the service. Where they stand, the settings are as
    /// they are written.
    pub missing: Vec<Problem>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

/// Loads `main` and the drop-ins in `conf.d` beside it.
///
/// # Errors
/// Every problem found.
pub fn load(main: &Path) -> Result<Loaded, ConfigError> {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("WATCHPOST_")).collect();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    load_with(main, &variables, credentials.as_deref())
}

/// As [`load`], with the given environment and folder of systemd's credentials.
///
/// # Errors
/// Every problem found.
pub fn load_with(
    main: &Path,
    variables: &HashMap<String, String>,
    credentials: Option<&Path>,
) -> Result<Loaded, ConfigError> {
    let mut files = vec![main.to_owned()];
    files.extend(drop_ins(main)?);
    let mut texts = Vec::with_capacity(files.len());
    for file in &files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::whole_file(file, format!("cannot be read: {error}")))?;
        texts.push((file.as_path(), text));
    }
    let (settings, missing) = read(&texts, variables, credentials)?;
    Ok(Loaded { settings, missing, files })
}

/// Settings from texts that are in memory, later ones winning. `demo` and tests use it.
///
/// # Errors
/// Every problem found.
pub fn merge(
    texts: &[(&Path, String)],
    variables: &HashMap<String, String>,
) -> Result<Settings, ConfigError> {
    read(texts, variables, None).map(|(settings, _)| settings)
}

/// Settings from texts, and the credentials that are not here.
fn read(
    texts: &[(&Path, String)],
    variables: &HashMap<String, String>,
    credentials: Option<&Path>,
) -> Result<(Settings, Vec<Problem>), ConfigError> {
    let mut origins = Origins::default();
    let mut builder = Config::builder();
    for (path, text) in texts {
        let table = toml::de::DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ConfigError(vec![Problem {
                origin: Some(Origin::File((*path).to_owned(), line)),
                key: String::new(),
                message: error.message().to_owned(),
            }])
        })?;
        origins.add_file(path, text, table.get_ref());
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    // Only names with a double underscore are keys: WATCHPOST_MQTT__URL is mqtt.url.
    let keys: HashMap<String, String> = variables
        .iter()
        .filter(|(name, _)| name.contains("__"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for name in keys.keys() {
        let key = name.trim_start_matches("WATCHPOST_").to_lowercase().replace("__", ".");
        origins.add_variable(&key, name);
    }
    let environment = Environment::with_prefix("WATCHPOST")
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .source(Some(keys));
    let merged = builder.add_source(environment).build().and_then(|config| {
        // Through JSON: the config crate's own deserializer reports no paths and coerces types.
        config.try_deserialize::<serde_json::Value>()
    });
    let mut merged = merged.map_err(|error| {
        ConfigError(vec![Problem { origin: None, key: String::new(), message: error.to_string() }])
    })?;
    let placed = |problems: Vec<(String, String)>| -> Vec<Problem> {
        let place =
            |(key, message): (String, String)| Problem { origin: origins.find(&key).cloned(), key, message };
        problems.into_iter().map(place).collect()
    };
    let resolved = resolve(&mut merged, credentials);
    if !resolved.wrong.is_empty() {
        return Err(ConfigError(placed(resolved.wrong)));
    }
    let missing = placed(resolved.missing);
    let mut settings: Settings = serde_path_to_error::deserialize(&merged).map_err(|error| {
        let mut key = error.path().to_string();
        if key == "." {
            key.clear();
        }
        let message = error.inner().to_string();
        // The path ends at the table that holds an unknown key; go on to the key itself.
        if let Some(unknown) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
            && !key.ends_with(unknown)
        {
            key = if key.is_empty() { unknown.to_owned() } else { format!("{key}.{unknown}") };
        }
        let origin = origins.find(&key).cloned();
        ConfigError(vec![Problem { origin, key, message: message.replace("unknown field", "unknown key") }])
    })?;
    if settings.box_.name.is_empty() {
        settings.box_.name = host_name();
    }
    settings.inherit(&merged);
    let problems = placed(validate(&settings));
    if problems.is_empty() {
        settings.origins = origins;
        return Ok((settings, missing));
    }
    Err(ConfigError(problems))
}

fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = main.parent().unwrap_or(Path::new(".")).join("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ConfigError::whole_file(&folder, format!("cannot be read: {error}"))),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
        .collect();
    files.sort();
    Ok(files)
}

/// The host's name, made fit for a topic.
fn host_name() -> String {
    // Not from /proc, of which a service may see processes only.
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.trim().split('.').next().unwrap_or_default();
    let fit: String = short
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    if fit.is_empty() { "watchpost".to_owned() } else { fit }
}
