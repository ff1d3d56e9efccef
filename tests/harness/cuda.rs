//! The software CUDA driver: the environment of a process that shall see it, and its books afterwards.
//!
//! In: a folder of the test's own. Out: variables for [`crate::daemon::Daemon::start_with`], and what the driver counted
//! once that process has ended. The driver is built by `make soft-driver`; see `tests/cuda/soft.h`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::data::root;

/// Variables that make a process see one software GPU.
pub struct Soft {
    folder: PathBuf,
    variables: Vec<(String, PathBuf)>,
}

impl Soft {
    /// A driver whose books come into `folder`; GStreamer's registry too, for a cached one knows no CUDA elements.
    ///
    /// # Panics
    /// Where the driver is not built.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let driver = root().join("target/cuda");
        assert!(driver.join("libcuda.so.1").is_file(), "the software driver is not built: make soft-driver");
        let variables = [
            ("LD_LIBRARY_PATH", driver.clone()),
            ("WATCHPOST_SOFT_KERNELS", driver.join("kernels.so")),
            ("WATCHPOST_SOFT_REPORT", folder.join("books-%p.json")),
            ("GST_REGISTRY", folder.join("registry")),
            ("GST_REGISTRY_FORK", PathBuf::from("no")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder: folder.to_owned(), variables }
    }

    /// With another setting of the driver's, such as `WATCHPOST_SOFT_ASYNC`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), PathBuf::from(value)));
        self
    }

    /// What to start a process with.
    #[must_use]
    pub fn environment(&self) -> Vec<(&str, &Path)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_path())).collect()
    }

    /// What the driver counted in a process that has ended.
    ///
    /// # Panics
    /// Where it left no books.
    #[must_use]
    pub fn books(&self, process: u32) -> Books {
        let file = self.folder.join(format!("books-{process}.json"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Books(serde_json::from_str(&text).unwrap())
    }
}

/// What the driver counted.
#[derive(Debug)]
pub struct Books(pub Value);

impl Books {
    /// A number by its path, such as `copies/host_to_device/bytes`; 0 where there is none.
    #[must_use]
    pub fn number(&self, path: &str) -> u64 {
        self.0.pointer(&format!("/{path}")).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Names of the functions that were called.
    ///
    /// # Panics
    /// Where the books have none.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        self.0["calls"].as_object().unwrap().keys().cloned().collect()
    }

    /// Everything that was made was given back by who made it, and nothing was misused.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn balance(&self) {
        self.balance_below("");
        assert_eq!(self.number("misuse/count"), 0, "{}", self.0);
    }

    /// As [`Books::balance`], of one device.
    ///
    /// # Panics
    /// Where that is not so, or there is no such device.
    pub fn balance_of(&self, device: usize) {
        assert!(self.0["devices"][device].is_object(), "no device {device}: {}", self.0);
        self.balance_below(&format!("devices/{device}/"));
    }

    fn balance_below(&self, place: &str) {
        let number = |path: &str| self.number(&format!("{place}{path}"));
        let kinds = ["contexts", "streams", "events", "modules", "allocations", "host_allocations"];
        for kind in kinds {
            let left = (number(&format!("{kind}/alive")), number(&format!("{kind}/reclaimed")));
            assert_eq!(left, (0, 0), "{place}{kind} are left: {}", self.0);
        }
        assert_eq!(number("primary/retained"), number("primary/released"), "{place}: {}", self.0);
    }
}
