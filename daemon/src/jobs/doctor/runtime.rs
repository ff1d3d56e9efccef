//! ONNX Runtime and what its GPU providers run on: what is in use, where it comes from, and how to get what is missing.
//!
//! In: the loaded ONNX Runtime, how its providers went. Out: findings; nothing is kept. Which libraries are in use is read
//! from the list of what is mapped into this process, so it is what providers have, and not what a path promises. What
//! cannot be read there is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::finding::Finding;
use crate::infer::libraries::Shelf;
use crate::infer::{InferError, Place, Provider, Readiness, Runtime, in_use, readiness};

/// How to get ONNX Runtime's providers, CUDA and cuDNN.
const FETCH: &str = "watchpost runtime fetch --from INDEX --use, or watchpost runtime adopt FOLDER --use for libraries that are installed (docs/gpu.md)";
/// How to get TensorRT, which no index has.
const ADOPT: &str = "install TensorRT 10, then watchpost runtime adopt FOLDER... --use with the runtime's folder and TensorRT's (docs/gpu.md)";

/// Parts of a GPU runtime, and how the names of their libraries begin.
const PARTS: [(&str, &[&str]); 3] = [
    (
        "CUDA",
        &[
            "libcudart",
            "libcublas",
            "libcufft",
            "libcurand",
            "libcusolver",
            "libcusparse",
            "libnvrtc",
            "libnvJitLink",
        ],
    ),
    ("cuDNN", &["libcudnn"]),
    ("TensorRT", &["libnvinfer", "libnvonnxparser"]),
];

/// Which ONNX Runtime is in use. `streams`: those that need one.
pub(super) fn loaded(outcome: Result<Runtime, InferError>, streams: &[String]) -> Finding {
    match outcome {
        Ok(runtime) => {
            let (build, place, library) = (runtime.build(), runtime.place(), runtime.library());
            let found = format!("{build}, {place}: {}", library.display());
            let details =
                json!({ "version": runtime.version(), "from": place.to_string(), "library": library });
            Finding::good("ONNX Runtime", found).details(details)
        }
        Err(error) => {
            let fix = "install Watchpost's package whole, choose another with `watchpost runtime use`, or set infer.library to an ONNX Runtime of 1.24 or newer";
            Finding::needed("ONNX Runtime", error.to_string(), fix, streams)
        }
    }
}

/// How a provider went, and what it lacks.
pub(super) fn provider(
    runtime: &Runtime,
    provider: Provider,
    outcome: Result<(), String>,
    driver: bool,
) -> Finding {
    let Err(why) = outcome else { return Finding::good("provider", format!("{provider}: loaded")) };
    let home = runtime.home();
    let state = readiness(provider, home, &Shelf::new(&[home.to_owned()], 0));
    let lacks = match &state {
        Readiness::Absent(files) | Readiness::Missing(files) => files.clone(),
        Readiness::Ready => Vec::new(),
    };
    let mut found = format!("{provider}: {}", why.trim_end_matches('.'));
    if lacks.iter().any(|file| !why.contains(file)) {
        found = format!("{found}; not there: {}", lacks.join(", "));
    }
    let fix = fix(&state, runtime.place(), driver);
    let details = json!({ "provider": provider.to_string(), "missing": lacks });
    Finding::limited("provider", found, fix).details(details)
}

fn fix(state: &Readiness, place: &Place, driver: bool) -> String {
    if !driver {
        return "models run on the CPU; it needs a GPU driver first".to_owned();
    }
    let tensorrt = |name: &String| PARTS[2].1.iter().any(|begin| name.starts_with(begin));
    let get = match state {
        Readiness::Ready => {
            return match place {
                Place::Chosen(name) => format!(
                    "models run without it; its libraries are there: `watchpost runtime verify {name}` says whether they are whole, `watchpost runtime list` which driver others need"
                ),
                _ => "models run without it; its libraries are there: see which driver they need".to_owned(),
            };
        }
        Readiness::Missing(names) if names.iter().any(|name| name.starts_with("libcuda.so")) => {
            return "models run without it; libcuda.so.1 is the driver's: see GPU driver, above".to_owned();
        }
        Readiness::Missing(names) if names.iter().all(tensorrt) => ADOPT,
        Readiness::Absent(_) | Readiness::Missing(_) => FETCH,
    };
    let wins = match place {
        Place::Configured => "; infer.library, which names another, must go",
        Place::Variable => "; the variable ORT_DYLIB_PATH, which names another, must go",
        _ => "",
    };
    format!("models run without it: {get}{wins}")
}

/// The loaded libraries of CUDA, cuDNN and TensorRT, and their folders: a line for each that is there.
pub(super) fn libraries() -> Vec<Finding> {
    let Some(used) = in_use() else { return Vec::new() };
    let part = |(name, begins): &(&str, &[&str])| part(name, begins, &used.loaded);
    PARTS.iter().filter_map(part).collect()
}

fn part(name: &str, begins: &[&str], loaded: &[PathBuf]) -> Option<Finding> {
    let of_it = |file: &&PathBuf| begins.iter().any(|begin| file_name(file).starts_with(begin));
    let files: Vec<&PathBuf> = loaded.iter().filter(of_it).collect();
    let folders: BTreeSet<String> =
        files.iter().filter_map(|file| file.parent()).map(|folder| folder.display().to_string()).collect();
    let folders = folders.into_iter().collect::<Vec<_>>().join(" and ");
    let found = match files.as_slice() {
        [] => return None,
        [file] => format!("{name}: {} in {folders}", file_name(file)),
        [first, rest @ ..] => format!("{name}: {} and {} more in {folders}", file_name(first), rest.len()),
    };
    Some(Finding::good("GPU runtime", found).details(json!({ "part": name, "files": files })))
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_is_for_what_is_missing() {
        let missing =
            |names: &[&str]| Readiness::Missing(names.iter().map(|name| (*name).to_owned()).collect());
        let fixed = |state: &Readiness| fix(state, &Place::Chosen("gpu".into()), true);
        assert!(fixed(&missing(&["libcudnn.so.9", "libnvinfer.so.10"])).contains(FETCH));
        assert!(fixed(&missing(&["libnvinfer.so.10", "libnvonnxparser.so.10"])).contains(ADOPT));
        assert!(fixed(&missing(&["libcuda.so.1", "libnvinfer.so.10"])).contains("GPU driver"));
        assert!(fixed(&Readiness::Ready).contains("watchpost runtime verify gpu"));
        let absent = Readiness::Absent(vec!["libonnxruntime_providers_cuda.so".into()]);
        assert!(
            fix(&absent, &Place::Variable, true).ends_with("ORT_DYLIB_PATH, which names another, must go")
        );
        assert!(fix(&absent, &Place::Configured, true).contains("infer.library"));
        assert!(fix(&absent, &Place::Package, false).contains("driver first"));
    }

    #[test]
    fn each_part_is_a_line_with_its_folders() {
        let loaded = [
            "/usr/lib/libcuda.so.1",
            "/a/libcublas.so.13",
            "/a/libcudart.so.13",
            "/b/libcudnn.so.9",
            "/b/libonnxruntime.so",
        ];
        let loaded: Vec<PathBuf> = loaded.iter().map(PathBuf::from).collect();
        let said = |index: usize| {
            let (name, begins) = PARTS[index];
            part(name, begins, &loaded).map(|finding| finding.found)
        };
        assert_eq!(said(0).as_deref(), Some("CUDA: libcublas.so.13 and 1 more in /a"));
        assert_eq!(said(1).as_deref(), Some("cuDNN: libcudnn.so.9 in /b"));
        assert_eq!(said(2), None);
    }
}
