//! The package for npm: the library for browsers and Node, with its types.

use crate::node;
use crate::shell::{Consent, cargo, command, output, root, run, target_dir};
use crate::wasm::{Module, Toolchain};
use crate::web::add_module;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// What is in it; threads need the page that starts them.
const MODULES: [Module; 2] = [Module::Plain, Module::Relaxed];
/// The compiler that checks the types, and those of Node for the script that uses the package.
const TYPESCRIPT: [&str; 2] = ["typescript@5.9.3", "@types/node@20.19.25"];
/// What stands in `npm/package.json` for the version of the crate.
const VERSION: &str = "\"version\": \"0.0.0\"";

/// Finds npm and the folder with TypeScript's compiler, or installs them.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    node::modules(&TYPESCRIPT, consent)
}

/// Packs and says where.
pub fn make(consent: Consent) -> Result<()> {
    node::need_npm(consent)?;
    let package = pack(&Toolchain::set_up(consent)?)?;
    println!("\n{}", package.display());
    Ok(())
}

/// Installs the package into an empty folder and uses it from a script in TypeScript.
pub fn test(toolchain: &Toolchain, modules: &Path) -> Result<()> {
    let package = pack(toolchain)?;
    let mut checks = cargo("run --release --package mdlm-web-checks -- npm");
    checks.arg("--package").arg(package);
    checks.arg("--modules").arg(modules);
    checks
        .arg("--script")
        .arg(root().join("checks/npm/fill.ts"));
    run(checks.arg("--model").arg(root().join("web/model/mdlm")))
}

/// Puts the package together; the archive.
fn pack(toolchain: &Toolchain) -> Result<PathBuf> {
    let (out, from) = (target_dir().join("npm"), root().join("npm"));
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let folder = out.join("package");
    for module in MODULES {
        let inside = folder.join(module.name());
        add_module(toolchain, module, &inside)?;
        fs::copy(from.join("node.js"), inside.join("node.js"))?;
    }
    fs::copy(from.join("README.md"), folder.join("README.md"))?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root().join(licence), folder.join(licence))?;
    }
    let described = fs::read_to_string(from.join("package.json"))?;
    if !described.contains(VERSION) {
        bail!("npm/package.json has no {VERSION}");
    }
    let version = format!("\"version\": \"{}\"", version()?);
    fs::write(
        folder.join("package.json"),
        described.replace(VERSION, &version),
    )?;
    let pack = ["pack", "--loglevel", "error", "--pack-destination"];
    let name = output(command("npm", pack).arg(&out).current_dir(&folder))?;
    let archive = out.join(name.trim());
    println!("{}: {} bytes", name.trim(), fs::metadata(&archive)?.len());
    Ok(archive)
}

/// Version of the crate.
fn version() -> Result<String> {
    let id = output(&mut cargo("pkgid --package mdlm"))?;
    let version = id.trim().rsplit(['#', '@']).next();
    Ok(version.context("the crate has no version")?.to_owned())
}
