//! Samplers against each other: what a judge thinks of their text, how much of it is said twice, how many network calls
//! it took, and how far their law is from that of a model that is exact.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::eval::{Judge, distinct_n, unigram_entropy};
use mdlm::{Canvas, Device, Model, SampleConfig, Sampler, SamplerKind};

use crate::Args;
use crate::oracle::Oracle;
use crate::page::Page;
use crate::support::samples::{Sample, samples};

/// Tokens of a sample.
const LENGTH: usize = 128;
/// Positions of the exact model, and sequences drawn from it.
const SHORT: usize = 6;
const DRAWS: usize = 200_000;

/// A way to sample: the sampler, its number of steps and options.
type Way = (SamplerKind, usize, &'static [(&'static str, f64)]);

const WAYS: [Way; 25] = [
    (SamplerKind::ANCESTRAL, 32, &[]),
    (SamplerKind::ANCESTRAL, 128, &[]),
    (SamplerKind::FIRST_HITTING, 1, &[]),
    (SamplerKind::REMDM_CAP, 128, &[]),
    (SamplerKind::CONFIDENCE, 16, &[]),
    (SamplerKind::CONFIDENCE, 32, &[]),
    (SamplerKind::CONFIDENCE, 32, &[("order_noise", 2.0)]),
    (SamplerKind::CONFIDENCE, 32, &[("order_noise", 4.0)]),
    (SamplerKind::CONFIDENCE, 32, &[("order_noise", 8.0)]),
    (SamplerKind::CONFIDENCE, 64, &[]),
    (SamplerKind::CONFIDENCE, 128, &[]),
    (SamplerKind::THRESHOLD, 1, &[("threshold", 0.9)]),
    (SamplerKind::THRESHOLD, 1, &[("threshold", 0.7)]),
    (SamplerKind::THRESHOLD, 1, &[("threshold", 0.5)]),
    (SamplerKind::KLASS, 1, &[("threshold", 0.9)]),
    (SamplerKind::KLASS, 1, &[("threshold", 0.5)]),
    (SamplerKind::KLASS, 1, &[("threshold", 0.3), ("drift", 0.1)]),
    (SamplerKind::P2, 32, &[]),
    (SamplerKind::P2, 128, &[]),
    (SamplerKind::ENTROPY_BOUND, 1, &[("gamma", 0.1)]),
    (SamplerKind::ENTROPY_BOUND, 1, &[("gamma", 0.3)]),
    (SamplerKind::ENTROPY_BOUND, 1, &[("gamma", 1.0)]),
    (SamplerKind::ENTROPY_BOUND, 1, &[("gamma", 2.0)]),
    (SamplerKind::ENTROPY_BOUND, 1, &[("gamma", 4.0)]),
    (SamplerKind::LEFT_TO_RIGHT, 1, &[]),
];
const TEMPERATURES: [f64; 3] = [0.6, 0.8, 1.0];

fn config((sampler, steps, options): Way) -> SampleConfig {
    let mut config = SampleConfig {
        sampler,
        steps,
        ..SampleConfig::default()
    };
    for &(key, value) in options {
        config = config.with(key, value);
    }
    config
}

fn label((sampler, steps, options): Way) -> String {
    let mut label = sampler.name.to_owned();
    if steps > 1 {
        label += &format!(", {steps} steps");
    }
    for (key, value) in options {
        label += &format!(", {key} {value}");
    }
    label
}

/// Total variation between what a sampler makes of the exact model and the model's own law.
fn distance(mut oracle: Oracle, way: Way) -> anyhow::Result<f64> {
    let (sampler, steps, options) = way;
    let base = config((sampler, (steps * SHORT).div_ceil(LENGTH), options));
    let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
    let batch = 100;
    for seed in 0..(DRAWS / batch) as u64 {
        let config = SampleConfig {
            seed,
            ..base.clone()
        };
        let sampler = Sampler::new(&mut oracle, vec![Canvas::open(SHORT); batch], &config)?;
        for canvas in wait(sampler.finish_all(|_| ControlFlow::Continue(())))? {
            *counts.entry(canvas.tokens(u32::MAX)).or_default() += 1.0 / DRAWS as f64;
        }
    }
    let tokens = oracle.tokens();
    let sequence = |mut index: usize| -> Vec<u32> {
        let mut digit = || {
            let digit = index % tokens;
            index /= tokens;
            digit as u32
        };
        (0..SHORT).map(|_| digit()).collect()
    };
    let off = |index| {
        let sequence = sequence(index);
        let seen = counts.get(&sequence).copied().unwrap_or(0.0);
        (seen - oracle.likelihood(&sequence)).abs()
    };
    Ok((0..tokens.pow(SHORT as u32)).map(off).sum::<f64>() / 2.0)
}

/// A row: what the judge says of samples of a model.
fn judged(
    model: &mut Model,
    judge: &mut Judge,
    config: &SampleConfig,
    count: u64,
) -> anyhow::Result<String> {
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("the model carries no tokenizer");
    };
    let samples = samples(model, config, LENGTH, count, || ())?;
    let n = count as f64;
    let calls: usize = samples.iter().map(|s| s.network_calls).sum();
    let tokens = |sample: &Sample| sample.canvas.tokens(tokenizer.mask_index());
    let samples: Vec<Vec<u32>> = samples.iter().map(tokens).collect();
    let ppl = wait(judge.perplexity(&samples, &tokenizer))?;
    let entropy = samples.iter().map(|s| unigram_entropy(s)).sum::<f64>() / n;
    let [two, three] = [2, 3].map(|n| distinct_n(&samples, n));
    Ok(format!(
        "{:.0} | {} | {two:.2} | {three:.2} | {entropy:.2}",
        calls as f64 / n,
        ppl.shown(),
    ))
}

/// Samples, judges, and writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let mut page = Page::open(args.pictures.with_file_name("samplers.md"), "Samplers")?;
    let text = &mut page.text;
    let load = |name: &str, device: &Device| wait(Model::load(device, &args.models.join(name)));
    let mut model = load("mdlm", &device)?;
    let mut sibling = load("ar", &device)?;
    let mut judge = Judge::Autoregressive(Box::new(load("ar", &device)?));
    let bar = ProgressBar::new(((WAYS.len() + 1) * TEMPERATURES.len()) as u64);
    writeln!(
        text,
        "{} samples of {LENGTH} tokens a row.\n\n\
         | sampler | temperature | network calls | perplexity under the sibling | distinct 2-grams | 3-grams | entropy |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
        args.samples
    )?;
    for temperature in TEMPERATURES {
        let mut row = |name: String, model: &mut Model, config: SampleConfig| {
            let config = SampleConfig {
                temperature,
                ..config
            };
            let cells = judged(model, &mut judge, &config, args.samples)?;
            writeln!(text, "| {name} | {temperature} | {cells} |")?;
            bar.inc(1);
            anyhow::Ok(())
        };
        for way in WAYS {
            row(label(way), &mut model, config(way))?;
        }
        let own = SampleConfig::default();
        row("the sibling itself".to_owned(), &mut sibling, own)?;
    }
    bar.finish_and_clear();
    writeln!(
        text,
        "\nDistance from the law of an exact model, {DRAWS} sequences of {SHORT} positions.\n\n\
         | sampler | chain | hidden states |\n| --- | --- | --- |"
    )?;
    for way in WAYS {
        let chain = distance(Oracle::chain(SHORT), way)?;
        let hidden = distance(Oracle::hidden(SHORT), way)?;
        writeln!(text, "| {} | {chain:.3} | {hidden:.3} |", label(way))?;
    }
    page.write()
}
