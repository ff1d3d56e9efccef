//! Write Watchpost plugins in Rust: a struct and one trait.
//!
//! In: frames with objects, model runs and scores, from the host. Out: objects, events, views, states and
//! shapes, collected in [`Out`]. The host owns the plugin's instance: it calls one method at a time, in
//! stream order, and rebuilds the instance from its last snapshot where a call fails.
//!
//! ```
//! use watchpost_plugin::prelude::*;
//!
//! #[derive(Default, Deserialize, JsonSchema)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     /// Confidence from which an object counts.
//!     threshold: f32,
//! }
//!
//! struct Counter { config: Config }
//!
//! impl Plugin for Counter {
//!     type Config = Config;
//!
//!     fn describe() -> Descriptor {
//!         Descriptor::new("counter", "1.0.0", "Counts objects.").state("count")
//!     }
//!
//!     fn new(_context: &Context, config: Config) -> Result<Self, String> {
//!         Ok(Self { config })
//!     }
//!
//!     fn process(&mut self, _: &Frame, _: &[Run], objects: &mut Objects, _: &[Score], out: &mut Out) -> Result<(), String> {
//!         let count = objects.iter().filter(|object| object.score >= self.config.threshold).count();
//!         out.state("count", &count);
//!         Ok(())
//!     }
//! }
//!
//! watchpost_plugin::export!(Counter);
//! ```
//!
//! Built for `wasm32-wasip2` that is a component the host loads. Built for any other target [`export!`] is
//! nothing, and the same source runs in ordinary unit tests; see [`testing`].

// The generated macro of `bindings` names this crate from outside and from inside alike.
#[cfg(target_arch = "wasm32")]
extern crate self as watchpost_plugin;

mod context;
pub mod host;
mod output;
mod rect;
mod types;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod glue;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use context::{Context, Model, Task, Zone};
pub use output::{Camera, Change, Descriptor, Event, Out, Severity, Shape, ShapeKind, State, View};
pub use rect::{Rect, least, most};
pub use types::{Frame, Object, Objects, Run, Score, Signal};

pub use schemars;
pub use serde;
pub use serde_json;

/// What most plugins use.
pub mod prelude {
    pub use crate::{
        Change, Context, Descriptor, Event, Frame, Object, Objects, Out, Plugin, Rect, Run, Score, Severity,
        Signal, host,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// A plugin: one instance per entry in a stream's row of plugins, with memory of its own.
///
/// An `Err` from [`process`](Plugin::process) or [`signal`](Plugin::signal) says that this call failed: it is
/// logged and counted, what the call put into `out` is dropped, and the instance lives on. A panic ends the
/// instance; the host builds a new one from the last snapshot.
pub trait Plugin: Sized + 'static {
    /// The configuration, from the keys of the plugin's entry in the stream. Its JSON Schema is published in
    /// the descriptor, so that the host can name a wrong key before the plugin starts. Give it
    /// `#[serde(default, deny_unknown_fields)]`.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema + Default;

    /// Who the plugin is and what it may give.
    fn describe() -> Descriptor;

    /// Builds the plugin, once, before the first frame.
    ///
    /// # Errors
    /// A sentence for the person who wrote the configuration.
    fn new(context: &Context, config: Self::Config) -> Result<Self, String>;

    /// Every frame of the stream, in order. What is done to `objects` is what the next plugin sees.
    ///
    /// # Errors
    /// A sentence for the log; the call counts as failed.
    fn process(
        &mut self,
        frame: &Frame,
        runs: &[Run],
        objects: &mut Objects,
        scores: &[Score],
        out: &mut Out,
    ) -> Result<(), String>;

    /// What happens beside frames. Changes to objects are not possible here.
    ///
    /// # Errors
    /// As [`process`](Plugin::process).
    fn signal(&mut self, signal: Signal, out: &mut Out) -> Result<(), String> {
        let _ = (signal, out);
        Ok(())
    }

    /// The state that should survive a crash, a hot swap and a restart, with the version of its layout;
    /// `None`: there is none.
    fn snapshot(&self) -> Option<(u32, Vec<u8>)> {
        None
    }

    /// Takes over the state of an earlier instance, perhaps of an earlier version of the plugin. Called at
    /// most once, after [`new`](Plugin::new) and before the first frame.
    ///
    /// # Errors
    /// Where it cannot: the host says so and goes on with a fresh instance.
    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), String> {
        let _ = (version, bytes);
        Err("this plugin keeps no state".into())
    }

    /// A command that the descriptor names, from MQTT, HTTP or the command line.
    ///
    /// # Errors
    /// A sentence for whoever sent it.
    fn command(&mut self, name: &str, arguments: &serde_json::Value) -> Result<serde_json::Value, String> {
        let _ = arguments;
        Err(format!("this plugin knows no command \"{name}\""))
    }
}

/// Makes a [`Plugin`] the component's plugin. Once per crate; nothing on targets other than `wasm32`.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(missing_docs)]
        const _: () = {
            ::std::thread_local! {
                static SLOT: ::std::cell::RefCell<$crate::glue::Slot<$plugin>> =
                    const { ::std::cell::RefCell::new($crate::glue::Slot::EMPTY) };
            }
            struct Component;
            impl $crate::glue::Component for Component {
                type Plugin = $plugin;
                fn with<R>(call: impl FnOnce(&mut $crate::glue::Slot<$plugin>) -> R) -> R {
                    SLOT.with_borrow_mut(call)
                }
            }
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
