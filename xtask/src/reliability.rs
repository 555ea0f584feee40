//! The long forms of the harnesses of docs/reliability.md.

use crate::shell::{Consent, cargo, run};
use crate::vulkan;
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;

/// How often a harness does what it does.
const TRIALS: &str = "MDLM_TRIALS";

/// A harness. Its short form is among the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Harness {
    /// Damaged models of every kind are refused or loaded, within the memory of their files
    Mutants,
    /// Files written to harm whoever reads them
    Attacks,
    /// Runs killed by SIGKILL end with the bits of an unbroken one
    Kills,
    /// The same on a GPU adapter
    KillsGpu,
    /// Ranks that die at any exchange, as threads
    KillsRanks,
    /// Every call on files of a run, an export and a cache fails once (Linux; trials are per cent of the calls)
    FileFaults,
    /// Full disks, by a small tmpfs (Linux)
    FullDisk,
    /// Devices lost in training, evaluation and sampling
    LostDevices,
    /// Numbers that are none, in weights, gradients, batches and logits
    BadNumbers,
    /// Damaged documents of every format, each read by what reads it
    Fuzz,
    /// Memory and buffers over steps, and a tenth as many models and samplers
    Leaks,
    /// Draws against their exact probabilities, of twenty laws on every executor
    Draws,
    /// Operations on extreme numbers, and the same again
    Extremes,
}

impl Harness {
    /// The test crate, its tests, and how often.
    fn long(self) -> (&'static str, &'static str, u64) {
        match self {
            Self::Mutants => ("memory", "mutants::", 400_000),
            Self::Attacks => ("memory", "attacks::", 1),
            Self::Kills => ("crash", "killed_at_any_moment", 1000),
            Self::KillsGpu => ("crash", "killed_on_the_gpu", 200),
            Self::KillsRanks => ("ranks", "killed_at_any_exchange", 100),
            Self::FileFaults => ("faults", "io::", 100),
            Self::FullDisk => ("faults", "disk::a_full_disk", 1000),
            Self::LostDevices => ("faults", "device::", 400),
            Self::BadNumbers => ("faults", "numbers::", 2000),
            Self::Fuzz => ("memory", "fuzz::", 1_000_000),
            Self::Leaks => ("memory", "cycles::", 10_000),
            Self::Draws => ("sampling", "draws::tempered", 100_000),
            Self::Extremes => ("determinism", "every_operation", 20),
        }
    }
}

/// Runs the harnesses named, all of them if none is.
pub fn long(named: &[Harness], trials: Option<u64>, consent: Consent) -> Result<()> {
    let driver = vulkan::set_up(consent)?;
    for harness in Harness::value_variants() {
        if !named.is_empty() && !named.contains(harness) {
            continue;
        }
        let (target, tests, many) = harness.long();
        let mut test = cargo("test --release --test");
        test.args([target, tests]);
        test.args(["--", "--nocapture", "--test-threads", "1"]);
        test.env(TRIALS, trials.unwrap_or(many).to_string());
        let memory = Path::new("/dev/shm");
        if [Harness::Mutants, Harness::Fuzz].contains(harness) && memory.is_dir() {
            // a million small files are a matter of minutes there, of hours on a disk
            test.env("TMPDIR", memory);
        }
        test.envs(driver.iter().map(|icd| (vulkan::DRIVER_FILES, icd)));
        run(&mut test)?;
    }
    Ok(())
}
