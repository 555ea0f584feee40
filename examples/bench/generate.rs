//! A model from disk: how long it loads, what memory it takes, and how fast it writes.

use std::time::Instant;

use mdlm::blocking::wait;
use mdlm::{Canvas, Device};
use serde_json::json;

use crate::{median, support};

/// Which model, and what it writes.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Open positions, all in one block.
    #[arg(long, default_value_t = 32)]
    length: usize,
    /// Steps that fill them.
    #[arg(long, default_value_t = 32)]
    steps: usize,
}

/// The most memory that this process has held, bytes, where the system tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(1024 * kib)
}

/// Prints one JSON object.
pub fn run(options: &Options, device: &Device) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut model = options.model.load(device)?;
    let load_s = begin.elapsed().as_secs_f64();
    let loaded = peak_bytes();
    let mut config = model.sampling();
    (config.steps, config.block) = (options.steps, 0);
    let mut times = Vec::new();
    let mut tokens = 0;
    let mut sampler = model.sampler(Canvas::open(options.length), &config)?;
    loop {
        let begin = Instant::now();
        let Some(report) = wait(sampler.step())? else {
            break;
        };
        times.push(1e3 * begin.elapsed().as_secs_f64());
        tokens += report.revealed.len();
    }
    drop(sampler);
    // the first step builds the graph
    let first_ms = times.remove(0);
    let seconds = times.iter().sum::<f64>() / 1e3;
    let later = tokens as f64 * times.len() as f64 / (times.len() + 1) as f64;
    times.sort_by(f64::total_cmp);
    let line = json!({
        "name": "generate",
        "model": model.model_type(),
        "parameters": model.info().parameters,
        "weights": options.model.weights.map(|weights| weights.to_string()),
        "weight_bytes": model.info().bytes,
        "device": device.info().name,
        "load_s": load_s,
        "peak_bytes_loaded": loaded,
        "peak_bytes": peak_bytes(),
        "first_ms": first_ms,
        "call_ms": median(&times),
        "tokens_per_s": later / seconds,
    });
    println!("{line}");
    Ok(())
}
