//! OpenAI's client in Python, and the server under many of them.

use crate::python::{self, Packages};
use crate::shell::{Consent, root, run, target_dir};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// OpenAI's client.
const PACKAGES: Packages = Packages {
    name: "openai-3.57.0",
    python: "python3",
    system: false,
    pip: &[],
    with_needs: &["openai==3.57.0"],
};
/// Models that are served: one that is filled at once, and one whose keys and values are kept, block by block.
const MODELS: [&[&str]; 2] = [
    &["--checkpoint", "tests/golden_llm/llada"],
    &[
        "--checkpoint",
        "tests/golden_llm/qwen3_a2d",
        "--block-size",
        "8",
    ],
];

/// Finds a Python with the client, or makes one.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    python::set_up(&PACKAGES, consent)
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves small models to many clients for so many seconds each.
pub fn test(python: &Path, seconds: u32) -> Result<()> {
    run(&mut crate::shell::cargo("build --release --example serve"))?;
    for model in MODELS {
        let mut child = Command::new(target_dir().join("release/examples/serve"))
            .args(model)
            .args(["--device", "cpu", "--port", "0"])
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = child.stdout.take().map(BufReader::new);
        let server = Server(child);
        let mut line = String::new();
        lines.context("no output")?.read_line(&mut line)?;
        let url = line
            .split_whitespace()
            .last()
            .context("the server did not start")?;
        run(Command::new(python)
            .arg(root().join("checks/server/load.py"))
            .args(["--url", url, "--pid", &server.0.id().to_string()])
            .args(["--seconds", &seconds.to_string()]))?;
    }
    Ok(())
}
