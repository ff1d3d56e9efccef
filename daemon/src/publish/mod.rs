//! Room `publish`: not built yet.
