//! A plugin that adds one to each object's track and does nothing else: what is left is the cost of the way
//! in and out.

#![allow(missing_docs)]
// Natively nothing makes the plugin.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use watchpost_plugin::prelude::*;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {}

struct Echo;

impl Plugin for Echo {
    type Config = Config;

    fn describe() -> Descriptor {
        Descriptor::new("echo", "0.1.0", "Adds one to each object's track.")
    }

    fn new(_: &Context, _: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(
        &mut self,
        _: &Frame,
        _: &[Run],
        objects: &mut Objects,
        _: &[Score],
        _: &mut Out,
    ) -> Result<(), String> {
        for object in objects {
            object.track += 1;
        }
        Ok(())
    }
}

watchpost_plugin::export!(Echo);
