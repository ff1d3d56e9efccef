//! `watchpost plugin new`: a crate that builds, with the SDK beside it.
//!
//! In: a name and a folder. Out: files; nothing that exists is overwritten. The SDK is part of this binary and
//! is written out with the crate, so that it builds without a registry that knows it and always fits.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// Arguments of `watchpost plugin new`.
#[derive(Debug, Clone, clap::Args)]
pub struct NewArgs {
    /// The plugin's name: lower-case words joined by hyphens.
    pub name: String,
    /// Folder in which the crate's folder is made.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The files of a crate, by their path in it.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../../../plugin-sdk/template/Cargo.toml.txt")),
    ("README.md", include_str!("../../../../plugin-sdk/template/README.md")),
    (".gitignore", include_str!("../../../../plugin-sdk/template/gitignore.txt")),
    ("src/lib.rs", include_str!("../../../../plugin-sdk/template/lib.rs")),
    ("sdk/rust/Cargo.toml", include_str!("../../../../plugin-sdk/template/sdk.Cargo.toml.txt")),
];

/// The SDK as it is, byte for byte.
const SDK: &[(&str, &str)] = &[
    ("sdk/wit/plugin.wit", include_str!("../../../../plugin-sdk/wit/plugin.wit")),
    ("sdk/rust/src/bindings.rs", include_str!("../../../../plugin-sdk/rust/src/bindings.rs")),
    ("sdk/rust/src/context.rs", include_str!("../../../../plugin-sdk/rust/src/context.rs")),
    ("sdk/rust/src/glue.rs", include_str!("../../../../plugin-sdk/rust/src/glue.rs")),
    ("sdk/rust/src/host.rs", include_str!("../../../../plugin-sdk/rust/src/host.rs")),
    ("sdk/rust/src/lib.rs", include_str!("../../../../plugin-sdk/rust/src/lib.rs")),
    ("sdk/rust/src/output.rs", include_str!("../../../../plugin-sdk/rust/src/output.rs")),
    ("sdk/rust/src/rect.rs", include_str!("../../../../plugin-sdk/rust/src/rect.rs")),
    ("sdk/rust/src/testing.rs", include_str!("../../../../plugin-sdk/rust/src/testing.rs")),
    ("sdk/rust/src/types.rs", include_str!("../../../../plugin-sdk/rust/src/types.rs")),
];

/// Makes the crate; gives its folder.
///
/// # Errors
/// Where the name is none for a plugin, the folder exists, or a file cannot be written.
pub fn new(arguments: &NewArgs) -> anyhow::Result<PathBuf> {
    let name = arguments.name.as_str();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let words: Vec<&str> = name.split('-').collect();
    let good = words.iter().all(|word| !word.is_empty() && word.chars().all(plain));
    ensure!(
        good && name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()),
        "\"{name}\" is no name for a plugin: lower-case words joined by hyphens, such as people-counter"
    );
    let type_name: String = words.iter().map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    let folder = arguments.dir.join(name);
    if folder.exists() {
        bail!("{} exists; choose another name or --dir", folder.display());
    }
    let filled = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{type}}", &type_name)
            .replace("{{file}}", &name.replace('-', "_"))
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let all = FILES.iter().map(|(path, text)| (path, filled(text)));
    for (path, text) in all.chain(SDK.iter().map(|(path, text)| (path, (*text).to_owned()))) {
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(folder)
}

/// Says what was made and what to do next.
///
/// # Errors
/// As [`new`].
pub fn run(arguments: &NewArgs) -> anyhow::Result<()> {
    let folder = new(arguments)?;
    if arguments.json {
        println!("{}", serde_json::json!({ "name": arguments.name, "folder": folder }));
        return Ok(());
    }
    let (folder, file) = (folder.display(), arguments.name.replace('-', "_"));
    println!(
        "{folder} is a plugin that counts objects. Next:\n\n  cd {folder}\n  cargo test\n  \
         cargo build --release --target wasm32-wasip2\n  \
         watchpost plugin check target/wasm32-wasip2/release/{file}.wasm"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_file_once_and_leaves_no_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = NewArgs { name: "people-counter".into(), dir: dir.path().to_owned(), json: false };
        let folder = new(&arguments).unwrap();
        for (path, _) in FILES.iter().chain(SDK) {
            let text = fs::read_to_string(folder.join(path)).unwrap();
            assert!(!text.contains("{{"), "{path}");
        }
        assert!(fs::read_to_string(folder.join("src/lib.rs")).unwrap().contains("export!(PeopleCounter)"));
        assert!(new(&arguments).unwrap_err().to_string().contains("exists"));
        for name in ["", "Upper", "a--b", "-a", "a b", "1st", "../up"] {
            let arguments = NewArgs { name: name.into(), dir: dir.path().to_owned(), json: false };
            assert!(new(&arguments).is_err(), "{name}");
        }
    }

    #[test]
    fn the_whole_sdk_is_written() {
        let sources = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/rust/src")).unwrap();
        for source in sources {
            let name = format!("sdk/rust/src/{}", source.unwrap().file_name().to_str().unwrap());
            assert!(SDK.iter().any(|(path, _)| *path == name), "{name} is missing from the SDK written out");
        }
    }
}
