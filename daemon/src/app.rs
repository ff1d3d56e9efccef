//! Where rooms are wired together: the one place that knows them all.
//!
//! In: a command. Out: its end. `daemon` owns every task and thread of the running daemon and drains them in the
//! reverse of the order in which they were started; jobs own what they open.

mod check;
mod daemon;
mod demo;
mod duties;
mod handler;

use std::path::Path;

use anyhow::Context;

use crate::cli::{BenchCommand, Command, ConfigArgs, ModelCommand, PluginCommand, SceneCommand, StatusArgs};
use crate::config::{ConfigError, Settings};

/// Exit status for a wrong configuration (sysexits.h, EX_CONFIG).
const EX_CONFIG: u8 = 78;

/// Carries a command out.
///
/// # Errors
/// Whatever stands in the command's way, with its chain of causes.
pub fn main(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check::run(&load(&arguments.config)?),
        Command::Reload(arguments) => handler::reload(&load(&arguments.config)?),
        Command::Status(StatusArgs { config, json }) => handler::status(&load(&config.config)?, json),
        Command::Scene(SceneCommand::Export(arguments)) => crate::jobs::scene::run(&arguments),
        Command::Plugin(PluginCommand::List { config, json }) => {
            handler::plugin_list(&load(&config.config)?, json)
        }
        Command::Plugin(PluginCommand::Check(arguments)) => {
            crate::jobs::plugin::check::run(&arguments, &crate::config::settings::Limits::default())
        }
        Command::Plugin(PluginCommand::New(arguments)) => crate::jobs::plugin::new::run(&arguments),
        Command::Plugin(PluginCommand::Command { config, target, name, arguments }) => {
            handler::command(&load(&config.config)?, &target, &name, &arguments)
        }
        Command::Model(ModelCommand::Check { config, mut arguments }) => {
            let settings = load_or_default(config.as_deref())?;
            arguments.library = arguments.library.or(settings.infer.library);
            crate::jobs::model::check(&arguments)
        }
        Command::Runtime(arguments) => {
            let settings = load_or_default(arguments.config.as_deref())?;
            crate::jobs::runtime::run(&arguments.command, &settings)
        }
        Command::Bench(BenchCommand::Plugin(arguments)) => crate::jobs::bench::plugin::run(&arguments),
        Command::Bench(BenchCommand::Preprocess(arguments)) => {
            crate::jobs::bench::preprocess::run(&arguments)
        }
        Command::Broker { listen } => Ok(crate::publish::broker_main(listen)?),
    }
}

/// The exit status for an error: 78 where the configuration is wrong, else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<ConfigError>()) { EX_CONFIG } else { 1 }
}

fn run(arguments: &ConfigArgs) -> anyhow::Result<()> {
    let settings = load(&arguments.config)?;
    let _logging = crate::service::logging::init(&settings.log.level)?;
    runtime()?.block_on(daemon::serve(
        settings,
        Some(arguments.config.clone()),
        std::future::pending(),
        || {},
    ))
}

/// Reads the configuration; the shipped plugins and models are added where the folders are left at their defaults.
fn load(file: &Path) -> anyhow::Result<Settings> {
    let loaded = crate::config::load(file).context("the configuration is wrong")?;
    let mut settings = loaded.settings;
    shipped(&mut settings);
    crate::infer::Runtime::look_in(settings.paths.state.join(crate::infer::RUNTIMES));
    Ok(settings)
}

/// For commands that also work where nothing is configured: the configuration that is named, else the usual one where
/// there is one, else the defaults.
fn load_or_default(file: Option<&Path>) -> anyhow::Result<Settings> {
    let usual = Path::new(crate::cli::CONFIG);
    match file {
        Some(file) => load(file),
        None if usual.is_file() => load(usual),
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
