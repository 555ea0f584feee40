//! Samples from nothing.

use std::ops::ControlFlow;

use mdlm::blocking::wait;
use mdlm::{Canvas, Model, SampleConfig};

/// A text that a model wrote, and the network calls that it took.
pub struct Sample {
    pub canvas: Canvas,
    pub network_calls: usize,
}

/// Texts of `length` tokens from their beginning, with seeds that count up from the settings' and begin anew after the
/// largest; `done` is told of each. An error if the model carries no tokenizer.
pub fn samples(
    model: &mut Model,
    config: &SampleConfig,
    length: usize,
    count: u64,
    done: impl FnMut(),
) -> anyhow::Result<Vec<Sample>> {
    anyhow::ensure!(
        model.tokenizer().is_some(),
        "the model carries no tokenizer: tokenizer.json is missing beside its weights"
    );
    let begin = Vec::from_iter(model.frame()[0]);
    answers(model, config, length, &[begin], count, done)
}

/// As [`samples`], each behind one of some prompts in turn.
pub fn answers(
    model: &mut Model,
    config: &SampleConfig,
    length: usize,
    prompts: &[Vec<u32>],
    count: u64,
    mut done: impl FnMut(),
) -> anyhow::Result<Vec<Sample>> {
    let mut sample = |i: u64| {
        let config = SampleConfig {
            seed: config.seed.wrapping_add(i) & i64::MAX as u64,
            ..config.clone()
        };
        let mut network_calls = 0;
        let prompt = &prompts[i as usize % prompts.len()];
        let sampler = model.sampler(Canvas::prompt(prompt, length)?, &config)?;
        let canvas = wait(sampler.finish(|report| {
            network_calls = report.network_calls;
            ControlFlow::Continue(())
        }))?;
        done();
        Ok(Sample {
            canvas,
            network_calls,
        })
    };
    (0..count).map(&mut sample).collect()
}
