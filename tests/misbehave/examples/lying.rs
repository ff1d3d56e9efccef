//! A plugin below the SDK, whose object columns do not agree: `"columns"` of different lengths, or `"bounds"`
//! with three numbers an object. Nothing on targets other than `wasm32`.

#![allow(missing_docs)]

#[cfg(target_arch = "wasm32")]
mod component {
    use watchpost_plugin::bindings as sdk;
    use watchpost_plugin::bindings::exports::watchpost::plugin::{commands, plugin, signals, state};
    use watchpost_plugin::bindings::watchpost::plugin::types as wit;

    static BOUNDS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

    struct Lying;

    fn output(objects: Option<wit::Objects>) -> wit::Output {
        wit::Output { objects, events: Vec::new(), views: Vec::new(), states: Vec::new(), shapes: Vec::new() }
    }

    impl plugin::Guest for Lying {
        fn describe() -> wit::Descriptor {
            wit::Descriptor {
                name: "lying".into(),
                version: "1.0.0".into(),
                summary: "Gives columns that do not agree.".into(),
                config_schema: String::new(),
                events: Vec::new(),
                states: Vec::new(),
                cameras: Vec::new(),
                commands: Vec::new(),
            }
        }

        fn configure(_: String, config: String) -> Result<(), String> {
            BOUNDS.store(config.contains("bounds"), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }

        fn process(
            _: wit::Frame,
            _: Vec<wit::Run>,
            mut objects: wit::Objects,
            _: Vec<wit::Score>,
        ) -> Result<wit::Output, String> {
            if BOUNDS.load(std::sync::atomic::Ordering::Relaxed) {
                objects.bounds = vec![1.0; objects.scores.len() * 3];
            } else {
                objects.tracks.push(9);
            }
            Ok(output(Some(objects)))
        }
    }

    impl signals::Guest for Lying {
        fn on_signal(_: wit::Signal) -> Result<wit::Output, String> {
            Ok(output(None))
        }
    }

    impl state::Guest for Lying {
        fn snapshot() -> state::Blob {
            state::Blob { version: 0, bytes: Vec::new() }
        }
        fn restore(_: state::Blob) -> Result<(), String> {
            Ok(())
        }
    }

    impl commands::Guest for Lying {
        fn command(_: String, _: String) -> Result<String, String> {
            Err("none".into())
        }
    }

    sdk::export_component!(Lying with_types_in sdk);
}
