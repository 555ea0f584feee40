//! The package that would be published: the library and its examples, nothing else.

use crate::shell::{cargo, output, run, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;

const FOLDERS: [&str; 3] = ["src/", "shaders/", "examples/"];
const FILES: [&str; 9] = [
    ".cargo_vcs_info.json",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
];
/// Larger packages are refused by the public registry.
const MAX_BYTES: u64 = 10_000_000;

/// Fails when the package has too much in it, lacks a file, or is too large.
pub fn check() -> Result<()> {
    let list = output(&mut cargo("package --list --allow-dirty --package mdlm"))?;
    // Windows separates folders differently.
    let list = list.replace('\\', "/");
    let packed: Vec<&str> = list.lines().collect();
    let stray = packed
        .iter()
        .find(|path| !FILES.contains(path) && !FOLDERS.iter().any(|dir| path.starts_with(dir)));
    if let Some(path) = stray {
        bail!("the package would hold {path}");
    }
    let absent = FILES
        .iter()
        // Only there when the work tree is a git checkout.
        .filter(|name| **name != ".cargo_vcs_info.json")
        .find(|name| !packed.contains(name));
    if let Some(name) = absent {
        bail!("the package would lack {name}");
    }

    let dir = target_dir().join("package-check");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    run(cargo("package --no-verify --allow-dirty --package mdlm --target-dir").arg(&dir))?;
    let archive = fs::read_dir(dir.join("package"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "crate")
        })
        .context("cargo package wrote no .crate file")?;
    let bytes = fs::metadata(archive)?.len();
    println!("{} files, {bytes} bytes packed", packed.len());
    if bytes > MAX_BYTES {
        bail!("the package has {bytes} bytes; at most {MAX_BYTES} are accepted");
    }
    Ok(())
}
