//! The packages that would be published: the engine, the library and its examples, nothing else.

use crate::shell::{cargo, output, run, target_dir};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// What a package may and must hold.
struct Contents {
    name: &'static str,
    folders: &'static [&'static str],
    files: &'static [&'static str],
}

const PACKAGES: [Contents; 2] = [
    Contents {
        name: "mdlm-engine",
        folders: &["src/", "shaders/"],
        files: &[
            ".cargo_vcs_info.json",
            "Cargo.lock",
            "Cargo.toml",
            "Cargo.toml.orig",
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "README.md",
        ],
    },
    Contents {
        name: "mdlm",
        folders: &["src/", "examples/"],
        files: &[
            ".cargo_vcs_info.json",
            "ARCHITECTURE.md",
            "CHANGELOG.md",
            "Cargo.lock",
            "Cargo.toml",
            "Cargo.toml.orig",
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "README.md",
        ],
    },
];
/// Larger packages are refused by the public registry.
const MAX_BYTES: u64 = 10_000_000;

/// Fails when a package has too much in it, lacks a file, is too large, or differs when it is packed again.
pub fn check() -> Result<()> {
    PACKAGES.iter().try_for_each(Contents::check)?;
    let packed = pack("package-check")?;
    if pack("package-check-again")? != packed {
        bail!("packed twice, the packages differ");
    }
    for (name, bytes) in packed {
        let bytes = bytes.len() as u64;
        println!("{name}: {bytes} bytes packed, twice the same");
        if bytes > MAX_BYTES {
            bail!("{name} has {bytes} bytes; at most {MAX_BYTES} are accepted");
        }
    }
    Ok(())
}

/// Names and contents of the packages, packed below a folder of the target folder.
fn pack(folder: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let dir = target_dir().join(folder);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut package = cargo("package --no-verify --allow-dirty");
    package.args(PACKAGES.iter().flat_map(|p| ["--package", p.name]));
    run(package.arg("--target-dir").arg(&dir))?;
    let archives: Vec<_> = fs::read_dir(dir.join("package"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "crate"))
        .collect();
    if archives.len() != PACKAGES.len() {
        bail!("cargo package wrote {} .crate files", archives.len());
    }
    let read = |archive: PathBuf| {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), fs::read(&archive)?))
    };
    archives.into_iter().map(read).collect()
}

impl Contents {
    fn check(&self) -> Result<()> {
        let name = self.name;
        let list = output(cargo("package --list --allow-dirty --package").arg(name))?;
        // Windows separates folders differently.
        let list = list.replace('\\', "/");
        let packed: Vec<&str> = list.lines().collect();
        let stray = packed.iter().find(|path| {
            !self.files.contains(path) && !self.folders.iter().any(|dir| path.starts_with(dir))
        });
        if let Some(path) = stray {
            bail!("the package of {name} would hold {path}");
        }
        let absent = self
            .files
            .iter()
            // Only there when the work tree is a git checkout.
            .filter(|file| **file != ".cargo_vcs_info.json")
            .find(|file| !packed.contains(file));
        if let Some(file) = absent {
            bail!("the package of {name} would lack {file}");
        }
        println!("{name}: {} files", packed.len());
        Ok(())
    }
}
