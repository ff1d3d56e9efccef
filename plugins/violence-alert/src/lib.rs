//! Plugin `violence-alert`: not built yet.
