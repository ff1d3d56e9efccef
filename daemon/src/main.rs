//! Arguments, run, error chain → exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use watchpost::cli::Cli;

fn main() -> ExitCode {
    // The process that compiles a plugin limits itself before it does anything else.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == watchpost::plugins::SUBCOMMAND) {
        return watchpost::plugins::compile_child(arguments);
    }
    let cli = Cli::parse();
    match watchpost::app::main(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchpost: {error:#}");
            ExitCode::from(watchpost::app::exit_code(&error))
        }
    }
}
