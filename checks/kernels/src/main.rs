//! Kernels in the compilers of real GPUs, without the hardware: registers, spills, waves and the machine code of inner
//! loops. Mesa's driver for AMD compiles for any chip of the family that a variable names.

mod estimate;
mod graphs;
mod listing;
mod table;
mod translate;
mod vulkan;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use table::{Chip, Kernel};

/// Tells the driver which chip to compile for.
const FAMILY: &str = "RADV_FORCE_FAMILY";

/// The chips, by the driver's names.
const CHIPS: [(&str, &str); 3] = [("navi31", "RDNA3"), ("navi21", "RDNA2"), ("vega10", "GCN5")];

#[derive(Parser)]
enum Task {
    /// Compile all kernels for all chips; write the tables, or compare with those that are there
    All {
        /// Manifest of Mesa's driver for AMD
        #[arg(long)]
        driver: PathBuf,
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

fn main() -> Result<()> {
    match Task::parse() {
        Task::Chip { listings } => {
            let compiler = vulkan::Compiler::open()?;
            let rdna = std::env::var(FAMILY).is_ok_and(|chip| chip.starts_with("navi"));
            let mut kernels = Vec::new();
            let units = compiler.cooperative.then_some(graphs::UNITS);
            for source in graphs::sources(units)? {
                let compiled = compiler
                    .compile(&source.text, source.entry)
                    .with_context(|| source.label.clone())?;
                if let Some(folder) = &listings {
                    std::fs::create_dir_all(folder)?;
                    let name = source.label.replace([':', ' ', '='], "_");
                    std::fs::write(folder.join(name + ".txt"), &compiled.listing)?;
                }
                kernels.push(Kernel::read(source.label, &compiled, rdna)?);
            }
            println!("{}", serde_json::to_string(&kernels)?);
            Ok(())
        }
        Task::All { driver, out, check } => {
            let mut chips = Vec::new();
            for (name, generation) in CHIPS {
                let output = Command::new(std::env::current_exe()?)
                    .arg("chip")
                    .env(FAMILY, name)
                    .env("VK_DRIVER_FILES", &driver)
                    .env("VK_LOADER_LAYERS_DISABLE", "~all~")
                    .env("MESA_SHADER_CACHE_DISABLE", "true")
                    .output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{name}: {said}");
                chips.push(Chip {
                    name: name.to_owned(),
                    generation: generation.to_owned(),
                    kernels: serde_json::from_slice(&output.stdout)?,
                });
            }
            match check {
                true => table::compare(&out, &chips),
                false => table::write(&out, &chips),
            }
        }
    }
}
