//! A second package out of the first: a newer version, whose shipped configuration is another one.
//!
//! In: a package. Out: another one, made by dpkg-deb as the first was.

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A package of version `version`, whose shipped `watchpost.toml` has had `change` done to it; written into `folder`.
pub fn newer(package: &Path, folder: &Path, version: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let tree = folder.join("tree");
    run(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("Version:") {
        true => format!("Version: {version}\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(&control, lines.collect::<String>()).unwrap();
    let configuration = tree.join("etc/watchpost/watchpost.toml");
    let old = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, change(old)).unwrap();
    let made = folder.join(format!("watchpost_{version}.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&made));
    std::fs::remove_dir_all(&tree).unwrap();
    made
}
