//! The plugin of `plugin-sdk/TUTORIAL.md`, compiled from the page itself; `build.rs` takes the code out.

#![allow(missing_docs, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/tutorial.rs"));
