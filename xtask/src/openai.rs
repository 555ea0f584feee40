//! OpenAI's client in Python, and the server under many of them.

use crate::apt;
use crate::shell::{Consent, cache_dir, command, on_path, root, run, target_dir};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Version of the client.
const VERSION: &str = "3.57.0";
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
    let folder = cache_dir()?.join(format!("openai-{VERSION}"));
    let python = folder.join("bin/python");
    if folder.join("installed").is_file() {
        return Ok(python);
    }
    if apt::available() {
        apt::install(&["python3-venv"], consent)?;
    }
    if !on_path("python3") {
        bail!("no python3, which OpenAI's client needs: install it");
    }
    let what = format!("openai {VERSION} will be put into {}", folder.display());
    consent.ask(&what)?;
    run(command("python3", ["-m", "venv"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .arg(format!("openai=={VERSION}")))?;
    std::fs::write(folder.join("installed"), VERSION)?;
    Ok(python)
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
