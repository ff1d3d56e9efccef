//! A plugin that opens a connection: its component imports `wasi:sockets`, which no plugin gets.

#![allow(missing_docs)]
// Natively nothing makes the plugin.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use watchpost_plugin::prelude::*;

#[derive(Default, Deserialize, JsonSchema)]
struct Config {}

struct Sockets;

impl Plugin for Sockets {
    type Config = Config;

    fn describe() -> Descriptor {
        Descriptor::new("sockets", "1.0.0", "Opens a connection.")
    }

    fn new(_: &Context, _: Config) -> Result<Self, String> {
        std::net::TcpStream::connect("127.0.0.1:9").map(|_| Self).map_err(|error| error.to_string())
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

watchpost_plugin::export!(Sockets);
