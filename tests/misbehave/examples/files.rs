//! A plugin that reads a file: its component imports `wasi:filesystem`, which no plugin gets.

#![allow(missing_docs)]
// Natively nothing makes the plugin.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use watchpost_plugin::prelude::*;

#[derive(Default, Deserialize, JsonSchema)]
struct Config {}

struct Files;

impl Plugin for Files {
    type Config = Config;

    fn describe() -> Descriptor {
        Descriptor::new("files", "1.0.0", "Reads a file.")
    }

    fn new(_: &Context, _: Config) -> Result<Self, String> {
        std::fs::read("/etc/passwd").map(|_| Self).map_err(|error| error.to_string())
    }

    fn process(
        &mut self,
        _: &Frame,
        _: &[Run],
        _: &mut Objects,
        _: &[Score],
        _: &mut Out,
    ) -> Result<(), String> {
        Ok(())
    }
}

watchpost_plugin::export!(Files);
