//! Room `preprocess`: not built yet.
