//! The kernels in the compilers of GPUs that are not there.

use crate::shell::{Consent, cargo, root, run};
use crate::{cooperative, vulkan};
use anyhow::{Result, bail};
use std::path::Path;

/// What is done with the figures.
#[derive(clap::Args)]
pub struct Options {
    /// Compare with the committed figures in place of writing them
    #[arg(long)]
    check: bool,
}

/// Compiles all kernels; writes `docs/kernels.md` and `kernels.json`, or compares with them.
pub fn figures(options: &Options, consent: Consent) -> Result<()> {
    let Some(driver) = vulkan::amd_compiler(consent)? else {
        bail!(
            "the figures are those of Mesa 25.0.7, which is had on Debian 12 only: there, install nothing; \
             elsewhere, run mdlm-kernel-checks with the manifest of libvulkan_radeon.so"
        );
    };
    let newer = cooperative::set_up(consent)?;
    compile(&driver, newer.as_deref(), options.check)
}

/// The same with drivers that are there: AMD's, and those of a newer Mesa, which takes minutes for NVIDIA.
pub fn compile(driver: &Path, newer: Option<&Path>, check: bool) -> Result<()> {
    let mut compile = cargo("run --release --package mdlm-kernel-checks -- all");
    compile.arg("--driver").arg(driver);
    if let Some(folder) = newer {
        compile.arg("--newer").arg(folder);
    }
    compile.arg("--out").arg(root().join("docs"));
    run(compile.args(check.then_some("--check")))
}
