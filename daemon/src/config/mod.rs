//! Files → merged → validated [`Settings`]; model folders → [`Manifest`]. Errors name file, line and key.
//!
//! Any room may use the types; only `app` and `jobs` load files.

mod credentials;
mod load;
pub mod manifest;
mod origin;
pub mod runtime;
pub mod settings;
mod validate;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

pub use load::{ConfigError, Loaded, Problem, load, load_with, merge};
pub use manifest::Manifest;
pub use origin::{Origin, Origins};
pub use settings::Settings;
