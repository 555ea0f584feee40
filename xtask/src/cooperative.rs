//! Products on matrix units: a newer lavapipe has some, and brings its own C library where the system's is older.

use crate::apt::{self, Index};
use crate::shell::{Consent, cache_dir, cargo, run};
use crate::vulkan::DRIVER_FILES;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Debian's release whose backports have a Mesa with cooperative matrices in lavapipe (26.1).
const RELEASE: &str = "trixie";
const SUITE: &str = "trixie-backports";
/// The drivers, and what stands in for the kernel where there is no GPU to compile for. What they need is unpacked too,
/// whatever the system has.
const DRIVERS: [&str; 2] = ["mesa-vulkan-drivers", "mesa-drm-shim"];
/// Cargo runs tests through the program that this names.
const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// Unpacks the driver and all that it needs into a folder of ours; none where it cannot be had.
pub fn set_up(consent: Consent) -> Result<Option<PathBuf>> {
    if !apt::available() || !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        return Ok(None);
    }
    let folder = cache_dir()?.join("mesa26");
    if !folder.exists() {
        consent.ask(&format!(
            "To be unpacked into {} (nothing is installed): Mesa's Vulkan drivers of {SUITE}, with their libraries",
            folder.display()
        ))?;
        let index = Index::suites(&[RELEASE, SUITE])?;
        let mut packages = index.dependencies(DRIVERS[0], &["lib", "zlib"])?;
        packages.extend(DRIVERS.map(str::to_owned));
        index.unpack(&packages, &folder)?;
    }
    Ok(Some(folder))
}

/// Runs the tests that need matrix units on that driver.
pub fn test(folder: &Path) -> Result<()> {
    let libraries = folder.join("usr/lib/x86_64-linux-gnu");
    let find = |name: &str| -> Result<PathBuf> {
        let path = libraries.join(name);
        let there = path.exists().then(|| path.clone());
        there.with_context(|| {
            format!(
                "{} is not there: remove {}",
                path.display(),
                folder.display()
            )
        })
    };
    let manifest = folder.join("lvp.json");
    let text = format!(
        r#"{{"file_format_version":"1.0.0","ICD":{{"library_path":"{}","api_version":"1.4.305"}}}}"#,
        find("libvulkan_lvp.so")?.display()
    );
    fs::write(&manifest, text)?;
    let loader = find("ld-linux-x86-64.so.2")?;
    let runner = format!(
        "{} --library-path {}",
        loader.display(),
        libraries.display()
    );
    run(cargo("test --release --test cooperative -- --nocapture")
        .env(RUNNER, runner)
        .env("MDLM_UNITS", "there")
        .env(DRIVER_FILES, manifest))
}
