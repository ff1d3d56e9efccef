//! Room `render`: not built yet.
