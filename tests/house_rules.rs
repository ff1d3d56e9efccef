//! The house rules that a program can check, over the source tree as git knows it.
//!
//! In: the files of the repository. Out: failures that name file and line. Nothing is built or run here.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use e2e::data::root;

/// Rooms, and the few that may import others.
const ROOMS: &[&str] = &[
    "ingest",
    "scene",
    "preprocess",
    "infer",
    "postprocess",
    "plugins",
    "publish",
    "record",
    "render",
    "encode",
    "gpu",
    "pipeline",
    "control",
    "http",
    "service",
    "jobs",
];
const MAY_IMPORT_ROOMS: &[&str] = &["pipeline", "jobs"];

/// Files whose one purpose is to fence one foreign interface. Adding one is a decision: say why here.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("daemon/src/plugins/artifact.rs", "loads machine code that our own compiler process wrote"),
    ("daemon/src/plugins/bindings.rs", "wasmtime's generated bindings of the plugin contract"),
    ("plugin-sdk/rust/src/bindings.rs", "wit-bindgen's generated bindings of the plugin contract"),
    (
        "daemon/src/infer/cuda/raw.rs",
        "tensors over a part of ONNX Runtime's memory, and foreign CUDA streams",
    ),
    (
        "daemon/src/infer/preload.rs",
        "loads CUDA, cuDNN and TensorRT before ONNX Runtime's providers look for them",
    ),
    ("daemon/src/infer/version.rs", "asks ONNX Runtime's and TensorRT's libraries for their versions"),
    ("tests/scenarios/infer.rs", "writes a model's input through its address, as a kernel does"),
    ("tests/misbehave/examples/minimal.rs", "wit-bindgen's generated bindings of the world minimal"),
    ("daemon/src/gpu/block.rs", "looks at kernels' arguments and tables as bytes, to copy them to the GPU"),
    ("daemon/src/gpu/device.rs", "calls the CUDA driver: the primary context, modules"),
    ("daemon/src/gpu/memory.rs", "calls the CUDA driver: video memory, pinned memory"),
    ("daemon/src/gpu/stream.rs", "calls the CUDA driver: copies, launches, events"),
    ("daemon/src/gpu/driver.rs", "asks the CUDA driver through cudarc's bindings"),
    (
        "daemon/src/gpu/gst/context.rs",
        "wraps the CUDA context for GStreamer, whose CUDA library has no bindings",
    ),
    ("daemon/src/gpu/gst/library.rs", "finds the functions of GStreamer's CUDA library, and their types"),
    ("daemon/src/gpu/gst/memory.rs", "maps GStreamer's CUDA memory: addresses on the GPU"),
    ("daemon/src/gpu/gst/pool.rs", "makes GStreamer's pools and streams of CUDA memory"),
    ("daemon/src/gpu/host.rs", "tests only: calls the kernels, compiled for the host"),
    (
        "daemon/src/service/crash/signal.rs",
        "handles fatal signals: sigaction, sigaltstack, the handler before it",
    ),
    ("daemon/src/gpu/soft.rs", "tests only: the software CUDA driver's memory and books"),
    ("daemon/src/gpu/nvenc.rs", "asks the driver's library of encoders for a session"),
    ("daemon/src/gpu/library.rs", "asks the system's loader whether a library of the driver loads"),
    ("daemon/src/service/pipe.rs", "gives the signal of a closed pipe its default meaning back"),
    ("daemon/src/preprocess/simd.rs", "calls kernels compiled for AVX2 and AVX-512, and gathers"),
];

/// Files that may sleep, and why that is no synchronisation.
const SLEEPERS: &[(&str, &str)] =
    &[("daemon/src/app/demo.rs", "`demo --seconds N` ends after that time: the time is what is asked for")];

struct Source {
    /// Path below the root, with slashes.
    name: String,
    text: String,
}

fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["daemon", "plugin-sdk", "plugins", "tests", "models", "packaging", "docs", ".ci"] {
        walk(&root().join(folder), extension, &mut found);
    }
    assert!(extension != "rs" || !found.is_empty(), "no sources below {}", root().display());
    found
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if !path.file_name().is_some_and(|name| name == "target" || name == "work") {
                walk(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension)
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            found.push(Source { name: path.strip_prefix(root()).unwrap().display().to_string(), text });
        }
    }
}

/// Lines of code with their numbers: comments and what follows `//` are left out, and so are test modules at the end.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let tests = source.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
    source.text[..tests]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

fn report(rule: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{rule}\n  {}", problems.join("\n  "));
}

fn named(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(file, _)| *file == name)
}

#[test]
fn source_files_are_short_and_open_with_what_they_are() {
    let mut problems = Vec::new();
    for source in files("rs") {
        let lines = source.text.lines().count();
        if lines > 500 {
            problems.push(format!("{}: {lines} lines, at most 500", source.name));
        }
        if !source.text.starts_with("//!") {
            problems.push(format!("{}: does not open with //!", source.name));
        }
    }
    report("rule 1: a source file is at most 500 lines and opens with //!", &problems);
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut problems = Vec::new();
    for source in files("rs").iter().filter(|source| source.name.starts_with("daemon/src/")) {
        let room = source.name["daemon/src/".len()..].split(['/', '.']).next().unwrap_or_default();
        if !ROOMS.contains(&room) && !matches!(room, "flow" | "config" | "telemetry") {
            continue;
        }
        if MAY_IMPORT_ROOMS.contains(&room) {
            continue;
        }
        for (number, line) in code(source) {
            for part in line.split("crate::").skip(1) {
                // `crate::{a, b}` would hide rooms from this check.
                let names: Vec<&str> = part
                    .trim_start_matches('{')
                    .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .take(if part.starts_with('{') { 8 } else { 1 })
                    .collect();
                for other in names {
                    let plain = matches!(room, "flow" | "config" | "telemetry");
                    // A room's part on the GPU is its `cuda.rs`, or the folder of that name.
                    let on_gpu = source.name.ends_with("/cuda.rs") || source.name.contains("/cuda/");
                    let allowed = other == "gpu" && on_gpu;
                    let foreign = ROOMS.contains(&other) && other != room && !allowed;
                    if foreign || (plain && matches!(other, "app")) || (room == "flow" && other == "config") {
                        problems.push(format!("{}:{number}: room {room} imports {other}", source.name));
                    }
                }
            }
        }
    }
    report("rule 2: a room imports flow, config, telemetry and itself", &problems);
}

#[test]
fn unsafe_stays_in_its_fences_and_says_why_it_is_sound() {
    let mut problems = Vec::new();
    for source in files("rs").iter().filter(|source| source.name != "tests/house_rules.rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in code(source) {
            let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            if line.contains("allow(unsafe_code)") || words.contains(&"unsafe") {
                if !named(UNSAFE_FILES, &source.name) {
                    problems.push(format!("{}:{number}: unsafe outside the named files", source.name));
                } else if line.contains("unsafe {") || line.contains("unsafe impl") {
                    let above = &lines[number.saturating_sub(9)..number];
                    if !above.iter().any(|line| line.contains("SAFETY")) {
                        problems.push(format!("{}:{number}: no SAFETY comment above", source.name));
                    }
                }
            }
        }
    }
    for (file, _) in UNSAFE_FILES {
        if !root().join(file).is_file() {
            problems.push(format!("{file}: named here, but gone"));
        }
    }
    report("rule 3: unsafe code only in fenced files, each block with a SAFETY comment", &problems);
}

#[test]
fn tasks_and_threads_have_owners() {
    let mut problems = Vec::new();
    for source in files("rs").iter().filter(|source| source.name != "tests/house_rules.rs") {
        for (number, line) in code(source) {
            for banned in ["tokio::spawn(", "process::exit(", "mem::forget("] {
                // Plugins built to misbehave may.
                if line.contains(banned) && !source.name.starts_with("tests/misbehave/") {
                    problems.push(format!("{}:{number}: {banned}", source.name));
                }
            }
            let sleeps = line.contains("thread::sleep(") || line.contains("time::sleep(");
            if sleeps && !named(SLEEPERS, &source.name) {
                problems.push(format!(
                    "{}:{number}: sleeps; wait for a condition, or name it in SLEEPERS",
                    source.name
                ));
            }
            // A thread whose handle is dropped at once can never be joined.
            if line.trim_start().starts_with("std::thread::spawn(")
                || line.trim_start().starts_with("thread::spawn(")
            {
                problems.push(format!("{}:{number}: a thread nobody joins", source.name));
            }
        }
    }
    report("rule 4: every task and thread has an owner that stops and joins it", &problems);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = Vec::new();
    for source in files("rs").iter().filter(|source| source.name != "tests/house_rules.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "FIXME", "XXX", "Not built yet", "not built yet"] {
                if line.contains(word) {
                    problems.push(format!("{}:{}: {word}", source.name, number + 1));
                }
            }
        }
    }
    report("nothing is left unfinished", &problems);
}

#[test]
fn the_repository_names_no_machine() {
    let mut problems = Vec::new();
    for extension in ["rs", "toml", "md", "py", "sh", "json", "wit", "txt"] {
        for source in files(extension) {
            if source.name == "tests/house_rules.rs" {
                continue;
            }
            for (number, line) in source.text.lines().enumerate() {
                for word in ["/work/", "/root/", "crates.io/", "pypi.org", "npmjs.org", "deb.debian.org"] {
                    if line.contains(word) {
                        problems.push(format!("{}:{}: {word}", source.name, number + 1));
                    }
                }
            }
        }
    }
    report("no path of a machine and no registry host goes into the repository", &problems);
}
