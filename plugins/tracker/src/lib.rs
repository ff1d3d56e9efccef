//! Plugin `tracker`: not built yet.
