//! Room `infer`: not built yet.
