//! A Vulkan driver for the tests: the GPU's own, or Mesa's software one (lavapipe) where there is no GPU.

use crate::apt;
use crate::shell::{Consent, cache_dir, command, on_path, output};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Tells the Vulkan loader which drivers to use: a list of their manifests.
pub const DRIVER_FILES: &str = "VK_DRIVER_FILES";
/// The older name of the same.
const ICD_FILENAMES: &str = "VK_ICD_FILENAMES";
/// Where distributions put the manifests.
const MANIFESTS: &str = "/usr/share/vulkan/icd.d";
/// Debian 12's own Mesa 22 compiles shaders in seconds and runs them 4 to 8 times slower than this suite's.
const OLD_RELEASE: &str = "bookworm";
const NEWER_SUITE: &str = "bookworm-backports";

/// Makes sure that there is an adapter to test on, and returns the driver manifest to name in
/// `VK_DRIVER_FILES`, if it is not for the loader or the user to choose.
pub fn set_up(consent: Consent) -> Result<Option<PathBuf>> {
    if !cfg!(target_os = "linux") {
        println!("The tests use the system's own GPU driver");
        return Ok(None);
    }
    install_missing(consent)?;
    let driver = choose_driver(consent)?;
    require_adapter(driver.as_deref())?;
    Ok(driver)
}

fn install_missing(consent: Consent) -> Result<()> {
    let wanted = [
        ("libvulkan1", "the Vulkan loader", has_loader()),
        (
            "mesa-vulkan-drivers",
            "Mesa's Vulkan drivers",
            system_lavapipe().is_some(),
        ),
        ("vulkan-tools", "vulkaninfo", on_path("vulkaninfo")),
        ("spirv-tools", "spirv-val", on_path("spirv-val")),
    ];
    let missing = wanted.iter().filter(|(_, _, present)| !present);
    let packages: Vec<&str> = missing.clone().map(|(package, _, _)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if apt::available() {
        return apt::install(&packages, consent);
    }
    for (package, what, _) in missing {
        println!("Missing: {what}. Install the package that is called {package} on Debian.");
    }
    Ok(())
}

fn has_loader() -> bool {
    let cached = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
        .iter()
        .find_map(|ldconfig| output(&mut command(ldconfig, ["-p"])).ok());
    cached.is_some_and(|list| list.contains("libvulkan.so.1"))
}

fn system_lavapipe() -> Option<PathBuf> {
    fs::read_dir(MANIFESTS)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().contains("lvp_icd"))
}

fn choose_driver(consent: Consent) -> Result<Option<PathBuf>> {
    if [DRIVER_FILES, ICD_FILENAMES]
        .iter()
        .any(|name| env::var_os(name).is_some())
    {
        return Ok(None);
    }
    let device = env::var("MDLM_DEVICE").unwrap_or_default().to_lowercase();
    let keep = match device.as_str() {
        "" | "auto" | "gpu" | "cpu" => adapters(None).iter().any(|adapter| adapter.hardware),
        name => !"llvmpipe".contains(name),
    };
    if keep {
        return Ok(None);
    }
    if apt::available() && apt::codename().as_deref() == Some(OLD_RELEASE) {
        return newer_driver("lvp", consent).map(Some);
    }
    Ok(system_lavapipe())
}

/// Mesa's compiler for AMD, of the version that the committed figures of kernels are of; none where it cannot be had.
pub fn amd_compiler(consent: Consent) -> Result<Option<PathBuf>> {
    if !apt::available() || apt::codename().as_deref() != Some(OLD_RELEASE) {
        return Ok(None);
    }
    install_missing(consent)?;
    newer_driver("radeon", consent).map(Some)
}

/// Unpacks the newer Mesa beside the system's, once, and returns the manifest of a driver.
fn newer_driver(name: &str, consent: Consent) -> Result<PathBuf> {
    let folder = cache_dir()?.join("mesa25");
    if !folder.exists() {
        consent.ask(&format!(
            "To be unpacked into {} (nothing is installed): Mesa's Vulkan drivers of {NEWER_SUITE}",
            folder.display()
        ))?;
        apt::Index::suite(NEWER_SUITE)?.unpack(&["mesa-vulkan-drivers".into()], &folder)?;
    }
    let file = format!("libvulkan_{name}.so");
    let library = fs::read_dir(folder.join("usr/lib"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join(&file)))
        .find(|library| library.exists())
        .with_context(|| format!("{} holds no {file}: remove it", folder.display()))?;
    let manifest = folder.join(format!("{name}.json"));
    // The manifest of the package names the place where the system's own driver is.
    let text = format!(
        r#"{{"file_format_version":"1.0.0","ICD":{{"library_path":"{}","api_version":"1.4.305"}}}}"#,
        library.display()
    );
    fs::write(&manifest, text)?;
    Ok(manifest)
}

fn require_adapter(driver: Option<&Path>) -> Result<()> {
    if !on_path("vulkaninfo") {
        println!("Without vulkaninfo it is for the tests to find out whether there is an adapter");
        return Ok(());
    }
    let found = adapters(driver);
    if found.is_empty() {
        bail!(
            "no Vulkan adapter: install the driver of your GPU, or a Mesa with lavapipe, and let \
             `vulkaninfo --summary` list it"
        );
    }
    for adapter in found {
        println!("Vulkan adapter: {}", adapter.name);
    }
    if let Some(driver) = driver {
        println!("{DRIVER_FILES}={}", driver.display());
    }
    Ok(())
}

/// An adapter that the Vulkan loader finds.
#[derive(Debug, PartialEq)]
struct Adapter {
    name: String,
    hardware: bool,
}

/// What the loader finds with this driver, or with those that it chooses itself.
fn adapters(driver: Option<&Path>) -> Vec<Adapter> {
    let mut info = command("vulkaninfo", ["--summary"]);
    info.envs(driver.map(|manifest| (DRIVER_FILES, manifest)));
    // It fails when there is no adapter.
    output(&mut info).map_or(Vec::new(), |summary| parse_summary(&summary))
}

fn parse_summary(summary: &str) -> Vec<Adapter> {
    let values = |key: &'static str| {
        summary
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(move |(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    };
    values("deviceName")
        .zip(values("deviceType"))
        .zip(values("driverInfo"))
        .map(|((name, kind), driver)| Adapter {
            name: format!("{name}, {driver}"),
            hardware: kind != "PHYSICAL_DEVICE_TYPE_CPU",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_lists_software_and_hardware() {
        let summary = "GPU0:\n\
            \tdeviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU\n\
            \tdeviceName         = Some GPU\n\
            \tdriverInfo         = 550.1\n\
            GPU1:\n\
            \tdeviceType         = PHYSICAL_DEVICE_TYPE_CPU\n\
            \tdeviceName         = llvmpipe (LLVM 15.0.6, 256 bits)\n\
            \tdriverInfo         = Mesa 25.0.7\n";
        let adapter = |name: &str, hardware| Adapter {
            name: name.into(),
            hardware,
        };
        assert_eq!(
            parse_summary(summary),
            [
                adapter("Some GPU, 550.1", true),
                adapter("llvmpipe (LLVM 15.0.6, 256 bits), Mesa 25.0.7", false)
            ]
        );
        assert!(parse_summary("Devices:\n").is_empty());
    }
}
