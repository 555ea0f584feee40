//! Kernels in the compilers of real GPUs, without the hardware: registers, spills, waves and the machine code of inner
//! loops. Mesa's drivers compile for any chip that a variable names.

mod amd;
mod estimate;
mod graphs;
mod listing;
mod nvidia;
mod table;
mod translate;
mod vulkan;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use listing::Vendor;
use table::{Chip, Kernel};

/// Tells the driver for AMD which chip to compile for.
const FAMILY: &str = "RADV_FORCE_FAMILY";
/// Tells the kernel's stand-in for NVIDIA which chip there is.
const CHIPSET: &str = "NOUVEAU_CHIPSET";

/// The chips, by the driver's names.
const AMD: [(&str, &str); 3] = [("navi31", "RDNA3"), ("navi21", "RDNA2"), ("vega10", "GCN5")];
/// Those of NVIDIA by their numbers: GA102, of the GeForce RTX 3080 and 3090.
const NVIDIA: [(&str, &str, &str); 1] = [("172", "ga102", "Ampere")];

#[derive(Parser)]
enum Task {
    /// Compile all kernels for all chips; write the tables, or compare with those that are there
    All {
        /// Manifest of Mesa's driver for AMD
        #[arg(long)]
        driver: PathBuf,
        /// Folder with a newer Mesa, its libraries and its stand-ins for kernels, for NVIDIA
        #[arg(long)]
        newer: Option<PathBuf>,
        /// Folder of `kernels.md` and `kernels.json`
        #[arg(long)]
        out: PathBuf,
        /// Fail where a figure is worse than the committed one
        #[arg(long)]
        check: bool,
    },
    /// Compile for the chip that the environment names and print the figures as JSON
    Chip {
        /// Folder for the machine code
        #[arg(long)]
        listings: Option<PathBuf>,
    },
}

/// Compiles for the chip that is there.
fn chip(listings: Option<&Path>) -> Result<Chip> {
    let compiler = vulkan::Compiler::open()?;
    let named = |variable: &str| std::env::var(variable).ok();
    let (vendor, name) = match (named(FAMILY), named(CHIPSET)) {
        (Some(family), _) => (Vendor::Amd, family),
        (None, chipset) => (Vendor::Nvidia, chipset.unwrap_or_default()),
    };
    let rdna = name.starts_with("navi");
    let units = compiler.cooperative.then_some(graphs::units(vendor));
    let mut kernels = Vec::new();
    for source in graphs::sources(units)? {
        let compiled = compiler
            .compile(&source.text, source.entry)
            .with_context(|| source.label.clone())?;
        if let Some(folder) = listings {
            std::fs::create_dir_all(folder)?;
            let name = source.label.replace([':', ' ', '='], "_");
            std::fs::write(folder.join(name + ".txt"), &compiled.listing)?;
        }
        kernels.push(Kernel::read(source.label, &compiled, vendor, rdna)?);
    }
    Ok(Chip {
        name,
        generation: String::new(),
        driver: compiler.version,
        kernels,
    })
}

/// This program for one chip, with the driver of a manifest.
fn compile(mut program: Command, driver: &Path, names: (&str, &str)) -> Result<Chip> {
    let output = program
        .arg("chip")
        .env("VK_DRIVER_FILES", driver)
        .env("VK_LOADER_LAYERS_DISABLE", "~all~")
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", names.0);
    let chip: Chip = serde_json::from_slice(&output.stdout)?;
    Ok(Chip {
        name: names.0.to_owned(),
        generation: names.1.to_owned(),
        ..chip
    })
}

/// A driver of a folder of libraries, with the C library and the kernel's stand-in that are there too.
fn nvidia(folder: &Path, (chipset, name, generation): (&str, &str, &str)) -> Result<Chip> {
    let libraries = folder.join("usr/lib/x86_64-linux-gnu");
    let manifest = folder.join("nouveau.json");
    let text = format!(
        r#"{{"file_format_version":"1.0.0","ICD":{{"library_path":"{}","api_version":"1.4.305"}}}}"#,
        libraries.join("libvulkan_nouveau.so").display()
    );
    std::fs::write(&manifest, text)?;
    let mut program = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    program
        .arg("--preload")
        .arg(libraries.join("libnouveau_noop_drm_shim.so"));
    program.arg("--library-path").arg(&libraries);
    program.arg(std::env::current_exe()?);
    program.env_remove(FAMILY).env(CHIPSET, chipset);
    compile(program, &manifest, (name, generation))
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Chip { listings } => {
            println!("{}", serde_json::to_string(&chip(listings.as_deref())?)?);
            Ok(())
        }
        Task::All {
            driver,
            newer,
            out,
            check,
        } => {
            let mut chips = Vec::new();
            for names in AMD {
                let mut program = Command::new(std::env::current_exe()?);
                program.env(FAMILY, names.0);
                chips.push(compile(program, &driver, names)?);
            }
            for (folder, names) in newer.iter().flat_map(|f| NVIDIA.map(|names| (f, names))) {
                chips.push(nvidia(folder, names)?);
            }
            match check {
                true => table::compare(&out, &chips),
                false => table::write(&out, &chips),
            }
        }
    }
}
