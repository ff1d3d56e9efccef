//! Room `ingest`: not built yet.
