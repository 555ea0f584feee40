//! PEFT reads the adapters that we write, and we those that it writes.

use crate::apt;
use crate::python::{self, Packages};
use crate::shell::{Consent, cargo, command, output, root, run, target_dir};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// PEFT and what it needs, on a torch of the distribution's: the one that pip has comes with gigabytes for CUDA.
const PACKAGES: Packages = Packages {
    name: "peft-0.17.1",
    python: "/usr/bin/python3",
    system: true,
    pip: &[
        "peft==0.17.1",
        "transformers==4.45.2",
        "accelerate==0.34.2",
        "safetensors==0.4.5",
        "huggingface_hub==0.25.2",
        "tokenizers==0.20.3",
    ],
    with_needs: &[
        "pyyaml",
        "tqdm",
        "packaging",
        "filelock",
        "fsspec",
        "regex",
        "jinja2",
    ],
};
const BASE: &str = "tests/golden_llm/qwen3_a2d";

/// Finds a Python with PEFT, or makes one; none where the system has no torch to offer.
pub fn set_up(consent: Consent) -> Result<Option<PathBuf>> {
    let torch = |python: &str| output(&mut command(python, ["-c", "import torch"])).is_ok();
    if !torch(PACKAGES.python) {
        if !apt::available() {
            return Ok(None);
        }
        apt::install(&["python3-torch"], consent)?;
    }
    python::set_up(&PACKAGES, consent).map(Some)
}

/// Trains adapters, has PEFT read them and write them anew, and writes the same text with both.
pub fn test(python: &Path) -> Result<()> {
    let work = target_dir().join("peft");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let pairs = work.join("pairs.jsonl");
    let pair = |i: usize| {
        format!("{{\"prompt\": \"the cat {i}\", \"response\": \"sat on the mat {i}\"}}\n")
    };
    fs::write(&pairs, (0..40).map(pair).collect::<String>())?;
    run(&mut cargo(
        "build --release --example train --example export --example sample",
    ))?;
    let example = |name: &str| {
        command(
            &target_dir()
                .join("release/examples")
                .join(name)
                .to_string_lossy(),
            ["--device", "cpu"],
        )
    };
    let [trained, ours, theirs] = ["run", "ours", "theirs"].map(|name| work.join(name));
    run(example("train")
        .args([
            "--init", BASE, "--steps", "5", "--length", "40", "--batch", "2",
        ])
        .args([
            "--set",
            "data.prompt_field=prompt",
            "--set",
            "data.field=response",
        ])
        .args([
            "--set",
            "lora.rank=4",
            "--set",
            "lora.alpha=12",
            "--set",
            "optim.lr=0.02",
        ])
        .arg("--data")
        .arg(&pairs)
        .arg("--out")
        .arg(&trained))?;
    run(example("export")
        .arg("--checkpoint")
        .arg(&trained)
        .arg("--out")
        .arg(&ours))?;
    run(Command::new(python)
        .arg(root().join("checks/adapters/peft_reads.py"))
        .arg(root().join(BASE))
        .args([&ours, &theirs]))?;
    let text = |adapter: Option<&Path>| {
        let mut sample = example("sample");
        sample.args([
            "--checkpoint",
            BASE,
            "--prompt",
            "the cat",
            "--length",
            "24",
            "--temperature",
            "0",
        ]);
        output(sample.args(adapter.iter().flat_map(|dir| [Path::new("--adapter"), dir])))
    };
    let texts = [text(None)?, text(Some(&ours))?, text(Some(&theirs))?];
    ensure!(
        texts[1] == texts[2],
        "PEFT's adapters write another text than ours: {texts:?}"
    );
    if texts[0] == texts[1] {
        bail!("the adapters change nothing: {texts:?}");
    }
    Ok(())
}
