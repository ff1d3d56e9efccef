//! Plugin files: what is no plugin is refused by name, and a bad file never replaces a good one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use e2e::plugins::{Bench, frames, frames_until, install, is, patched, wasm};
use serde_json::json;
use watchpost::config::settings::Limits;
use watchpost::plugins::InstanceState::{Running, Waiting};
use watchpost::plugins::{Compiler, Host, PluginState, plugins_offline};

/// Bytes under a file name, and what the host says of them.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = fs::read(wasm("misbehave")).unwrap();
    let cached = fs::read_dir(e2e::data::root().join("target/tmp/plugin-cache/plugins")).unwrap();
    let sealed =
        cached.map(|file| fs::read(file.unwrap().path()).unwrap()).find(|b| b.starts_with(b"wpcode"));
    let sealed = sealed.expect("the bench before has compiled something");
    let mut spoiled = good.clone();
    spoiled[good.len() / 20..][..500].fill(0xff);
    vec![
        ("empty.wasm", Vec::new(), "is empty, not a WebAssembly component"),
        ("truncated.wasm", good[..good.len() / 2].to_vec(), "is not whole"),
        ("spoiled.wasm", spoiled, "does not compile"),
        ("text.wasm", b"#!/bin/sh\n".to_vec(), "is something else, not a WebAssembly component"),
        ("module.wasm", b"\0asm\x01\0\0\0".to_vec(), "is a WebAssembly core module"),
        (
            "elf.wasm",
            fs::read(std::env::current_exe().unwrap()).unwrap()[..4096].to_vec(),
            "compiled code (ELF)",
        ),
        ("cached.wasm", sealed.clone(), "compiled code (from the cache) in place of WebAssembly"),
        ("wasmtime.wasm", sealed[40..].to_vec(), "compiled code (wasmtime's) in place of WebAssembly"),
        (
            "other.wasm",
            fs::read(wasm("other_world")).unwrap(),
            "component of another world: it exports nothing",
        ),
        ("files.wasm", fs::read(wasm("files")).unwrap(), "imports wasi:filesystem/"),
        ("sockets.wasm", fs::read(wasm("sockets")).unwrap(), "imports wasi:sockets/"),
        (
            "later.wasm",
            patched("minimal", "watchpost:plugin/plugin@0.1.0", "watchpost:plugin/plugin@0.9.0"),
            "it exports watchpost:plugin/plugin@0.9.0, this host knows watchpost:plugin/plugin@0.1.0",
        ),
        (
            "shouting.wasm",
            patched("minimal", "minimal0.1.0Doubles", "MINIMAL0.1.0Doubles"),
            "lower-case words",
        ),
        ("large.wasm", vec![0; (9 << 20) + 1], "the limit is 9 MiB (limits.file_mib)"),
    ]
}

#[test]
fn what_is_no_plugin_is_refused_by_name() {
    let bench = Bench::with(Limits { file_mib: 9, ..Limits::default() }, &["misbehave"]);
    let files = bad_files();
    for (name, bytes, _) in &files {
        install(&bench.user(name), bytes);
    }
    symlink("nowhere", bench.user("dangling.wasm")).unwrap();
    install(&bench.user("open.wasm"), &fs::read(wasm("minimal")).unwrap());
    fs::set_permissions(bench.user("open.wasm"), fs::Permissions::from_mode(0o666)).unwrap();
    let count = files.len() + 3;
    bench.wait_files("all files judged", |found| found.len() == count);

    let found = bench.host().plugins();
    let says = |file: &str, text: &str| {
        let info = found.iter().find(|info| info.file.ends_with(file)).unwrap();
        let error = info.error.as_deref().unwrap_or_default();
        assert_eq!(info.state, PluginState::Bad, "{file}");
        assert!(error.contains(text) && error.contains(file), "{file}: {error}");
    };
    for (name, _, text) in &files {
        says(name, text);
    }
    says("dangling.wasm", "a symbolic link that leads nowhere?");
    says("open.wasm", "chmod o-w");
    // The good one among them is not bothered.
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    frames(&mut row, "door", 0..3);
    assert_eq!(row.status()[0].state, Running);
}

#[test]
fn compiling_is_limited_in_time_and_memory() {
    // Nothing may come from the cache here.
    let bench = Bench::new(Limits::default());
    let cache = tempfile::tempdir().unwrap();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o700)).unwrap();
    install(&bench.shipped("minimal.wasm"), &fs::read(wasm("minimal")).unwrap());
    let cases = [
        (Limits { compile_seconds: 0, ..Limits::default() }, "more than 0 s (limits.compile_seconds)"),
        (Limits { compile_mib: 24, ..Limits::default() }, "does not compile"),
    ];
    for (limits, text) in cases {
        let mut options = bench.options();
        options.paths.cache = cache.path().to_owned();
        options.limits = limits;
        let found = plugins_offline(options).unwrap();
        assert!(found[0].error.as_deref().unwrap_or_default().contains(text), "{:?}", found[0].error);
    }
    let mut options = bench.options();
    options.paths.cache = cache.path().to_owned();
    options.compiler = Compiler::of("/bin/false".into());
    let found = plugins_offline(options.clone()).unwrap();
    assert!(found[0].error.as_deref().unwrap().contains("the compiler ended with exit status: 1"));
    // With the limits as they are it compiles, and a spoiled file in the cache is found out.
    options.compiler = bench.options().compiler;
    assert_eq!(plugins_offline(options.clone()).unwrap()[0].state, PluginState::Ready);
    for file in fs::read_dir(cache.path().join("plugins")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 100;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(plugins_offline(options.clone()).unwrap()[0].state, PluginState::Ready);
    // A cache that others may write to is not used at all.
    fs::set_permissions(cache.path().join("plugins"), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Host::new(options).err().unwrap().to_string();
    assert!(error.contains("others may write to it"), "{error}");
}

#[test]
fn a_file_that_appears_changes_and_goes_is_followed() {
    let bench = Bench::new(Limits::default());
    let mut row = bench.row("door", &[("count", "misbehave", json!({}))]);
    frames(&mut row, "door", 0..5);
    assert_eq!(row.status()[0].state, Waiting);
    assert!(row.status()[0].message.contains("there is no plugin \"misbehave\" yet"));

    install(&bench.shipped("misbehave.wasm"), &fs::read(wasm("misbehave")).unwrap());
    let (next, given) = frames_until(&mut row, "door", 5, "the start", |s| is(s, "count", Running));
    assert_eq!(given.last().unwrap().states.first().map(|(_, state)| state.value.clone()), Some(json!(1)));

    // A new version of it: between two frames, with its state.
    let counted = row.status()[0].calls;
    install(
        &bench.shipped("misbehave.wasm"),
        &patched("misbehave", "misbehave1.0.0Does", "misbehave1.0.1Does"),
    );
    let newer = |version: &'static str| {
        move |s: &[watchpost::plugins::EntryStatus]| s[0].version.as_deref() == Some(version)
    };
    let (next, given) = frames_until(&mut row, "door", next, "the swap", newer("1.0.1"));
    let counts: Vec<_> = given.iter().map(|given| given.states[0].1.value.as_u64().unwrap()).collect();
    let expected: Vec<_> = (counted + 1..).take(counts.len()).collect();
    assert_eq!(counts, expected, "not one frame was missed, and the count goes on");

    // A bad file in its place: said, and the good one stays.
    install(&bench.shipped("misbehave.wasm"), b"rubbish");
    bench.wait_files("the refusal", |found| found[0].error.is_some());
    let found = bench.host().plugins().remove(0);
    assert_eq!((found.state, found.version.as_str()), (PluginState::Ready, "1.0.1"));
    let given = frames(&mut row, "door", next..next + 5);
    assert!(given.iter().all(|given| given.states.len() == 1));
    let next = next + 5;

    // A file that grows while it is looked at is judged once it is whole.
    let newest = patched("misbehave", "misbehave1.0.0Does", "misbehave1.0.2Does");
    fs::write(bench.user("half.wasm"), &newest[..newest.len() / 3]).unwrap();
    fs::write(bench.user("half.wasm"), &newest).unwrap();
    // The later folder wins on the same name.
    let (next, _) = frames_until(&mut row, "door", next, "the later folder's", newer("1.0.2"));
    let found = bench.host().plugins();
    let shadowed = found.iter().find(|info| info.version == "1.0.1").unwrap();
    assert_eq!(shadowed.state, PluginState::Shadowed);

    // Renamed, it stays; gone, the earlier folder's is back; both gone, the entry waits.
    fs::rename(bench.user("half.wasm"), bench.user("whole.wasm")).unwrap();
    bench.wait_files("the rename", |found| found.iter().any(|info| info.file.ends_with("whole.wasm")));
    frames(&mut row, "door", next..next + 3);
    assert_eq!(row.status()[0].version.as_deref(), Some("1.0.2"));
    fs::remove_file(bench.user("whole.wasm")).unwrap();
    install(&bench.shipped("misbehave.wasm"), &fs::read(wasm("misbehave")).unwrap());
    let (next, _) = frames_until(&mut row, "door", next + 3, "the earlier folder's", newer("1.0.0"));
    fs::remove_file(bench.shipped("misbehave.wasm")).unwrap();
    let (_, given) = frames_until(&mut row, "door", next, "the removal", |s| is(s, "count", Waiting));
    assert!(given.last().unwrap().states.is_empty());
    assert!(row.status()[0].message.contains("was removed"));
}

#[test]
fn a_symbolic_link_is_followed_to_its_file() {
    let bench = Bench::new(Limits::default());
    symlink(wasm("minimal"), bench.user("linked.wasm")).unwrap();
    bench.wait_files("the link's plugin", |found| found.iter().any(|info| info.name == "minimal"));
    let mut row = bench.row("door", &[("double", "minimal", json!({}))]);
    // World `minimal` has none of the optional interfaces.
    let given = frames(&mut row, "door", 0..3);
    assert!(given.iter().all(|given| given.objects.len() == 6));
    row.signal(200_000_000, watchpost::plugins::Signal::Tick);
    assert!(row.command("double", "any", &json!({})).is_err());
    row.stop();
    assert_eq!(row.status()[0].failures, 0);
}
