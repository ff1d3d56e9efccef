//! What goes wrong with plugin files, their configuration and the host's own folders. Each message names the
//! file, stream or entry, what was expected, and what to do.

use std::path::PathBuf;

/// An error of the plugin room.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The engine does not start.
    #[error("the WebAssembly engine does not start: {reason}")]
    Engine {
        /// Why.
        reason: String,
    },
    /// A file or folder of the host's own.
    #[error("{doing} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A plugin file that cannot be read.
    #[error("plugin file {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A plugin file that is too large.
    #[error("plugin file {} has {size} bytes, the limit is {limit_mib} MiB (limits.file_mib)", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size, bytes.
        size: u64,
        /// The limit, MiB.
        limit_mib: u64,
    },
    /// A plugin file that ends too early.
    #[error("plugin file {} is not whole: {missing}; it is looked at again when it changes", file.display())]
    NotWhole {
        /// The file.
        file: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A plugin file that is no WebAssembly component.
    #[error("plugin file {} is {found}, not a WebAssembly component; build it for wasm32-wasip2", file.display())]
    NotComponent {
        /// The file.
        file: PathBuf,
        /// What it is.
        found: String,
    },
    /// Compiled code in place of WebAssembly.
    #[error("plugin file {} is compiled code ({found}) in place of WebAssembly; compiled code is never loaded from a plugins folder", file.display())]
    Precompiled {
        /// The file.
        file: PathBuf,
        /// What kind.
        found: String,
    },
    /// A plugin file that does not compile.
    #[error("plugin file {} does not compile: {reason}", file.display())]
    Compile {
        /// The file.
        file: PathBuf,
        /// What the compiler said.
        reason: String,
    },
    /// A component of another world.
    #[error("plugin file {} is a component of another world: {reason}", file.display())]
    World {
        /// The file.
        file: PathBuf,
        /// What is missing or differs.
        reason: String,
    },
    /// An import that no plugin gets.
    #[error("plugin file {} imports {import}, which no plugin gets: {reason}", file.display())]
    Import {
        /// The file.
        file: PathBuf,
        /// Name of the import.
        import: String,
        /// Why.
        reason: String,
    },
    /// A plugin that does not describe itself as it should.
    #[error("plugin file {} describes itself wrongly: {reason}", file.display())]
    Descriptor {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A configuration that does not fit the plugin's schema, or that the plugin refuses.
    #[error("streams.{stream}.plugins.{entry}{}: {reason} (plugin {plugin})", if key.is_empty() { String::new() } else { format!(".{key}") })]
    Config {
        /// The stream.
        stream: String,
        /// The entry.
        entry: String,
        /// The plugin.
        plugin: String,
        /// The key below the entry; empty where it is not about one key.
        key: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// An instance that failed while it was set up.
    #[error("plugin {plugin} as {stream}/{entry}: {failure}")]
    Instance {
        /// The stream.
        stream: String,
        /// The entry.
        entry: String,
        /// The plugin.
        plugin: String,
        /// Why it died.
        failure: super::Failure,
    },
}

impl Error {
    /// Whether a file that is being written would look like this.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NotWhole { .. })
            || matches!(self, Self::NotComponent { found, .. } if found == "empty")
    }

    pub(super) fn io(doing: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), reason: error.to_string() }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// The stream has no such entry.
    #[error("stream {stream} has no plugin entry \"{entry}\"")]
    NoEntry {
        /// The stream.
        stream: String,
        /// The entry.
        entry: String,
    },
    /// The entry's plugin does not run now.
    #[error("plugin {plugin} does not run now: {reason}")]
    NotRunning {
        /// The plugin.
        plugin: String,
        /// Its state.
        reason: String,
    },
    /// The plugin knows no such command.
    #[error("plugin {plugin} knows no command \"{name}\"; it knows: {known}")]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The command.
        name: String,
        /// Those it knows.
        known: String,
    },
    /// The plugin refused.
    #[error("plugin {plugin}: {reason}")]
    Refused {
        /// The plugin.
        plugin: String,
        /// What it said.
        reason: String,
    },
    /// The plugin failed over it.
    #[error("plugin {plugin} failed: {reason}")]
    Failed {
        /// The plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
}
