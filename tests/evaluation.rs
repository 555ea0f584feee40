//! Evaluation: values that are known exactly, the two estimators against each other, pads, judges.
#![allow(clippy::unwrap_used)]

mod common;

use common::Executor;
use common::models::{load, small};
use common::runs::{config, refused};
use mdlm::config::{DataConfig, ModelConfig, ModelKind, NoiseConfig, NoiseKind};
use mdlm::data::{Blocks, Corpus, Tokenizer};
use mdlm::eval::{EvalConfig, EvalMode, Judge, Perplexity, perplexity};
use mdlm::model::Model;
use mdlm::progress::Silent;
use mdlm::train::Trainer;
use mdlm_engine::rng::{Rng, Stream};
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
            assert!(p.nats_std_err.unwrap() < 1e-6, "{p:?}");
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

/// The mean over seeds of estimates of the same blocks, and its standard error.
fn over_seeds(model: &mut Model, blocks: &Blocks, batch: usize, config: EvalConfig) -> [f64; 2] {
    let seeds = 300;
    let one = |seed| {
        let config = EvalConfig { seed, ..config };
        let p = block_on(perplexity(model, blocks, batch, &config, |_, _| {}));
        p.unwrap().nats_per_token
    };
    let all: Vec<f64> = (1..=seeds).map(one).collect();
    let mean = all.iter().sum::<f64>() / seeds as f64;
    let squares = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    [mean, squares.sqrt() / seeds as f64]
}

#[test]
fn neither_batch_nor_order_changes_an_estimate() {
    let mut model = load(Executor::CpuF32.shared(), &of(ModelKind::Dit), None);
    let blocks = blocks(5);
    for config in [exact(1), exact(2), sampled(1)] {
        // with one seed the batch changes roundings only
        let of_batch = |model: &mut Model, batch| {
            let p = block_on(perplexity(model, &blocks, batch, &config, |_, _| {}));
            p.unwrap().nats_per_token
        };
        let whole = of_batch(&mut model, 5);
        for batch in [1, 2, 3, 4, 64] {
            let p = of_batch(&mut model, batch);
            assert!((p - whole).abs() < 1e-6, "batch {batch}: {p}, {whole}");
        }
    }
    // two blocks that are not equally hard, in both orders
    let (dull, lively) = (vec![1; LENGTH], ids(1));
    let pair = |a: &[u32], b: &[u32]| Blocks::new(LENGTH, [a, b].concat(), 7).unwrap();
    let (one, other) = (pair(&dull, &lively), pair(&lively, &dull));
    for config in [exact(1), sampled(1)] {
        let [a, da] = over_seeds(&mut model, &one, 2, config);
        let [b, db] = over_seeds(&mut model, &other, 2, config);
        let error = da.hypot(db);
        println!("{:?}: {a:.4} and {b:.4} ± {error:.4}", config.mode);
        assert!((a - b).abs() < 4.0 * error, "{a} {b} {error}");
        assert!(error < 0.05 || config.mode == EvalMode::Mc, "{error}");
    }
}

#[test]
fn a_single_block_has_no_error() {
    for kind in [ModelKind::Dit, ModelKind::Ar] {
        let mut model = load(Executor::CpuF32.shared(), &of(kind), None);
        let p = evaluate(&mut model, &blocks(1), &exact(1));
        assert_eq!((p.nats_std_err, p.interval()), (None, None));
        let p = evaluate(&mut model, &blocks(2), &exact(1));
        assert!(p.interval().unwrap()[0] < p.ppl);
    }
}

#[test]
fn a_judge_scores_what_was_drawn() {
    let device = Executor::CpuF32.shared();
    let mut model = load(device, &of(ModelKind::Ar), None);
    // a beginning, two texts with an end between them, longer than a window
    let sample: Vec<u32> = [5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 2, 2, 3, 1, 5].to_vec();
    let windows = [&sample[..LENGTH], &sample[LENGTH - 1..]];
    let score = |model: &mut Model, window: &[u32]| {
        let nll = block_on(model.next_token_nll(window)).unwrap();
        nll.iter().sum::<f64>()
    };
    let nats: f64 = windows.iter().map(|window| score(&mut model, window)).sum();
    let tokenizer = model.tokenizer().unwrap().clone();
    let mut judge = Judge::Autoregressive(Box::new(model));
    let samples = [sample.clone(), sample[1..].to_vec()];
    let p = block_on(judge.perplexity(&samples, &tokenizer)).unwrap();
    // the second sample gets its context
    assert_eq!(p.tokens, 28);
    assert!((p.nats_per_token - nats / 14.0).abs() < 1e-9);
    // the same text in another vocabulary
    let bytes = Tokenizer::byte();
    let text = |part: &str| part.bytes().map(u32::from).collect::<Vec<_>>();
    let other = [&[256], &text("abcde")[..], &[256], &text("abcccdb"), &[256]].concat();
    let q = block_on(judge.perplexity(&[other], &bytes)).unwrap();
    assert_eq!(q.tokens, 14);
    assert!((q.nats_per_token - p.nats_per_token).abs() < 1e-9);
    assert_eq!(q.std_err(), None);

    let nothing = block_on(judge.perplexity(&[vec![5]], &tokenizer));
    refused(nothing.map(|_| ()), "argument", &["no text"]);
    let denoiser = load(device, &of(ModelKind::Dit), None);
    let mut judge = Judge::Autoregressive(Box::new(denoiser));
    refused(
        block_on(judge.perplexity(&samples, &tokenizer)).map(|_| ()),
        "argument",
        &["autoregressive"],
    );
}

/// Pairs whose response is the prompt's letter three times: what is given is never masked, has no loss, and decides.
#[test]
fn a_response_is_learnt_from_its_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.jsonl");
    let row = |i: usize| {
        let letter = ["a", "b", "c", "d", "e"][i % 5];
        format!(
            "{{\"q\": \"{letter}?\", \"a\": \"{}\"}}\n",
            letter.repeat(3)
        )
    };
    std::fs::write(&path, (0..400).map(row).collect::<String>()).unwrap();
    for kind in [ModelKind::Dit, ModelKind::Ar] {
        let mut config = config(900);
        (config.optim.warmup, config.optim.lr) = (Some(10), Some(3e-3));
        config.model.dropout = 0.0;
        config.model.kind = kind;
        (config.model.time_conditioning, config.model.length) = (false, 8);
        (config.training.batch, config.training.accumulation) = (16, 1);
        (config.training.ema, config.training.val_every) = (0.5, 0);
        config.training.val_blocks = 0;
        config.data = DataConfig {
            train: path.to_str().unwrap().to_owned(),
            tokenizer: "char".into(),
            field: "a".into(),
            prompt_field: "q".into(),
            ..DataConfig::default()
        };
        let corpus = Corpus::load(&config.data, 8, &mut Silent).unwrap();
        let device = Executor::CpuF32.shared();
        let mut trainer = block_on(Trainer::new(device, &config, corpus)).unwrap();
        let before = block_on(trainer.validate(|_, _| {})).unwrap();
        for _ in 0..900 {
            block_on(trainer.step()).unwrap();
        }
        let after = block_on(trainer.validate(|_, _| {})).unwrap();
        // of BOS, two tokens of the prompt, three of the response and two ends
        assert_eq!(after.tokens, 5 * 40, "{kind:?}");
        assert!(
            before.ppl > 5.0 && after.ppl < 1.2,
            "{kind:?}: {} to {}",
            before.ppl,
            after.ppl
        );
        let tokenizer = trainer.corpus().tokenizer.clone();
        let mut model = block_on(trainer.model()).unwrap();
        for letter in ["a", "b", "c", "d", "e"] {
            let mut prompt = vec![tokenizer.bos()];
            prompt.extend(tokenizer.encode(&format!("{letter}?")).unwrap());
            let canvas = mdlm::Canvas::prompt(&prompt, 8).unwrap();
            let greedy = mdlm::SampleConfig {
                temperature: 0.0,
                ..Default::default()
            };
            let sampler = model.sampler(canvas, &greedy).unwrap();
            let filled = block_on(sampler.finish(|_| std::ops::ControlFlow::Continue(())));
            let text = filled.unwrap().text(&tokenizer);
            assert_eq!(text, format!("{letter}?{}", letter.repeat(3)), "{kind:?}");
        }
    }
}
