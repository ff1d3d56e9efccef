//! Room `jobs`: not built yet.
