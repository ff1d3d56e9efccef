//! The least that a plugin is: world `minimal`, straight on the generated bindings, which are all the unsafe
//! code there is. It doubles every object. Nothing on targets other than `wasm32`.

#![allow(unsafe_code, missing_docs)]

#[cfg(target_arch = "wasm32")]
mod component {
    wit_bindgen::generate!({ path: "../../plugin-sdk/wit", world: "minimal" });

    use exports::watchpost::plugin::plugin::{Descriptor, Frame, Guest, Objects, Output, Run, Score};

    struct Minimal;

    impl Guest for Minimal {
        fn describe() -> Descriptor {
            Descriptor {
                name: "minimal".into(),
                version: "0.1.0".into(),
                summary: "Doubles every object.".into(),
                config_schema: String::new(),
                events: Vec::new(),
                states: Vec::new(),
                cameras: Vec::new(),
                commands: Vec::new(),
            }
        }

        fn configure(_: String, _: String) -> Result<(), String> {
            Ok(())
        }

        fn process(_: Frame, _: Vec<Run>, mut o: Objects, _: Vec<Score>) -> Result<Output, String> {
            o.models.extend_from_within(..);
            o.classes.extend_from_within(..);
            o.scores.extend_from_within(..);
            o.bounds.extend_from_within(..);
            o.tracks.extend_from_within(..);
            let (events, views, states, shapes) = Default::default();
            Ok(Output { objects: Some(o), events, views, states, shapes })
        }
    }

    export!(Minimal);
}
