//! Which libraries run the models: said, not guessed.
//!
//! In: the loaded ONNX Runtime, and the process's own list of what is mapped into it. Out: [`InUse`], for `doctor`, the
//! log and people. A list that cannot be read is empty.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// Why a library was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `infer.library`, or `--library`.
    Configured,
    /// The variable `ORT_DYLIB_PATH`.
    Variable,
    /// A runtime that `watchpost runtime use` has chosen, by its name.
    Chosen(String),
    /// It lies beside the executable.
    Beside,
    /// It lies in the package's folder.
    Package,
    /// It lies in the build folder.
    Build,
    /// The system's loader found it.
    System,
}

impl Place {
    /// What to do where it is not there.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Chosen(name) => format!(
                " (runtime {name}, which `watchpost runtime use` has chosen; `watchpost runtime verify {name}` says what \
                 is wrong with it, `watchpost runtime use system` goes back to the installed library)"
            ),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("as configured"),
            Self::Variable => f.write_str("by ORT_DYLIB_PATH"),
            Self::Chosen(name) => write!(f, "runtime {name}"),
            Self::Beside => f.write_str("beside the executable"),
            Self::Package => f.write_str("the package's"),
            Self::Build => f.write_str("the build folder's"),
            Self::System => f.write_str("the system's"),
        }
    }
}

/// What this process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// ONNX Runtime's library.
    pub library: PathBuf,
    /// Its version.
    pub version: String,
    /// Why it was taken.
    pub place: Place,
    /// Files of ONNX Runtime, CUDA, cuDNN and TensorRT that are loaded now, the driver's among them; sorted.
    pub loaded: Vec<PathBuf>,
}

impl InUse {
    pub(super) fn now(library: PathBuf, version: String, place: Place) -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self { library, version, place, loaded: mapped(&maps) }
    }
}

impl fmt::Display for InUse {
    /// One line: version, file and why; then the number of further libraries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime {} ({}): {}", self.version, self.place, self.library.display())?;
        match self.loaded.iter().filter(|file| **file != self.library).count() {
            0 => Ok(()),
            more => write!(f, ", and {more} libraries of its providers, CUDA, cuDNN and TensorRT"),
        }
    }
}

/// How the names of the libraries begin that are looked for.
const NAMES: &[&str] = &[
    "libonnxruntime",
    "libcuda.so",
    "libcudart",
    "libcublas",
    "libcudnn",
    "libcufft",
    "libcurand",
    "libcusolver",
    "libcusparse",
    "libnvinfer",
    "libnvonnxparser",
    "libnvrtc",
    "libnvJitLink",
    "libnvidia-",
];

/// The file of a loaded library whose name begins so.
pub(super) fn loaded(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    mapped(&maps)
        .into_iter()
        .find(|file| file.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name)))
}

/// Files of the process's memory map whose names say that they belong here.
fn mapped(maps: &str) -> Vec<PathBuf> {
    let files: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]))
        .filter(|file| {
            let name = file.rsplit('/').next().unwrap_or_default();
            NAMES.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    files.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_found_once() {
        let maps = "7f00-7f10 r--p 00000000 fe:00 12 /opt/with space/libcudnn.so.9\n\
                    7f10-7f20 r-xp 00000000 fe:00 12 /opt/with space/libcudnn.so.9\n\
                    7f20-7f30 r-xp 00000000 fe:00 13 /usr/lib/libcurl.so.4\n\
                    7f30-7f40 r-xp 00000000 fe:00 14 /usr/lib/libcuda.so.1\n\
                    7f40-7f50 rw-p 00000000 00:00 0 [stack]\n";
        let files = [PathBuf::from("/opt/with space/libcudnn.so.9"), PathBuf::from("/usr/lib/libcuda.so.1")];
        assert_eq!(mapped(maps), files);
    }
}
