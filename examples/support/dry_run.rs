//! What a training run would take, and a run of each preset in its place.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use mdlm::blocking::wait;
use mdlm::engine::graph::{FORWARD, Graph, PARAMS, Session, Storage};
use mdlm::engine::ops::Form;
use mdlm::engine::program::Step;
use mdlm::train::Budget;
use mdlm::{Corpus, Device, ModelConfig, TrainConfig};

/// Side of the square product that the device is timed with.
const SIDE: usize = 1024;

/// Multiply-adds times two a second in products, as the device does them now.
fn rate(device: &Device) -> mdlm::Result<f64> {
    let mut g = Graph::new(Arc::default());
    let [a, b] = ["a", "b"].map(|name| g.input(name, &[SIDE, SIDE]));
    let c = g.matmul("c", Form::Nt, a, b)?;
    let last = g.view(c, 0, &[1])?;
    let layout = g.layout().clone();
    let mut storage = wait(Storage::new(device, &layout, &[PARAMS]))?;
    let mut session = wait(Session::new(device, &mut g, &storage, PARAMS, &[last]))?;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        wait(session.run(&mut storage, &Step::default(), &[FORWARD]))?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best)
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// A table of the configuration and of every preset in its place: each at its own length, all else being equal.
pub fn table(
    device: &Device,
    config: &TrainConfig,
    corpus: &Corpus,
    memory: Option<f64>,
) -> anyhow::Result<String> {
    if !config.base.path.is_empty() {
        let problem = "is for networks of this crate; inspect says what a published model takes";
        return Err(mdlm::Error::config("base.path", &config.base.path, problem).into());
    }
    let free = || mdlm::engine::cpu::available().map(gib);
    let memory = memory.or_else(|| device.context().map_or_else(free, |_| None));
    let rate = rate(device)?;
    let mut text = String::from(
        "run       parameters  batch x length  weights, optimiser  activations     in all  a step  largest batch\n",
    );
    let presets = ModelConfig::PRESETS.map(|name| (name, ModelConfig::preset(name)));
    let own = [("this", Ok(config.model.clone()))];
    for (name, model) in own.into_iter().chain(presets) {
        let mut config = config.clone();
        config.model = model?;
        config.model.vocab_size = corpus.tokenizer.vocab_size();
        config.model.mask_index = corpus.tokenizer.mask_index();
        config.training.short_length = None;
        let Budget { parameters, report } = Budget::of(device, &config)?;
        let training = &config.training;
        let largest = match memory {
            Some(gib) => {
                let bytes = (gib * f64::from(1 << 30)) as u64;
                Budget::largest_batch(device, &config, bytes)?.to_string()
            }
            None => "-".to_owned(),
        };
        let seconds = training.accumulation as f64 * report.flops as f64 / rate;
        let size = format!("{} x {}", training.batch, config.model.length);
        writeln!(
            text,
            "{name:<8} {parameters:>11}  {size:>14}  {:>14.2} GiB  {:>7.2} GiB {:>6.2} GiB {seconds:>5.2} s  {largest:>13}",
            gib(report.arena_bytes),
            gib(report.shared_bytes + report.input_bytes),
            gib(report.total_bytes),
        )?;
    }
    let within = memory.map_or_else(
        || "Give --memory GIB for the largest batch.".to_owned(),
        |gib| format!("Largest batch: within {gib:.1} GiB."),
    );
    writeln!(
        text,
        "\n{within} A step takes at least the time of its products at {:.0} GFLOP/s, as measured just now.",
        rate / 1e9
    )?;
    Ok(text)
}
