//! What the page must do.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::device::Device;
use mdlm::model::{Load, Model, Published};
use mdlm::sample::Canvas;

use crate::models::LENGTH;
use crate::site::{Bench, Visit, numbers};

mod failures;
mod gpu;
mod large;
mod looks;
mod published;
mod sampling;
mod shipped;
mod spoil;
mod training;

type Scenario = fn(&Bench) -> Result<String>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("twin-equals-native", sampling::twin_equals_native),
    ("frozen-words-stay", sampling::frozen_words_stay),
    ("mask-and-fill-anew", sampling::mask_and_fill_anew),
    ("scrub-and-share", sampling::scrub_and_share),
    ("cancel", sampling::cancel),
    ("shipped-models", shipped::shipped_models),
    ("corrupt-checkpoint", failures::corrupt_checkpoint),
    ("missing-model", failures::missing_model),
    ("no-webgpu", failures::no_webgpu),
    ("webgpu-equals-native", gpu::webgpu_equals_native),
    ("every-shader", gpu::every_shader),
    ("device-lost", gpu::device_lost),
    ("text-files", training::text_files),
    ("training", training::training),
    ("lost-while-training", training::training_recovers),
    ("published-layouts", published::layouts),
    ("published-dropped", published::dropped),
    ("published-refused", published::refused),
    ("published-told", published::told),
    ("published-far", published::far),
    ("published-recovers", published::recovers),
    ("published-large", large::large),
    ("looks", looks::looks),
    ("insecure", looks::insecure),
];

/// Runs the scenarios whose names contain `only`.
pub fn run(bench: &Bench, only: &str) -> Result<()> {
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|(name, _)| name.contains(only))
        .collect();
    ensure!(!chosen.is_empty(), "no scenario is called {only}");
    let mut failed = Vec::new();
    for (name, scenario) in chosen {
        let begin = Instant::now();
        let outcome = scenario(bench);
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(note) => println!("ok     {name} ({seconds:.1} s) {note}"),
            Err(error) => {
                println!("FAILED {name} ({seconds:.1} s): {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    println!("Pictures are in {}", bench.out.display());
    Ok(())
}

fn native(files: &Published) -> Result<Model> {
    Ok(wait(Model::load_files(
        &Device::cpu(),
        files,
        &Load::default(),
    ))?)
}

/// The canvas that the page makes of a prompt.
fn canvas(model: &Model, template: &str) -> Result<Canvas> {
    let tokenizer = model.tokenizer().context("no tokenizer")?;
    let canvas = Canvas::begin(template, tokenizer, LENGTH - 1)?;
    Ok(canvas.framed([Some(tokenizer.bos()), None]))
}

fn settings(seed: u64) -> SampleConfig {
    SampleConfig {
        steps: 24,
        seed,
        ..SampleConfig::default()
    }
}

/// Loads the model in a worker of its own and returns what its logits differ by from the native ones.
const LOGITS: &str = "(async () => {
    const { Engine } = await import('./engine.js');
    const engine = new Engine(() => {});
    const { info } = await engine.start('DEVICE', MODULE);
    const { info: model } = await engine.call('load', { name: 'mdlm' });
    const logits = await engine.call('logits', { name: 'mdlm', tokens: Uint32Array.from(TOKENS), t: 0 });
    engine.end('cancelled', 'done');
    return { kind: info.kind, module: info.module, threads: info.threads, hardware: info.hardware, adapter: info.adapter ?? '', logits: Array.from(logits) };
})()";

/// Largest difference of logits between a module of the page on a device and the native twin.
fn difference(
    visit: &mut Visit,
    model: &mut Model,
    device: &str,
    module: &str,
    tokens: &[u32],
) -> Result<(f64, String)> {
    let code = LOGITS
        .replace("DEVICE", device)
        .replace("MODULE", &format!("'{module}'"))
        .replace("TOKENS", &format!("{tokens:?}"));
    let found = visit.browser.eval(&code)?;
    let kind = if device == "cpu" { "cpu" } else { "webgpu" };
    ensure!(found["kind"] == kind, "computed on {}", found["kind"]);
    ensure!(found["module"] == module, "computed by {}", found["module"]);
    let shared = found["threads"].as_u64() > Some(1);
    ensure!(
        shared == (module == "threads"),
        "{module}: {} threads",
        found["threads"]
    );
    let logits = numbers(&found["logits"])?;
    let expected = wait(model.logits(tokens, &[0.0]))?;
    ensure!(logits.len() == expected.len(), "{} logits", logits.len());
    let mask = model.mask_index() as usize;
    let vocab = model.vocab_size();
    let live = |&(i, _): &(usize, (&f64, &f32))| i % vocab != mask;
    let worst = logits
        .iter()
        .zip(&expected)
        .enumerate()
        .filter(live)
        .map(|(_, (a, b))| (a - f64::from(*b)).abs())
        .fold(0.0, f64::max);
    Ok((
        worst,
        found["adapter"].as_str().unwrap_or_default().to_owned(),
    ))
}
