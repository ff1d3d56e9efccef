//! Plugin `camera-framing`: not built yet.
