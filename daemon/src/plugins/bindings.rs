//! Generated bindings of the plugin contract and of inert WASI: fences the component model's interface.
//!
//! In and out: typed Rust values, lifted and lowered by wasmtime. The unsafe code here is wasmtime's own,
//! generated from the two WIT files and checked against each component when it is loaded.

#![allow(unsafe_code, missing_docs, clippy::all, clippy::pedantic)]

/// World `full` of `plugin-sdk/wit`. Only its interfaces are used, one by one: most are optional.
pub mod contract {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "full",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

/// The inert part of WASI.
pub mod inert {
    wasmtime::component::bindgen!({
        path: "src/plugins/wasi.wit",
        world: "watchpost:inert/inert",
        imports: { default: trappable },
        with: {
            "wasi:io/error.error": super::super::wasi::Never,
            "wasi:io/poll.pollable": super::super::wasi::Ready,
            "wasi:io/streams.input-stream": super::super::wasi::Nothing,
            "wasi:io/streams.output-stream": super::super::wasi::Sink,
            "wasi:cli/terminal-input.terminal-input": super::super::wasi::Never,
            "wasi:cli/terminal-output.terminal-output": super::super::wasi::Never,
        },
    });
}
