//! Room `plugins`: not built yet.
