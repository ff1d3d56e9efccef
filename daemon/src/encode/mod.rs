//! Room `encode`: not built yet.
