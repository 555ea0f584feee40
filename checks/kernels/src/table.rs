//! The figures as tables, and against those that are committed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::estimate;
use crate::listing::{Loop, Vendor};
use crate::vulkan::Compiled;

/// What a compiler says of a kernel.
#[derive(Serialize, Deserialize)]
pub struct Kernel {
    pub label: String,
    /// Invocations of a workgroup.
    pub threads: u32,
    /// Lanes of a wave.
    pub lanes: u32,
    /// Registers of a lane, 32 bits each.
    pub registers: u64,
    /// Registers that found no place.
    pub spilled: u64,
    /// Bytes of workgroup memory.
    pub workgroup: u64,
    /// Waves that fit a SIMD.
    pub waves: u64,
    /// Bytes of code.
    pub code: u64,
    /// Multiply-adds in a turn of the hottest loop.
    pub fma: usize,
    /// Its vector instructions.
    pub vector: usize,
    /// Its instructions of matrix units.
    pub matrix: usize,
    /// Bytes that a lane reads from workgroup memory in it.
    pub local: usize,
    /// Share of the multiply-adds among vector instructions.
    pub share: f64,
    /// Its loads that are waited for one by one.
    pub stops: usize,
}

/// The kernels on one chip.
#[derive(Serialize, Deserialize)]
pub struct Chip {
    pub name: String,
    pub generation: String,
    /// Mesa's version.
    pub driver: String,
    pub kernels: Vec<Kernel>,
}

impl Kernel {
    /// `rdna`: whether the driver counts waves in halves of 64 lanes.
    pub fn read(label: String, compiled: &Compiled, vendor: Vendor, rdna: bool) -> Result<Self> {
        let figure = |name: &str| {
            let found = compiled.statistics.get(name).copied();
            found.with_context(|| {
                format!(
                    "{label}: no figure {name}; there are {:?}",
                    compiled.statistics.keys()
                )
            })
        };
        let hot = Loop::hottest(vendor, &compiled.listing, |fma| inner_turns(&label, fma));
        let [registers, spilled, workgroup, waves, code] = match vendor {
            Vendor::Amd => [
                figure("VGPRs")?,
                figure("Spilled VGPRs")? + figure("Scratch size")?,
                figure("LDS size")?,
                figure("Subgroups per SIMD")?
                    / if rdna {
                        u64::from(compiled.lanes) / 32
                    } else {
                        1
                    },
                figure("Code size")?,
            ],
            Vendor::Nvidia => [
                figure("Number of GPRs")?,
                figure("Spills to memory")? + figure("SLM size")?,
                u64::from(compiled.workgroup),
                figure("Max warps/SM")?,
                figure("Code size")?,
            ],
        };
        Ok(Self {
            threads: compiled.threads,
            lanes: compiled.lanes,
            registers,
            spilled,
            workgroup,
            waves,
            code,
            fma: hot.fma,
            vector: hot.vector,
            matrix: hot.matrix,
            local: hot.local,
            share: (1000.0 * hot.share()).round() / 1000.0,
            stops: hot.stops,
            label,
        })
    }
}

/// A constant of a kernel; 0 if it has no such constant.
pub fn constant(label: &str, name: &str) -> usize {
    let mut words = label.split(' ');
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// How often the innermost loop, with so many multiply-adds, turns in a turn of the loop around it: a slice of a matrix
/// product, eight rows of attention.
fn inner_turns(label: &str, fma: usize) -> usize {
    let of = |names: &[&str]| {
        names
            .iter()
            .map(|name| constant(label, name))
            .product::<usize>()
    };
    let product = of(&["TILE_K", "THREAD_M", "THREAD_N"]).checked_div(fma);
    let walk = constant(label, "VECTORS").checked_div(of(&["PART", "PARTS"]));
    product.filter(|turns| *turns > 0).or(walk).unwrap_or(1)
}

const INTRODUCTION: &str = "\
# Kernels in the compilers of real GPUs

Written by `cargo xtask kernels`: Mesa's drivers compile for any AMD chip, and for NVIDIA's, without one being there. NVIDIA's
own compiler is another, and does without the guards that Mesa's puts before every four bytes of a load.
Nothing is run: these are the compiler's figures, not times. The kernels are those of training and of sampling with
hidden 256 (4 heads, 32 x 128 tokens, vocabulary 2,049) and hidden 768 (12 heads, 8 x 1,024, 50,258), in the tiles of
discrete and of other GPUs, with the checks that wgpu adds.

- *registers*: of a lane, 32 bits each; *spilled*: those that found no place, and bytes of scratch memory.
- *waves*: that fit a SIMD (of NVIDIA: warps that fit a multiprocessor) by registers and workgroup memory; *code*: bytes.
- *multiply-adds*, *share*: in a turn of the hottest loop, and their share of its vector instructions, which is the most
  that can be had of the single-issue peak. *By matrix units*: instructions of these, each with 64 multiply-adds of a
  lane in the time of 16 vector instructions (of NVIDIA: 32); so a share may be above 1. Of a matrix product a turn is a slice of depth TILE_K, staging included; of attention, eight rows.
- *stops*: how often a turn waits for a load with fewer than 32 multiply-adds behind it.

`cargo xtask kernels --check` fails where a kernel spills, has fewer waves, or a share smaller by more than 0.03.

";

/// Writes the tables and the figures.
pub fn write(out: &Path, chips: &[Chip]) -> Result<()> {
    let mut text = String::from(INTRODUCTION);
    estimate::section(&mut text, chips)?;
    for chip in chips {
        let (generation, name) = (&chip.generation, &chip.name);
        writeln!(text, "\n## {generation} ({name}, Mesa {})\n", chip.driver)?;
        writeln!(
            text,
            "| kernel | registers | spilled | workgroup memory | waves | code | multiply-adds | by matrix units | share | stops |"
        )?;
        writeln!(
            text,
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        )?;
        for k in &chip.kernels {
            writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | {} | {} | {:.2} | {} |",
                k.label,
                k.registers,
                k.spilled,
                k.workgroup,
                k.waves,
                k.code,
                k.fma,
                k.matrix,
                k.share,
                k.stops
            )?;
        }
    }
    std::fs::write(out.join("kernels.md"), text)?;
    std::fs::write(
        out.join("kernels.json"),
        serde_json::to_string_pretty(chips)? + "\n",
    )?;
    Ok(())
}

/// Fails where a kernel is worse than the committed figures.
pub fn compare(out: &Path, chips: &[Chip]) -> Result<()> {
    let known: Vec<Chip> = serde_json::from_slice(&std::fs::read(out.join("kernels.json"))?)?;
    let mut worse = Vec::new();
    for chip in chips {
        let before = known.iter().find(|known| known.name == chip.name);
        if before.is_some_and(|known| known.driver != chip.driver) {
            println!(
                "{}: another Mesa than the figures': not compared",
                chip.name
            );
            continue;
        }
        for kernel in &chip.kernels {
            let before =
                before.and_then(|chip| chip.kernels.iter().find(|k| k.label == kernel.label));
            if kernel.spilled > 0 && before.is_none_or(|k| kernel.spilled > k.spilled) {
                worse.push(format!("{}: {} spills", chip.name, kernel.label));
            }
            let Some(before) = before else { continue };
            if kernel.waves < before.waves {
                worse.push(format!(
                    "{}: {}: {} waves, {} before",
                    chip.name, kernel.label, kernel.waves, before.waves
                ));
            }
            // the scheduler's choices move a few instructions
            if kernel.share < before.share - 0.03 {
                worse.push(format!(
                    "{}: {}: share {}, {} before",
                    chip.name, kernel.label, kernel.share, before.share
                ));
            }
        }
    }
    match worse.is_empty() {
        true => Ok(()),
        false => bail!("worse than before:\n{}", worse.join("\n")),
    }
}
