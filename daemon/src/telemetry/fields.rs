//! Names of the structured fields in log lines, so that one `journalctl` filter finds a thing everywhere.
//!
//! In: nothing. Out: constants. Use them as `tracing::warn!({ fields::STREAM } = name, "...")`, or write the
//! same word as the field's name. Under systemd those in [`JOURNAL`] become journal fields of that name
//! (`STREAM=entrance`), and every other one of its own name in capitals with `WATCHPOST_` before it
//! (`WATCHPOST_ERROR=...`), so that none can take the place of a field that the journal knows.

/// Name of a stream.
pub const STREAM: &str = "stream";
/// Name of a model.
pub const MODEL: &str = "model";
/// Name of a plugin.
pub const PLUGIN: &str = "plugin";
/// Name of a plugin's entry in a stream.
pub const ENTRY: &str = "entry";
/// Name of an output.
pub const OUTPUT: &str = "output";
/// Index of a frame.
pub const FRAME: &str = "frame";
/// Id of an incident.
pub const INCIDENT: &str = "incident";
/// Address of the other end of a connection, without credentials.
pub const PEER: &str = "peer";
/// A path.
pub const PATH: &str = "path";
/// What went wrong.
pub const ERROR: &str = "error";

/// Fields that people filter the journal by, and their names there. No other program's fields are called so, but for
/// what means the same.
pub const JOURNAL: [(&str, &str); 4] =
    [(STREAM, "STREAM"), (PLUGIN, "PLUGIN"), (MODEL, "MODEL"), (INCIDENT, "EVENT_ID")];
