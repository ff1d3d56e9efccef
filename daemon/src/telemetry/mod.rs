//! Room `telemetry`: not built yet.
