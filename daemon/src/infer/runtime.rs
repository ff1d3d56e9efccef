//! ONNX Runtime's library, loaded once in the life of the process.
//!
//! In: where to look. Out: a [`Runtime`] that sessions are opened with, and what is in use, for whoever asks. An error
//! says where it looked, what each place answered, and what to do.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::in_use::{self, InUse, Place};
use super::libraries::Library;
use super::{InferError, Provider, version};
use crate::config::settings::Paths;

/// File name of the library.
pub const LIBRARY: &str = "libonnxruntime.so";
/// Name of the folder in `paths.state` that holds the runtimes that `watchpost runtime` has fetched or adopted.
pub const RUNTIMES: &str = "runtime";
/// Name of the link in that folder to the runtime that is used.
pub const CURRENT: &str = "current";

/// The loaded library. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    /// The path by which it was loaded.
    named: PathBuf,
    version: String,
    place: Place,
}

/// The library can be loaded once only, so whoever asks again gets the same.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// How the name of TensorRT's library begins.
const TENSORRT: &str = "libnvinfer.so.";

/// `paths.state`/runtime, once the configuration is known.
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

impl Runtime {
    /// Says where the runtimes that `watchpost runtime` manages are: `paths.state`/runtime. Until then it is that of the
    /// default configuration. To be called before the first [`Self::load`].
    pub fn look_in(folder: PathBuf) {
        *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
    }

    /// What [`Self::look_in`] said.
    #[must_use]
    pub fn folder() -> PathBuf {
        let named = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone();
        named.unwrap_or_else(|| Paths::default().state.join(RUNTIMES))
    }

    /// Loads the library, or gives the one that is loaded already.
    ///
    /// Looks at: `library` alone where one is given; else `ORT_DYLIB_PATH` alone where that is set; else the runtime
    /// that `watchpost runtime use` has chosen, alone where there is one; else beside the executable, in
    /// `/usr/lib/watchpost`, in `onnxruntime/` of the build folder the executable lies in, and where the system's
    /// loader looks.
    ///
    /// # Errors
    /// Where no place has a library that loads and is at least of version 1.24, or another one than the given is
    /// loaded already.
    pub fn load(library: Option<&Path>) -> Result<Self, InferError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
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
        for (place, file) in places(library, &Self::folder()) {
            // A bare name is for the system's loader; anything else must be a file, which gives a clearer answer.
            if !is_bare(&file) && !file.is_file() {
                tried.push((file, format!("no such file{}", place.hint())));
                continue;
            }
            match ort::init_from(&file) {
                Ok(builder) => {
                    let environment = builder.with_telemetry(false).with_name("watchpost").build()?;
                    let runtime = Self::new(environment, place, &file);
                    tracing::info!(
                        library = %runtime.library.display(),
                        version = runtime.version,
                        from = %runtime.place,
                        "ONNX Runtime loaded"
                    );
                    *loaded = Some(runtime.clone());
                    return Ok(runtime);
                }
                Err(error) => {
                    // ort leaves out what the loader said.
                    let why = version::ask(&file).err().unwrap_or_else(|| error.to_string());
                    tried.push((file, format!("{why}{}", place.hint())));
                }
            }
        }
        Err(InferError::NoRuntime { tried })
    }

    fn new(environment: Environment, place: Place, file: &Path) -> Self {
        // Where the system's loader found what has no more than a name, the process's own map says.
        let found = if is_bare(file) { in_use::loaded(LIBRARY) } else { file.canonicalize().ok() };
        let library = found.unwrap_or_else(|| file.to_path_buf());
        let version = version::of(&library);
        Self { environment, version, library, named: file.to_path_buf(), place }
    }

    /// The library's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The path by which it was loaded, in whose folder it looks for its providers: links are not followed. Another
    /// process that is to have the same providers loads it by this.
    #[must_use]
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// The folder in which it looks for its providers.
    #[must_use]
    pub fn home(&self) -> &Path {
        let file = if is_bare(&self.named) { &self.library } else { &self.named };
        file.parent().unwrap_or(Path::new(""))
    }

    /// The library's version, such as `1.31.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version, and where it has a provider for CUDA for which CUDA: `1.31.1 for CUDA 13`. One version comes for
    /// several, with different libraries.
    #[must_use]
    pub fn build(&self) -> String {
        match cuda_of(self.home()) {
            Some(cuda) => format!("{} for CUDA {cuda}", self.version),
            None => self.version.clone(),
        }
    }

    /// Why this library was taken.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What this process uses now: the library, and those of CUDA, cuDNN and TensorRT that are loaded.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        InUse::now(self.library.clone(), self.version.clone(), self.place.clone())
    }

    /// The number that TensorRT's library gives as its version, such as `101303`: of the library that the provider needs,
    /// be others loaded or not. `None` where it is not loaded, which [`Self::try_provider`] does.
    #[must_use]
    pub fn tensorrt_version(&self) -> Option<String> {
        let named = needed(self.home(), Provider::TensorRt, TENSORRT).map(PathBuf::from);
        version::tensorrt(&named.or_else(|| in_use::loaded(TENSORRT))?)
    }

    /// What sessions are opened in.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// What this process uses; `None` before anything was loaded.
#[must_use]
pub fn in_use() -> Option<InUse> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Runtime::in_use)
}

/// The version of a library that is to be used, such as `1.31.1`; loads it into this process to ask.
///
/// # Errors
/// Where it does not load, is no ONNX Runtime, or is older than 1.24.
pub fn version_of(library: &Path) -> Result<String, String> {
    let version = version::ask(library)?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if number < (1, 24) {
        return Err(format!("is version {version}; 1.24 or later is needed"));
    }
    Ok(version)
}

/// Where to look, in order.
fn places(library: Option<&Path>, runtimes: &Path) -> Vec<(Place, PathBuf)> {
    if let Some(library) = library {
        return vec![(Place::Configured, library.to_path_buf())];
    }
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        return vec![(Place::Variable, named.into())];
    }
    let link = runtimes.join(CURRENT);
    if let Ok(target) = link.read_link() {
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Through the link once only: providers that are loaded later come out of the same folder, whatever it says by then.
        let folder = link.canonicalize().unwrap_or(link);
        return vec![(Place::Chosen(name), folder.join(LIBRARY))];
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let mut places: Vec<(Place, PathBuf)> =
        executable.parent().map(|folder| (Place::Beside, folder.join(LIBRARY))).into_iter().collect();
    places.push((Place::Package, Path::new("/usr/lib/watchpost").join(LIBRARY)));
    // target/release/watchpost, target/release/deps/some-test, target/TRIPLE/release/...
    let above = executable.ancestors().skip(1).find(|folder| folder.join("onnxruntime").is_dir());
    places.extend(above.map(|folder| (Place::Build, folder.join("onnxruntime").join(LIBRARY))));
    places.push((Place::System, LIBRARY.into()));
    places
}

/// A name for the system's loader, and no path.
fn is_bare(file: &Path) -> bool {
    file.components().count() < 2
}

/// Of the libraries that the provider of an ONNX Runtime in `home` needs, the name of the first that begins so.
fn needed(home: &Path, provider: Provider, prefix: &str) -> Option<String> {
    let file = home.join(provider.libraries().last()?);
    Library::read(&file)?.needed.into_iter().find(|name| name.starts_with(prefix))
}

/// The CUDA that an ONNX Runtime in `home` is for, such as `13`.
pub(super) fn cuda_of(home: &Path) -> Option<String> {
    let of = |prefix: &str| Some(needed(home, Provider::Cuda, prefix)?[prefix.len()..].to_owned());
    of("libcudart.so.").or_else(|| of("libcublas.so."))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_runtime_is_the_only_place_and_its_link_is_followed_once() {
        // The variable is for whoever tests; it comes before what is chosen.
        let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let runtimes = folder.path();
        std::fs::create_dir(runtimes.join("1.31.1-gpu")).unwrap();
        std::os::unix::fs::symlink("1.31.1-gpu", runtimes.join(CURRENT)).unwrap();
        let found = places(None, runtimes);
        if let Some(variable) = variable {
            assert_eq!(found, [(Place::Variable, variable.into())]);
        } else {
            let file = runtimes.canonicalize().unwrap().join("1.31.1-gpu").join(LIBRARY);
            assert_eq!(found, [(Place::Chosen("1.31.1-gpu".into()), file)]);
        }
        let given = places(Some(Path::new("/opt/libonnxruntime.so")), runtimes);
        assert_eq!(given, [(Place::Configured, "/opt/libonnxruntime.so".into())]);
    }
}
