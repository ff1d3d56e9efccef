//! Plugin `{{name}}`: counts the objects of each label and publishes the counts.

use std::collections::BTreeMap;

use watchpost_plugin::prelude::*;

/// Keys of the plugin's entry in a stream.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Confidence from which an object counts.
    threshold: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

/// The plugin: what it remembers from frame to frame.
pub struct {{type}} {
    config: Config,
    context: Context,
    last: Option<BTreeMap<String, usize>>,
}

impl Plugin for {{type}} {
    type Config = Config;

    fn describe() -> Descriptor {
        Descriptor::new("{{name}}", env!("CARGO_PKG_VERSION"), "Counts the objects of each label.")
            .state("counts")
    }

    fn new(context: &Context, config: Config) -> Result<Self, String> {
        Ok(Self { config, context: context.clone(), last: None })
    }

    fn process(
        &mut self,
        _frame: &Frame,
        runs: &[Run],
        objects: &mut Objects,
        _scores: &[Score],
        out: &mut Out,
    ) -> Result<(), String> {
        // No model ran on this frame: that is not "nothing there".
        if runs.is_empty() {
            return Ok(());
        }
        let mut counts = BTreeMap::new();
        for object in objects.iter().filter(|object| object.score >= self.config.threshold) {
            if let Some(label) = self.context.label(object.model, object.class) {
                *counts.entry(label.to_owned()).or_insert(0) += 1;
            }
        }
        if self.last.as_ref() != Some(&counts) {
            out.state("counts", &counts);
            self.last = Some(counts);
        }
        Ok(())
    }
}

watchpost_plugin::export!({{type}});

#[cfg(test)]
mod tests {
    use watchpost_plugin::testing::Runner;
    use watchpost_plugin::{Model, Task};

    use super::*;

    #[test]
    fn counts_what_is_sure_enough() {
        let people =
            Model { name: "people".into(), task: Task::Detect, labels: vec!["person".into()], rate: 0.0 };
        let context = Context { models: vec![people], ..Context::default() };
        let config = serde_json::json!({ "threshold": 0.6 });
        let mut runner = Runner::<{{type}}>::new(&context, &config).unwrap();

        let objects = [0.9, 0.7, 0.4].map(|score| Object { score, ..Object::default() }).to_vec();
        let (_, out) = runner.process(&Frame::default(), &[Run::default()], objects, &[]).unwrap();
        assert_eq!(out.states[0].value, r#"{"person":2}"#);
    }
}
