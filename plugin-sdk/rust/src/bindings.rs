//! The generated bindings of the world `full`: fences the foreign interface of a component.
//!
//! In and out: the component model's canonical ABI. Generated from `plugin-sdk/wit`; the glue is its only
//! user. A mistake of the host in it is a trap.

#![allow(unsafe_code, missing_docs, clippy::all, clippy::pedantic)]

wit_bindgen::generate!({
    path: "../wit",
    world: "full",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "watchpost_plugin::bindings",
    runtime_path: "::watchpost_plugin::bindings::rt",
});

pub use wit_bindgen::rt;
