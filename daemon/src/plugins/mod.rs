//! Room `plugins`: sandboxed WebAssembly components decide what a stream's objects mean.
//!
//! In: frames' metadata, objects, model runs and scores, from a stream's worker. Out: objects, events, views,
//! states and shapes. [`Host`] is owned by `app`, one [`StreamPlugins`] by each stream's worker. A plugin that
//! breaks a limit, traps or lies loses its instance and nothing else: the frame goes on without it, and log,
//! status and notices name it.
//!
//! ```text
//!  folders ─▶ library ─▶ loaded (read, compiled in a child, checked, described) ─▶ catalogue
//!                                                                                    │
//!  worker ─▶ row ─▶ seat ─▶ instance (store, limits, checks)  ◀─ slot (made aside) ◀─┘
//!             ╰─▶ ledger (open incidents on disk)                 ╰─▶ snapshots
//! ```

mod artifact;
mod bindings;
mod check;
mod compile;
mod context;
mod descriptor;
mod engine;
mod error;
mod failure;
mod folder;
mod guest;
mod host;
mod ids;
mod incidents;
mod inspect;
mod instance;
mod library;
mod loaded;
mod player;
mod row;
mod seat;
mod shared;
mod slot;
mod snapshots;
mod status;
mod tape;
mod wasi;
mod winners;

pub use compile::{Compiler, SUBCOMMAND, compile_child};
pub use context::{StreamContext, StreamModel};
pub use error::{CommandError, Error};
pub use failure::Failure;
pub use folder::FolderInfo;
pub use host::{Host, HostOptions, look_offline, plugins_offline};
pub use incidents::{Orphan, PluginEvent};
pub use inspect::{Inspection, Trial, inspect};
pub use player::{Player, Seating};
pub use row::{RowOutput, Signal, StreamPlugins, remap};
pub use shared::OnNotice;
pub use status::{EntryStatus, InstanceState, Notice, PluginInfo, PluginOrigin, PluginState};
pub use tape::{Answered, Gave, Started, Step};
