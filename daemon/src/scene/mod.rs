//! Room `scene`: not built yet.
