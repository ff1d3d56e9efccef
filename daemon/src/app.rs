//! Where rooms are wired together: the one place that knows them all.
//!
//! In: a command. Out: its end. `daemon` owns every task and thread of the running daemon and drains them in the
//! reverse of the order in which they were started; jobs own what they open.

mod announce;
mod check;
mod client;
mod daemon;
mod demo;
mod duties;
mod handler;
mod plugin_keys;
mod plugin_list;
mod refuse;
mod reload;
mod rtsp;
mod status_line;
mod web;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;

use crate::cli::{
    BenchCommand, Command, DoctorArgs, GpuCommand, ModelCommand, PluginCommand, RunArgs, SceneCommand,
    StatusArgs, StreamArgs,
};
use crate::config::{ConfigError, Problem, Settings};
use crate::jobs::doctor;
use crate::service::state::StateError;

/// Exit status for a wrong configuration (sysexits.h, EX_CONFIG).
const EX_CONFIG: u8 = 78;

/// The folder of `watchpost run --record`: whatever the configuration says, also when it is read again.
static RECORD: OnceLock<PathBuf> = OnceLock::new();

/// How long the end waits for what a second signal to stop left behind.
const LEAVE: Duration = Duration::from_secs(1);

/// Carries a command out.
///
/// # Errors
/// Whatever stands in the command's way, with its chain of causes.
pub fn main(command: Command) -> anyhow::Result<()> {
    if only_prints(&command) {
        crate::service::end_with_the_reader();
    }
    // GStreamer would handle SIGSEGV while it loads a plugin, and exit. That would be no crash for anybody to remember; and
    // it would take for one what is another thread's trap in a component.
    gstreamer::segtrap_set_enabled(false);
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => {
            let (settings, missing) = read(&arguments.config)?;
            check::run(&settings, &missing)
        }
        Command::Reload(arguments) => client::reload(&arguments.config),
        Command::Doctor(DoctorArgs { config, json }) => doctor(&config.config, json),
        Command::DoctorPart(arguments) => {
            doctor::part(&for_doctor(&arguments.config).0, &arguments);
            Ok(())
        }
        Command::Status(StatusArgs { config, json }) => client::status(&config.config, json),
        Command::Enable(StreamArgs { config, stream }) => client::set_enabled(&config.config, &stream, true),
        Command::Disable(StreamArgs { config, stream }) => {
            client::set_enabled(&config.config, &stream, false)
        }
        Command::Scene(SceneCommand::Export(arguments)) => crate::jobs::scene::run(&arguments),
        Command::Plugin(PluginCommand::List { config, long, json }) => {
            plugin_list::run(&look_up(&config.config)?, long, json)
        }
        Command::Plugin(PluginCommand::Replay(arguments)) => {
            crate::jobs::plugin::replay::run(&arguments, &load_or_default(None)?.limits)
        }
        Command::Plugin(PluginCommand::Enable { config, name }) => {
            client::set_plugin_enabled(&config.config, &name, true)
        }
        Command::Plugin(PluginCommand::Disable { config, name }) => {
            client::set_plugin_enabled(&config.config, &name, false)
        }
        Command::Plugin(PluginCommand::Check(arguments)) => {
            crate::jobs::plugin::check::run(&arguments, &crate::config::settings::Limits::default())
        }
        Command::Plugin(PluginCommand::New(arguments)) => crate::jobs::plugin::new::run(&arguments),
        Command::Plugin(PluginCommand::Command { config, target, name, arguments }) => {
            client::command(&config.config, &target, &name, &arguments)
        }
        Command::Model(ModelCommand::Check { config, mut arguments }) => {
            let settings = load_or_default(config.as_deref())?;
            arguments.library = arguments.library.or(settings.infer.library);
            crate::jobs::model::check(&arguments)
        }
        Command::Model(ModelCommand::Engines { config, what }) => {
            crate::jobs::model::engines::run(&look_up(&config.config)?, &what)
        }
        Command::Runtime(arguments) => {
            let settings = load_or_default(arguments.config.as_deref())?;
            crate::jobs::runtime::run(&arguments.command, &settings)
        }
        Command::Bench(BenchCommand::Lane(arguments)) => {
            load_or_default(None)?;
            crate::jobs::bench::lane::run(&arguments)
        }
        Command::Bench(BenchCommand::Streams(arguments)) => {
            load_or_default(None)?;
            crate::jobs::bench::streams::run(&arguments)
        }
        Command::Bench(BenchCommand::Plugin(arguments)) => crate::jobs::bench::plugin::run(&arguments),
        Command::Bench(BenchCommand::Preprocess(arguments)) => {
            crate::jobs::bench::preprocess::run(&arguments)
        }
        Command::Gpu(GpuCommand::Check(arguments)) => {
            crate::jobs::gpu::run(&arguments, load_or_default(None)?.infer.library)
        }
        Command::Package(arguments) => crate::jobs::package::run(&arguments),
        Command::Broker { listen } => Ok(crate::publish::broker_main(listen)?),
    }
}

/// Whether a command only prints what it found, so that it may end where nobody reads that any more. Not the daemon, nor
/// the doctor, which talk with a network, nor the helpers of either.
fn only_prints(command: &Command) -> bool {
    use Command as C;
    match command {
        C::Gpu(_)
        | C::Check(_)
        | C::Reload(_)
        | C::Status(_)
        | C::Enable(_)
        | C::Disable(_)
        | C::Scene(_)
        | C::Plugin(_)
        | C::Model(_)
        | C::Bench(_) => true,
        C::Runtime(arguments) => arguments.command.only_prints(),
        C::Run(_) | C::Demo(_) | C::Doctor(_) | C::DoctorPart(_) | C::Package(_) | C::Broker { .. } => false,
    }
}

/// The exit status for an error: 78 where the configuration is wrong or the state is a newer daemon's, which no new try
/// mends; else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    use crate::control::Error;
    let newer = |cause: &StateError| matches!(cause, StateError::Newer { .. });
    let daemon_says = |cause: &Error| matches!(cause, Error::Configuration(_));
    let for_good = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<ConfigError>()
            || cause.downcast_ref().is_some_and(newer)
            || cause.downcast_ref().is_some_and(daemon_says)
    };
    if error.chain().any(for_good) { EX_CONFIG } else { 1 }
}

fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    if let Some(folder) = &arguments.record {
        // Nobody has set it before: this is the only call of this process's one command.
        let _ = RECORD.set(std::path::absolute(folder).context("--record")?);
    }
    let settings = load(&arguments.config.config)?;
    let logging = crate::service::logging::init(&settings.log.level)?;
    let runtime = runtime()?;
    let from = Some((arguments.config.config.clone(), logging));
    let outcome = runtime.block_on(daemon::serve(settings, from, std::future::pending(), || {}));
    crate::service::logging::sum_up(true);
    // Who was told twice to stop does not wait for what hangs.
    runtime.shutdown_timeout(LEAVE);
    outcome
}

/// A box that has no configuration yet has a doctor all the same.
fn doctor(file: &Path, json: bool) -> anyhow::Result<()> {
    let (settings, given) = for_doctor(file);
    doctor::run(doctor::Patient { file, settings, given }, json)
}

fn for_doctor(file: &Path) -> (Settings, doctor::Given) {
    if file.exists() {
        return match look_up(file) {
            Ok(settings) => (settings, doctor::Given::Read),
            Err(error) => (Settings::default(), doctor::Given::Wrong(error)),
        };
    }
    let mut settings = Settings::default();
    shipped(&mut settings);
    (settings, doctor::Given::None)
}

/// Reads the configuration for the service, with all of its credentials.
fn load(file: &Path) -> anyhow::Result<Settings> {
    let settings = load_again(file)?;
    crate::infer::Runtime::look_in(settings.paths.state.join(crate::infer::RUNTIMES));
    Ok(settings)
}

/// The same for a service that runs: nothing else is changed by it.
fn load_again(file: &Path) -> anyhow::Result<Settings> {
    let (settings, missing) = only_read(file)?;
    if !missing.is_empty() {
        return Err(ConfigError(missing)).context("the configuration is wrong");
    }
    Ok(settings)
}

/// Reads the configuration for a command: credentials that only the service is given stay as they are written.
fn look_up(file: &Path) -> anyhow::Result<Settings> {
    read(file).map(|(settings, _)| settings)
}

/// Reads the configuration; from here on ONNX Runtime is looked for where the daemon would.
fn read(file: &Path) -> anyhow::Result<(Settings, Vec<Problem>)> {
    let (settings, missing) = only_read(file)?;
    crate::infer::Runtime::look_in(settings.paths.state.join(crate::infer::RUNTIMES));
    Ok((settings, missing))
}

/// Reads the configuration; the shipped plugins and models are added where the folders are left at their defaults.
fn only_read(file: &Path) -> anyhow::Result<(Settings, Vec<Problem>)> {
    let loaded = crate::config::load(file).context("the configuration is wrong")?;
    let mut settings = loaded.settings;
    shipped(&mut settings);
    if let Some(folder) = RECORD.get() {
        settings.record_into(folder);
    }
    Ok((settings, loaded.missing))
}

/// For commands that also work where nothing is configured: the configuration that is named, else the usual one where
/// there is one, else the defaults. From here on ONNX Runtime is looked for where the daemon would.
fn load_or_default(file: Option<&Path>) -> anyhow::Result<Settings> {
    let usual = Path::new(crate::cli::CONFIG);
    match file {
        Some(file) => look_up(file),
        None if usual.is_file() => look_up(usual),
        None => {
            let variables = std::env::vars().filter(|(name, _)| name.starts_with("WATCHPOST_")).collect();
            let settings = crate::config::merge(&[], &variables)?;
            crate::infer::Runtime::look_in(settings.paths.state.join(crate::infer::RUNTIMES));
            Ok(settings)
        }
    }
}

/// Adds the folders of a build tree, where the binary runs from one.
fn shipped(settings: &mut Settings) {
    let default = crate::config::settings::Paths::default();
    let Some(share) = crate::share::folder() else { return };
    if settings.paths.plugins == default.plugins && !settings.paths.plugins.contains(&share.join("plugins")) {
        settings.paths.plugins.insert(0, share.join("plugins"));
    }
    if settings.paths.models == default.models && !settings.paths.models.contains(&share.join("models")) {
        settings.paths.models.push(share.join("models"));
    }
}

/// The runtime for control: config, MQTT, sockets. Video has threads of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("no threads for the control runtime")
}
