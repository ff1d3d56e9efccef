//! Room `pipeline`: not built yet.

pub mod lane;
