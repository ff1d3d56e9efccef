//! ONNX Runtime's library, loaded once in the life of the process.
//!
//! In: where to look. Out: a [`Runtime`] that sessions are opened with. An error says where it looked, what each
//! place answered, and what to do.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use super::{InferError, version};

/// File name of the library.
const LIBRARY: &str = "libonnxruntime.so";

/// The loaded library. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    version: String,
}

/// The library can be loaded once only, so whoever asks again gets the same.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or gives the one that is loaded already.
    ///
    /// Looks at: `library` alone where one is given; else `ORT_DYLIB_PATH` alone where that is set; else beside
    /// the executable, in `/usr/lib/watchpost`, in `onnxruntime/` of the build folder the executable lies in,
    /// and where the system's loader looks.
    ///
    /// # Errors
    /// Where no place has a library that loads and is at least of version 1.24, or another one than the given is
    /// loaded already.
    pub fn load(library: Option<&Path>) -> Result<Self, InferError> {
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return match library {
                Some(other) if !same_file(other, &runtime.library) => Err(InferError::OtherRuntime {
                    loaded: runtime.library.clone(),
                    wanted: other.to_path_buf(),
                }),
                _ => Ok(runtime.clone()),
            };
        }
        let mut tried = Vec::new();
        for place in places(library) {
            // A bare name is for the system's loader; anything else must be a file, which gives a clearer answer.
            if place.components().count() > 1 && !place.is_file() {
                tried.push((place, "no such file".to_owned()));
                continue;
            }
            match ort::init_from(&place) {
                Ok(builder) => {
                    let environment = builder.with_telemetry(false).with_name("watchpost").build()?;
                    let library = place.canonicalize().unwrap_or(place);
                    let runtime = Self { environment, version: version::of(&library), library };
                    *loaded = Some(runtime.clone());
                    return Ok(runtime);
                }
                Err(error) => tried.push((place, error.to_string())),
            }
        }
        Err(InferError::NoRuntime { tried })
    }

    /// The library's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The library's version, such as `1.31.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The number that TensorRT's library gives as its version, such as `101303`; `None` where it is not loaded, which
    /// [`Self::try_provider`] does.
    #[must_use]
    pub fn tensorrt_version(&self) -> Option<String> {
        version::tensorrt()
    }

    /// What sessions are opened in.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Where to look, in order.
fn places(library: Option<&Path>) -> Vec<PathBuf> {
    if let Some(library) = library {
        return vec![library.to_path_buf()];
    }
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        return vec![named.into()];
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let mut places: Vec<PathBuf> =
        executable.parent().map(|folder| folder.join(LIBRARY)).into_iter().collect();
    places.push(Path::new("/usr/lib/watchpost").join(LIBRARY));
    // target/release/watchpost, target/release/deps/some-test, target/TRIPLE/release/...
    let above = executable.ancestors().skip(1).find(|folder| folder.join("onnxruntime").is_dir());
    places.extend(above.map(|folder| folder.join("onnxruntime").join(LIBRARY)));
    places.push(LIBRARY.into());
    places
}

fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}
