//! What the library is made of: licences and sources of its dependencies, their lowest versions, the oldest compiler, a
//! bill of materials.

use crate::shell::{Consent, cache_dir, cargo, command, on_path, output, root, run, target_dir};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version whose verdicts are known.
const DENY: &str = "0.20.2";

/// Makes sure that cargo-deny is there, and returns its path.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    if on_path("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let folder = cache_dir()?.join(format!("cargo-deny-{DENY}"));
    let program = folder.join("bin").join("cargo-deny");
    if !program.is_file() {
        consent.ask(&format!(
            "To be compiled from the package registry, into {}: cargo-deny {DENY}",
            folder.display()
        ))?;
        // unoptimised: it compiles in half the time, and has little to do
        let mut install = cargo("install cargo-deny --debug --locked --version");
        run(install.arg(DENY).arg("--root").arg(&folder))?;
    }
    Ok(program)
}

/// Fails for a licence, a source or a second version that `deny.toml` does not name, where the lowest versions that the
/// manifests allow do not go together, and where the oldest compiler that is promised does not compile the library.
pub fn check(deny: &Path, consent: Consent) -> Result<()> {
    let checks = ["--offline", "check", "licenses", "bans", "sources"];
    run(&mut command(&deny.to_string_lossy(), checks))?;
    lowest_versions()?;
    oldest_compiler(consent)?;
    bill()
}

/// A command of Cargo with a lock file of its own, in `target/lowest`; resolving by lowest versions is not stable yet.
fn with_lowest(arguments: &str) -> Command {
    let lock = target_dir().join("lowest").join("Cargo.lock");
    let place = format!("resolver.lockfile-path={:?}", lock.to_string_lossy());
    let mut cargo = cargo("-Z direct-minimal-versions -Z lockfile-path --config");
    cargo.arg(place).args(arguments.split(' '));
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo
}

/// Resolves the lowest versions that the manifests allow of what they name.
fn lowest_versions() -> Result<()> {
    fs::create_dir_all(target_dir().join("lowest"))?;
    run(&mut with_lowest("generate-lockfile --quiet"))
}

/// The `rust-version` of the workspace compiles it: the compiler in use, or else that one.
fn oldest_compiler(consent: Consent) -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest
        .lines()
        .find(|line| line.starts_with("rust-version"));
    let oldest = line.and_then(|line| line.split('"').nth(1));
    let oldest = oldest.context("Cargo.toml has no rust-version")?;
    let used = output(&mut command("rustc", ["--version"]))?;
    if used.starts_with(&format!("rustc {oldest}.")) {
        println!("rustc {oldest}, the oldest that is promised, is the one that all stages run on");
        return Ok(());
    }
    if !on_path("rustup") {
        bail!(
            "this is {}, and there is no rustup to add {oldest}",
            used.trim()
        );
    }
    consent.ask(&format!("To be added by rustup: Rust {oldest}"))?;
    run(&mut command(
        "rustup",
        ["toolchain", "install", oldest, "--profile", "minimal"],
    ))?;
    let check = [
        "run",
        oldest,
        "cargo",
        "check",
        "--lib",
        "--release",
        "--target-dir",
    ];
    run(command("rustup", check).arg(target_dir().join("oldest")))
}

/// Writes `target/sbom.cdx.json`, in CycloneDX's form: every crate that the library is linked from on any system, with
/// its version and licence.
pub fn bill() -> Result<()> {
    let mut tree =
        cargo("tree --package mdlm --all-features --target all --edges normal --prefix none");
    let listed = output(tree.args(["--format", "{p}|{l}"]))?;
    let mut components = BTreeSet::new();
    for line in listed.lines() {
        let (package, licence) = line.split_once('|').context("a crate without a licence")?;
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            bail!("not a crate: {line}");
        };
        let version = version.trim_start_matches('v');
        // what cargo has shown before
        let licence = licence.trim_end_matches(" (*)").replace('/', " OR ");
        components.insert(format!(
            r#"{{"type":"library","name":"{name}","version":"{version}","purl":"pkg:cargo/{name}@{version}","licenses":[{{"expression":"{licence}"}}]}}"#
        ));
    }
    let count = components.len();
    let components: Vec<String> = components.into_iter().collect();
    let path = target_dir().join("sbom.cdx.json");
    let text = format!(
        "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\"components\":[\n{}\n]}}\n",
        components.join(",\n")
    );
    fs::write(&path, text)?;
    println!("{count} crates are listed in {}", path.display());
    Ok(())
}
