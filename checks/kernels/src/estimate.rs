//! How long a step of training would take by the compiler's figures: an estimate that leaves caches, contention for
//! memory, bank conflicts, epilogues and dual issue out. Its ratios say more than its milliseconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use mdlm_engine::gpu::Dispatch;
use mdlm_engine::program::{Element, Step};

use crate::graphs::{SIZES, units};
use crate::listing::Vendor;
use crate::table::{Chip, Kernel, constant};

/// What a chip can do in a clock.
struct Machine {
    name: &'static str,
    units: f64,
    simds_of_unit: f64,
    /// Clocks of a vector instruction of a wave of 64 lanes.
    issue: f64,
    gigahertz: f64,
    /// Gigabytes of memory a second.
    bandwidth: f64,
}

const MACHINES: [Machine; 3] = [
    Machine {
        name: "navi31",
        units: 96.0,
        simds_of_unit: 2.0,
        issue: 2.0,
        gigahertz: 2.4,
        bandwidth: 960.0,
    },
    Machine {
        name: "navi21",
        units: 80.0,
        simds_of_unit: 2.0,
        issue: 2.0,
        gigahertz: 2.2,
        bandwidth: 512.0,
    },
    Machine {
        name: "vega10",
        units: 64.0,
        simds_of_unit: 4.0,
        issue: 4.0,
        gigahertz: 1.5,
        bandwidth: 484.0,
    },
];

/// Lanes of a wave; kernels with fewer are counted as parts of one.
const LANES: f64 = 64.0;
/// Clocks until a load has come, if it is waited for.
const MEMORY_WAIT: f64 = 300.0;
/// Clocks of a wait for workgroup memory; a slice waits about twice.
const LOCAL_WAIT: f64 = 80.0;
/// Bytes of workgroup memory that a unit reads in a clock.
const LOCAL_BYTES: f64 = 128.0;
/// Share of the bandwidth that is reached.
const REACHED: f64 = 0.8;
/// Seconds of a launch.
const LAUNCH: f64 = 4e-6;

const INTRODUCTION: &str = "\
## A step of training, estimated

With half of the tokens masked, Muon for hidden matrices, and the tiles of discrete GPUs. Nothing was run. A kernel with
multiply-adds takes the longest of three times on its busiest SIMD: that of its vector instructions (waves x turns x
instructions x 2 clocks; 4 on GCN), that of its reads from workgroup memory (128 bytes a clock and unit), and that of one
wave after the other as they fit (a turn's instructions + 300 clocks a stop + 160 for workgroup memory). Other kernels
move their operands at 0.8 of the bandwidth. A launch is 4 microseconds. Caches, contention, epilogues and dual issue are
left out; the peak is that of single-issue f32. Where blocks are kept in f16, products run on matrix units as far as the
chip has them (RDNA3), else in f32.

| chip | hidden | blocks in | launches | bytes moved | ms | share of peak | where it goes |
| --- | --- | --- | --- | --- | --- | --- | --- |
";

impl Machine {
    fn simds(&self) -> f64 {
        self.units * self.simds_of_unit
    }

    /// Multiply-adds and additions a second.
    fn peak(&self) -> f64 {
        2.0 * self.simds() * LANES / self.issue * self.gigahertz * 1e9
    }

    /// Seconds of the loops of a kernel's waves.
    fn computing(&self, kernel: &Kernel, waves: f64, turns: f64) -> f64 {
        let issued = kernel.vector as f64 * self.issue;
        let local = kernel.local as f64 * LANES / LOCAL_BYTES;
        let waits = if kernel.local > 0 {
            2.0 * LOCAL_WAIT
        } else {
            0.0
        };
        let alone = issued + kernel.stops as f64 * MEMORY_WAIT + waits;
        let busiest = (waves / self.simds()).max(1.0);
        let rounds = (busiest / kernel.waves.max(1) as f64).max(1.0);
        let slowest = (busiest * issued)
            .max(busiest * self.simds_of_unit * local)
            .max(rounds * alone);
        turns * slowest / (self.gigahertz * 1e9)
    }

    fn seconds(&self, kernel: &Kernel, launch: &Dispatch, step: &Step) -> f64 {
        let groups = launch.grid.count(step) as f64;
        if groups == 0.0 {
            return 0.0;
        }
        let moving = bytes(launch, step) / (REACHED * self.bandwidth * 1e9);
        let waves = groups * kernel.threads as f64 / LANES;
        let turns = turns(kernel, launch, step, waves);
        let computing = turns.map_or(0.0, |turns| self.computing(kernel, waves, turns));
        LAUNCH + computing.max(moving)
    }
}

/// What a launch does of what it could do at most.
fn part(launch: &Dispatch, step: &Step) -> f64 {
    let most = launch.grid.extent.get(&full());
    launch.grid.extent.get(step) as f64 / most.max(1) as f64
}

fn full() -> Step {
    let mut step = Step::default();
    step.set(mdlm_engine::ops::ROWS, u32::MAX);
    step
}

/// Bytes that a launch moves.
fn bytes(launch: &Dispatch, step: &Step) -> f64 {
    launch.bytes() as f64 * part(launch, step)
}

/// Turns of the hot loop, for kernels that say what they compute.
fn turns(kernel: &Kernel, launch: &Dispatch, step: &Step, waves: f64) -> Option<f64> {
    if launch.flops == 0 || kernel.fma == 0 {
        return None;
    }
    if kernel.label.starts_with("matmul") {
        // m, n, k and the parts of k are the first parameters
        let &[_, _, k, planes, ..] = &launch.params[..] else {
            return None;
        };
        let k = match kernel.label.contains("DYNAMIC_K") {
            true => f64::from(k) * part(launch, step),
            false => f64::from(k),
        };
        let depth = constant(&kernel.label, "TILE_K") as f64;
        return Some((k / depth / f64::from(planes.max(1))).ceil());
    }
    let products = launch.flops as f64 / 2.0 * part(launch, step);
    Some(products / (kernel.fma as f64 * LANES * waves))
}

/// Appends the table.
pub fn section(text: &mut String, chips: &[Chip]) -> Result<()> {
    text.push_str(INTRODUCTION);
    for chip in chips {
        let Some(machine) = MACHINES.iter().find(|m| m.name == chip.name) else {
            continue;
        };
        let precisions = [Element::F32, Element::F16];
        for (size, precision) in SIZES.iter().flat_map(|size| precisions.map(|p| (size, p))) {
            let has_units = chip.kernels.iter().any(|kernel| kernel.matrix > 0);
            let (launches, step) =
                size.training(precision, has_units.then_some(units(Vendor::Amd)))?;
            let (mut families, mut moved, mut flops, mut count) =
                (BTreeMap::<String, f64>::new(), 0.0, 0.0, 0);
            for launch in &launches {
                let label = launch.source.label();
                let kernel = chip.kernels.iter().find(|k| k.label == label);
                let kernel = kernel.with_context(|| format!("no figures of {label}"))?;
                *families.entry(family(&label)).or_default() +=
                    machine.seconds(kernel, launch, &step);
                moved += bytes(launch, &step);
                flops += launch.flops as f64 * part(launch, &step);
                count += usize::from(launch.grid.count(&step) > 0);
            }
            let seconds: f64 = families.values().sum();
            let mut order: Vec<_> = families.into_iter().collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1));
            let goes: Vec<String> = order
                .iter()
                .take(8)
                .map(|(name, s)| format!("{name} {:.0} %", 100.0 * s / seconds))
                .collect();
            writeln!(
                text,
                "| {} | {} | {precision} | {count} | {:.1} GB | {:.1} | {:.2} | {} |",
                chip.name,
                size.hidden_size,
                moved / 1e9,
                1e3 * seconds,
                flops / seconds / machine.peak(),
                goes.join(", ")
            )?;
        }
    }
    Ok(())
}

/// A kernel without its flags; of a matrix product, its form.
fn family(label: &str) -> String {
    let name = label.split(' ').next().unwrap_or_default();
    let has = |flag: &str| label.split(' ').any(|word| word == flag);
    match name {
        "matmul:main" if has("MANY") => "products of Muon".to_owned(),
        "matmul:main" | "matmul_cooperative:main" => {
            let form = match (has("A_T"), has("B_T")) {
                (true, _) => "TN",
                (_, true) => "NT",
                _ => "NN",
            };
            let units = if name.contains("cooperative") {
                " on matrix units"
            } else {
                ""
            };
            format!("matmul {form}{units}")
        }
        _ => name.to_owned(),
    }
}
