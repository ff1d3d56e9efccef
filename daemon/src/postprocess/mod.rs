//! Room `postprocess`: not built yet.
