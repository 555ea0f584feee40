//! Parts of the Rust toolchain that a minimal installation lacks.

use crate::shell::{Consent, cargo, command, on_path, output, run};
use anyhow::{Result, bail};

/// Makes sure that Cargo has `subcommand`, which is in the toolchain's `component`.
pub fn need_subcommand(subcommand: &str, component: &str, consent: Consent) -> Result<()> {
    if output(&mut cargo(&format!("{subcommand} --version"))).is_ok() {
        return Ok(());
    }
    add("component", component, consent)
}

/// Adds a `component` or `target` to the toolchain.
pub fn add(kind: &str, name: &str, consent: Consent) -> Result<()> {
    if !on_path("rustup") {
        bail!("the Rust toolchain lacks the {kind} {name}, and there is no rustup to add it");
    }
    consent.ask(&format!(
        "To be added to the Rust toolchain by rustup: the {kind} {name}"
    ))?;
    run(&mut command("rustup", [kind, "add", name]))
}
