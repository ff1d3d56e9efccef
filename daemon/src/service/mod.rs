//! Room `service`: not built yet.
