//! The training step against that of peers on this machine, in turns.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

use crate::{Shape, median, number};

/// What is compared, and how often.
#[derive(Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub shape: Shape,
    /// Peers, separated by commas: torch, burn-wgpu, burn-flex.
    #[arg(long, value_delimiter = ',', default_value = "torch,burn-wgpu")]
    peers: Vec<Peer>,
    /// Turns of each.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Flags for PyTorch's step, as `--device cuda --precision bf16`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    torch_flags: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Peer {
    /// `benches/peers/torch_step.py`, by the `python3` that is found first
    Torch,
    /// `benches/peers` with burn's wgpu backend
    BurnWgpu,
    /// `benches/peers` with burn's CPU backend
    BurnFlex,
}

impl Peer {
    fn command(self, options: &Options) -> anyhow::Result<Command> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let backend = match self {
            Self::Torch => {
                let found = Command::new("python3")
                    .args(["-c", "import torch"])
                    .output();
                let there = found.is_ok_and(|output| output.status.success());
                anyhow::ensure!(
                    there,
                    "python3 has no torch: pip install torch, or leave it out with --peers"
                );
                let mut command = Command::new("python3");
                command.arg(folder.join("torch_step.py"));
                command.args(options.torch_flags.split_whitespace());
                return Ok(command);
            }
            Self::BurnWgpu => "wgpu",
            Self::BurnFlex => "flex",
        };
        let built = Command::new("cargo")
            .args(["build", "--release"])
            .current_dir(&folder)
            .status()?;
        anyhow::ensure!(
            built.success(),
            "the peers in benches/peers cannot be built"
        );
        let mut command = Command::new(folder.join("target/release/mdlm-peers"));
        command.args(["--backend", backend]);
        Ok(command)
    }
}

/// The sizes as flags, which ours and the peers' programs share.
fn flags(shape: &Shape, seconds: f64) -> Vec<String> {
    let Shape {
        hidden,
        blocks,
        heads,
        cond,
        length,
        batch,
        vocab,
        ..
    } = *shape;
    let sizes = [
        ("hidden", hidden),
        ("blocks", blocks),
        ("heads", heads),
        ("cond", cond),
        ("length", length),
        ("batch", batch),
        ("vocab", vocab),
    ];
    let flag = |(name, value): (&str, usize)| [format!("--{name}"), value.to_string()];
    let seconds = ["--seconds".to_owned(), seconds.to_string()];
    sizes.into_iter().flat_map(flag).chain(seconds).collect()
}

/// The last line of what a program prints, as JSON.
fn measured(command: &mut Command) -> anyhow::Result<Value> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{command:?} printed no JSON: {printed}"))
}

/// Ours and each peer in turns; a line for each with the ratio of medians.
pub fn run(options: &Options, device: &str, seconds: f64) -> anyhow::Result<()> {
    let flags = flags(&options.shape, seconds);
    let mut ours = Command::new(std::env::current_exe()?);
    ours.args(["step", "--device", device]).args(&flags);
    let peers = options.peers.iter().map(|peer| peer.command(options));
    let mut programs = vec![ours];
    programs.extend(peers.collect::<anyhow::Result<Vec<_>>>()?);
    programs[1..].iter_mut().for_each(|program| {
        program.args(&flags);
    });
    let mut times = vec![Vec::new(); programs.len()];
    let mut names = vec![String::new(); programs.len()];
    for _ in 0..options.turns.max(1) {
        for (i, program) in programs.iter_mut().enumerate() {
            let line = measured(program)?;
            times[i].push(number(&line, "median_ms"));
            let name = if i == 0 {
                &line["device"]
            } else {
                &line["name"]
            };
            names[i] = name.as_str().unwrap_or_default().to_owned();
        }
    }
    times
        .iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    let ours = median(&times[0]);
    for (name, times) in names.iter().zip(&times) {
        let line = json!({
            "name": name,
            "shape": options.shape.label(),
            "median_ms": median(times),
            "min_ms": times[0],
            "max_ms": times[times.len() - 1],
            "ratio": median(times) / ours,
        });
        println!("{line}");
    }
    Ok(())
}
