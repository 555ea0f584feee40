//! The package for npm, as somebody uses it who has just installed it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::device::Device;
use mdlm::model::Model;
use mdlm::sample::Canvas;
use serde_json::{Value, json};

use crate::race;

const TEMPLATE: &str = "Lily had a [MASK:3] and she was [MASK:2].";
const LENGTH: usize = 48;
/// Smallest lead of a draw's winner that the other compiler's rounding cannot turn.
const MARGIN: f64 = 1e-3;

/// Codes of what the script does wrong.
fn codes() -> Value {
    json!({
        "webgpu": "no_adapter",
        "weights": "checkpoint",
        "template": "argument",
        "steps": "argument",
        "sampler": "argument",
        "unknown": "argument",
        "device": "argument",
    })
}

/// Installs the package into an empty folder, checks the script's types, and compares what it writes with the library.
pub fn run(package: &Path, modules: &Path, script: &Path, model: &Path) -> Result<()> {
    let (package, model) = (package.canonicalize()?, model.canonicalize()?);
    let folder = tempfile::tempdir()?;
    let user = json!({ "name": "user", "private": true, "type": "module" });
    fs::write(folder.path().join("package.json"), user.to_string())?;
    fs::copy(script, folder.path().join("fill.ts"))?;
    let mut install = Command::new("npm");
    install.args(["install", "--offline", "--no-audit", "--no-fund"]);
    done(install.arg(&package).current_dir(&folder))?;
    let mut compile = Command::new("node");
    compile.arg(modules.canonicalize()?.join("typescript/bin/tsc"));
    compile.args(["--strict", "--noUncheckedIndexedAccess", "--noEmitOnError"]);
    compile.args(["--target", "es2022", "--module", "nodenext"]);
    compile.args(["--lib", "esnext,dom", "--types", "node", "--typeRoots"]);
    compile.arg(modules.canonicalize()?.join("@types"));
    done(compile.arg("fill.ts").current_dir(&folder))?;

    let described = folder.path().join("node_modules/mdlm/package.json");
    let described: Value = serde_json::from_slice(&fs::read(described)?)?;
    let mut native = wait(Model::load(&Device::cpu(), &model))?;
    let tokenizer = native.tokenizer().cloned().context("no tokenizer")?;
    let canvas = Canvas::begin(TEMPLATE, &tokenizer, LENGTH - 1)?;
    let canvas = canvas.framed([Some(tokenizer.bos()), None]);
    let logits = wait(native.logits(&canvas.tokens(native.mask_index()), &[0.0]))?;
    let (mut chosen, mut seeds) = (None, 1..40);
    while let (None, Some(seed)) = (&chosen, seeds.next()) {
        let config = SampleConfig {
            steps: 24,
            seed,
            ..SampleConfig::default()
        };
        let run = race::run(&mut native, canvas.clone(), &config)?;
        chosen = (run.margin > MARGIN).then_some((seed, run));
    }
    let (seed, expected) = chosen.context("no seed has a margin")?;
    for build in ["plain", "relaxed"] {
        let mut node = Command::new("node");
        node.args(["fill.js", build]).arg(&model);
        node.args([TEMPLATE, &LENGTH.to_string(), &seed.to_string()]);
        let said = done(node.current_dir(&folder))?;
        let found: Value = serde_json::from_str(&said).context(said)?;
        ensure!(
            found["version"] == described["version"],
            "version {}",
            found["version"]
        );
        ensure!(found["device"] == "cpu", "computed on {}", found["device"]);
        ensure!(found["errors"] == codes(), "codes {}", found["errors"]);
        let differ = difference(
            &found["logits"],
            &logits,
            native.vocab_size(),
            native.mask_index(),
        )?;
        ensure!(
            20.0 * differ < MARGIN,
            "{build}: logits differ by {differ:e}"
        );
        ensure!(
            found["tokens"] == json!(expected.tokens) && found["masked"] == 0,
            "{build}: other tokens: {}, natively {:?}",
            found["tokens"],
            expected.tokens
        );
        let text = tokenizer.decode_with(&expected.tokens, "_");
        ensure!(found["text"] == json!(text), "{build}: {}", found["text"]);
        println!(
            "ok     {build}: seed {seed}, logits differ by {differ:.2e}, tokens as natively: {text}"
        );
    }
    Ok(())
}

/// Largest difference of the logits, those of the mask left out.
fn difference(found: &Value, expected: &[f32], vocab: usize, mask: u32) -> Result<f64> {
    let found = found.as_array().context("no logits")?;
    ensure!(found.len() == expected.len(), "{} logits", found.len());
    let live = found
        .iter()
        .zip(expected)
        .enumerate()
        .filter(|(i, _)| i % vocab != mask as usize);
    live.map(|(_, (a, b))| Ok((a.as_f64().context("not finite")? - f64::from(*b)).abs()))
        .try_fold(0.0, |worst: f64, one: Result<f64>| Ok(worst.max(one?)))
}

/// Runs a program that must succeed; what it prints.
fn done(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    let text = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name}: {}\n{text}{said}",
        output.status
    );
    Ok(text)
}
