//! `watchpost bench`: measures the parts of the daemon beside floors in the same run; each file is one part.

pub mod host;
pub mod plugin;
pub mod preprocess;
