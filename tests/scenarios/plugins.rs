//! The plugin host with real components: what misbehaves is contained and named, files come and go, state and
//! incidents survive.

mod contained;
mod dropin;
mod files;
mod life;
mod limits;
mod replay;
mod sdk;

/// Limits that make a test of failures quick: two of them are enough for quarantine.
fn strict() -> watchpost::config::settings::Limits {
    watchpost::config::settings::Limits { failures: 2, ..Default::default() }
}
