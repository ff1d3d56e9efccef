//! What a plugin says of itself, checked, and its configuration's schema.
//!
//! In: the descriptor of a component. Out: [`Descriptor`], or a sentence that says what is wrong with it.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::bindings::contract::watchpost::plugin::types as wit;

/// Longest name of a plugin, event kind, state, camera or command.
const NAME: usize = 64;
/// Most entries in each list.
const LIST: usize = 64;
/// Largest schema, bytes.
const SCHEMA: usize = 256 << 10;

/// What a plugin says of itself.
#[derive(Debug, Default)]
pub(super) struct Descriptor {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub events: Vec<String>,
    pub states: Vec<String>,
    /// Name, and how many frames late its views may come.
    pub cameras: Vec<(String, u32)>,
    pub commands: Vec<String>,
    pub schema: Value,
    validator: Option<jsonschema::Validator>,
}

impl Descriptor {
    pub(super) fn check(found: wit::Descriptor) -> Result<Self, String> {
        let wit::Descriptor { name, version, summary, config_schema, events, states, cameras, commands } =
            found;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let words = |name: &str| {
            name.len() <= NAME && name.split('-').all(|word| !word.is_empty() && word.chars().all(plain))
        };
        if !words(&name) {
            return Err(format!("its name \"{}\" is not lower-case words joined by hyphens", shorten(&name)));
        }
        let numbers: Vec<_> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
        if numbers.len() != 3
            || numbers.iter().any(|part| part.parse::<u32>().is_err())
            || version.len() > NAME
        {
            return Err(format!(
                "its version \"{}\" is not a semantic version such as 1.2.0",
                shorten(&version)
            ));
        }
        let topic = |name: &str| {
            !name.is_empty()
                && name.len() <= NAME
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let cameras: Vec<_> = cameras.into_iter().map(|camera| (camera.name, camera.delay)).collect();
        let camera_names: Vec<_> = cameras.iter().map(|(name, _)| name.clone()).collect();
        for (what, names) in
            [("event kind", &events), ("state", &states), ("camera", &camera_names), ("command", &commands)]
        {
            if names.len() > LIST {
                return Err(format!("it names {} {what}s, at most {LIST} are possible", names.len()));
            }
            if let Some(wrong) = names.iter().find(|name| !topic(name)) {
                return Err(format!(
                    "the {what} \"{}\" may hold letters, digits, \"-\", \"_\" and \".\" only",
                    shorten(wrong)
                ));
            }
        }
        let (schema, validator) = schema(&config_schema)?;
        let summary = shorten(summary.lines().next().unwrap_or_default());
        Ok(Self { name, version, summary, events, states, cameras, commands, schema, validator })
    }

    /// Checks an entry's configuration: `Err` holds the key (empty: the entry itself) and what is wrong.
    pub(super) fn accepts(&self, config: &Value) -> Result<(), (String, String)> {
        let Some(validator) = &self.validator else { return Ok(()) };
        match validator.iter_errors(config).next() {
            None => Ok(()),
            Some(error) => {
                let mut key = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
                // The path ends at the table that holds an unknown key; go on to the key itself.
                if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind()
                    && let Some(unknown) = unexpected.first()
                {
                    key = if key.is_empty() { unknown.clone() } else { format!("{key}.{unknown}") };
                }
                Err((key, error.to_string()))
            }
        }
    }
}

fn schema(text: &str) -> Result<(Value, Option<jsonschema::Validator>), String> {
    if text.is_empty() {
        return Ok((Value::Bool(true), None));
    }
    if text.len() > SCHEMA {
        return Err(format!(
            "its configuration schema has {} bytes, at most {SCHEMA} are possible",
            text.len()
        ));
    }
    let schema: Value = serde_json::from_str(text)
        .map_err(|error| format!("its configuration schema is no JSON: {error}"))?;
    // The plain regex engine: patterns come from the plugin, and backtracking has no bound.
    let validator = jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("its configuration schema is no JSON Schema: {error}"))?;
    Ok((schema, Some(validator)))
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
