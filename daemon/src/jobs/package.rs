//! `watchpost __package`: what a package has beside the binary, made of the command line itself: man pages and completions.
//!
//! In: folders. Out: a man page for each command (`watchpost-plugin-list.1`), completions for bash, zsh and fish. Owns
//! nothing; a folder that cannot be written is an error that names it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Arguments of `watchpost __package`.
#[derive(Debug, Clone, clap::Args)]
pub struct PackageArgs {
    /// Folder for man pages
    #[arg(long, value_name = "FOLDER")]
    pub man: PathBuf,
    /// Folder for completions
    #[arg(long, value_name = "FOLDER")]
    pub completions: PathBuf,
}

/// Writes them.
///
/// # Errors
/// Where a folder cannot be written.
pub fn run(arguments: &PackageArgs) -> anyhow::Result<()> {
    let cannot = |folder: &Path| format!("cannot write into {}", folder.display());
    for folder in [&arguments.man, &arguments.completions] {
        std::fs::create_dir_all(folder).with_context(|| cannot(folder))?;
    }
    clap_mangen::generate_to(Cli::command(), &arguments.man).with_context(|| cannot(&arguments.man))?;
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "watchpost", &arguments.completions)
            .with_context(|| cannot(&arguments.completions))?;
    }
    Ok(())
}
