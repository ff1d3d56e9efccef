//! Room `control`: not built yet.
