//! Files → merged → validated [`Settings`]; model folders → [`Manifest`]. Errors name file, line and key.
//!
//! Any room may use the types; only `app` and `control` load files.

pub mod manifest;
pub mod settings;

pub use manifest::Manifest;
pub use settings::Settings;
