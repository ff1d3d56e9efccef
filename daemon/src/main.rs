//! Arguments, run, error chain → exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use watchpost::cli::Cli;

fn main() -> ExitCode {
    // The processes that compile a plugin or build an engine limit themselves before they do anything else.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == watchpost::plugins::SUBCOMMAND => {
            return watchpost::plugins::compile_child(arguments);
        }
        Some(first) if first == watchpost::infer::ENGINE_SUBCOMMAND => {
            return watchpost::infer::build_child(arguments);
        }
        _ => {}
    }
    let cli = Cli::parse();
    match watchpost::app::main(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            eprintln!("watchpost: {}", watchpost::telemetry::secrets::scrub(&text));
            ExitCode::from(watchpost::app::exit_code(&error))
        }
    }
}
