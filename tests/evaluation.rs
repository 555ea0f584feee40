//! Evaluation: values that are known exactly, the two estimators against each other, pads, judges.
#![allow(clippy::unwrap_used)]

mod common;

use common::Executor;
use common::models::{load, small};
use common::runs::refused;
use mdlm::config::{ModelConfig, ModelKind, NoiseConfig, NoiseKind};
use mdlm::data::Blocks;
use mdlm::eval::{EvalConfig, EvalMode, Judge, Perplexity, perplexity};
use mdlm::model::Model;
use mdlm::rng::{Rng, Stream};
use pollster::block_on;

const LENGTH: usize = 12;
/// Letters a to e, the end of text; the mask is 6.
const WORDS: u64 = 6;

fn ids(count: usize) -> Vec<u32> {
    let mut rng = Rng::new(3, Stream::Shuffle, 0);
    (0..count * LENGTH)
        .map(|_| rng.below(WORDS) as u32)
        .collect()
}

fn blocks(count: usize) -> Blocks {
    Blocks::new(LENGTH, ids(count), 7).unwrap()
}

fn of(kind: ModelKind) -> ModelConfig {
    ModelConfig {
        kind,
        ..small(LENGTH)
    }
}

fn evaluate(model: &mut Model, blocks: &Blocks, config: &EvalConfig) -> Perplexity {
    block_on(perplexity(model, blocks, 4, config, |_, _| {})).unwrap()
}

fn exact(samples: usize) -> EvalConfig {
    EvalConfig {
        samples,
        ..EvalConfig::default()
    }
}

fn sampled(samples: usize) -> EvalConfig {
    EvalConfig {
        mode: EvalMode::Mc,
        ..exact(samples)
    }
}

#[test]
fn a_fresh_model_knows_nothing() {
    for executor in [Executor::CpuF64, Executor::CpuF32, Executor::Gpu] {
        for kind in [ModelKind::Dit, ModelKind::Ar] {
            let mut model = block_on(Model::new(executor.shared(), &of(kind), 1)).unwrap();
            let p = evaluate(&mut model, &blocks(9), &exact(1));
            assert!((p.ppl - WORDS as f64).abs() < 1e-5, "{kind:?}: {p:?}");
            assert!(p.nats_std_err < 1e-6, "{p:?}");
            let counted = if kind == ModelKind::Ar {
                LENGTH - 1
            } else {
                LENGTH
            };
            assert_eq!(p.tokens, 9 * counted as u64);
        }
    }
}

#[test]
fn the_estimators_agree() {
    let mut model = load(Executor::CpuF32.shared(), &of(ModelKind::Dit), None);
    let blocks = blocks(40);
    let reference = evaluate(&mut model, &blocks, &exact(400));
    for kind in [
        NoiseKind::Loglinear,
        NoiseKind::Cosine,
        NoiseKind::Polynomial,
    ] {
        let noise = NoiseConfig {
            kind,
            ..NoiseConfig::default()
        };
        model.set_noise(noise).unwrap();
        let p = evaluate(&mut model, &blocks, &sampled(400));
        // errors over the same blocks are shared, so the difference is smaller than either
        let difference = (p.nats_per_token - reference.nats_per_token).abs();
        println!("{kind:?}: {p:?} against {reference:?}");
        assert!(difference < 0.02, "{kind:?}: {difference}");
    }
    let few = evaluate(&mut model, &blocks, &sampled(1));
    let many = evaluate(&mut model, &blocks, &sampled(64));
    assert!(many.nats_std_err < few.nats_std_err, "{many:?} {few:?}");
}

#[test]
fn a_single_step_masks_everything() {
    let mut model = load(Executor::CpuF32.shared(), &of(ModelKind::Dit), None);
    let blocks = blocks(5);
    let single = EvalConfig {
        t_steps: 1,
        ..exact(1)
    };
    let p = evaluate(&mut model, &blocks, &single);
    let logits = block_on(model.logits(&[6; LENGTH], &[0.0])).unwrap();
    let mut nats = 0.0;
    for (i, &token) in blocks.block(0).unwrap().iter().enumerate() {
        let z = &logits[7 * i..][..6];
        let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
        nats += sum.ln() - f64::from(z[token as usize]);
    }
    let first = Blocks::new(LENGTH, blocks.block(0).unwrap().to_vec(), 7).unwrap();
    let alone = evaluate(&mut model, &first, &single);
    assert!((alone.nats_per_token - nats / LENGTH as f64).abs() < 1e-5);
    // the bound falls with the number of steps (equation 10 against its limit)
    let fine = EvalConfig {
        t_steps: 1000,
        ..exact(200)
    };
    let fine = evaluate(&mut model, &blocks, &fine);
    let continuous = evaluate(&mut model, &blocks, &exact(200));
    let gap = (fine.nats_per_token - continuous.nats_per_token).abs();
    assert!(gap < 0.02 && p.tokens == 60, "{fine:?} {continuous:?}");
}

#[test]
fn autoregressive_perplexity_is_the_mean_over_tokens() {
    let mut model = load(Executor::CpuF32.shared(), &of(ModelKind::Ar), None);
    let blocks = blocks(7);
    let p = evaluate(&mut model, &blocks, &exact(1));
    let mut nats = 0.0;
    for i in 0..7 {
        let nll = block_on(model.next_token_nll(&blocks.block(i).unwrap())).unwrap();
        nats += nll.iter().sum::<f64>();
    }
    assert!((p.nats_per_token - nats / 77.0).abs() < 1e-5);
    // more draws change nothing where nothing is drawn
    assert_eq!(p, evaluate(&mut model, &blocks, &sampled(3)));
}

#[test]
fn pads_do_not_count() {
    let attended = vec![LENGTH as u32, 5, 3];
    for kind in [ModelKind::Dit, ModelKind::Ar] {
        let mut model = load(Executor::CpuF32.shared(), &of(kind), None);
        let blocks = Blocks::padded(LENGTH, ids(3), attended.clone(), 7).unwrap();
        let p = evaluate(&mut model, &blocks, &exact(1));
        let first = usize::from(kind == ModelKind::Ar) as u64;
        assert_eq!(p.tokens, LENGTH as u64 + 5 + 3 - 3 * first);
        if kind == ModelKind::Ar {
            let mut nats = 0.0;
            for (i, &n) in attended.iter().enumerate() {
                let block = blocks.block(i).unwrap();
                let nll = block_on(model.next_token_nll(&block[..n as usize])).unwrap();
                nats += nll.iter().sum::<f64>();
            }
            assert!((p.nats_per_token - nats / 17.0).abs() < 1e-5);
        }
    }
}

#[test]
fn a_judge_scores_text() {
    let device = Executor::CpuF32.shared();
    let mut model = load(device, &of(ModelKind::Ar), None);
    let text = "abcdeabc";
    let tokens: Vec<u32> = [5]
        .into_iter()
        .chain(text.bytes().map(|b| u32::from(b - b'a')))
        .collect();
    let nll = block_on(model.next_token_nll(&tokens)).unwrap();
    let mut judge = Judge::Autoregressive(Box::new(model));
    let texts = [text.to_owned(), text.to_owned()];
    let p = block_on(judge.perplexity(&texts)).unwrap();
    assert_eq!(p.tokens, 16);
    assert!((p.nats_per_token - nll.iter().sum::<f64>() / 8.0).abs() < 1e-9);
    refused(
        block_on(judge.perplexity(&[])).map(|_| ()),
        "config",
        &["no text"],
    );
    let denoiser = load(device, &of(ModelKind::Dit), None);
    let mut judge = Judge::Autoregressive(Box::new(denoiser));
    refused(
        block_on(judge.perplexity(&texts)).map(|_| ()),
        "config",
        &["autoregressive"],
    );
}
