//! A run that was stopped and resumed is the run that was never stopped, bit by bit.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Executor;
use common::runs::{
    LENGTH, assert_same, checkpoint, config, contents, corpus, refused, resume, run, start,
};
use common::training::subs_batch;
use mdlm::config::{ModelConfig, ModelKind, Precision, Recompute, TrainConfig};
use mdlm::data::Corpus;
use mdlm::model::{Backbone, Model, Options};
use mdlm::progress::{Event, Flow, Silent};
use mdlm::train::{StepOutcome, TrainSession, Trainer, read_log};
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::Storage;
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::TRAINING;
use mdlm_engine::ops::{BIAS1, BIAS2, LR};
use mdlm_engine::program::Step;
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

mod resume {
    mod half;
    mod mixture;
    mod unbroken;
}

#[test]
fn one_seed_makes_one_run() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let mut config = config(5);
    config.training.save_every = 2;
    start(device, &config, &a, 5);
    start(device, &config, &b, 5);
    assert_same(&a, &b);
    config.seed = 2;
    start(device, &config, &c, 5);
    let model = |dir: &std::path::Path| fs::read(checkpoint(dir, 5).join("model.safetensors"));
    assert!(model(&a).unwrap() != model(&c).unwrap());
}

#[test]
fn a_longer_run_goes_on_as_if_it_had_been_planned() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let (planned, extended) = (dir.path().join("planned"), dir.path().join("extended"));
    let mut config = config(4);
    // the default depends on the number of steps; the saved run's holds
    config.optim.warmup = Some(2);
    start(device, &config, &extended, 4);
    (config.training.steps, config.training.save_every) = (7, 3);
    start(device, &config, &planned, 7);
    config.optim.warmup = None;
    let mut trainer = resume(device, &config, &extended).unwrap();
    run(&mut trainer, &extended, 7).unwrap();
    assert_same(&checkpoint(&planned, 7), &checkpoint(&extended, 7));
}

/// Blocks that are computed again change no bit, from whichever step on.
#[test]
fn what_is_computed_again_is_the_same() {
    use Precision::{F16, F32};
    for (executor, precision) in [
        (Executor::CpuF32, F32),
        (Executor::CpuF32, F16),
        (Executor::Gpu, F32),
        (Executor::Gpu, F16),
    ] {
        let device = executor.shared();
        let dir = tempfile::tempdir().unwrap();
        let [kept, again, later] = ["kept", "again", "later"].map(|name| dir.path().join(name));
        let mut config = config(4);
        config.training.precision = precision;
        config.model.n_blocks = 3;
        let tensors = |dir: &std::path::Path| {
            let mut files = contents(&checkpoint(dir, 4));
            files.retain(|name, _| name.ends_with(".safetensors"));
            assert!(files.len() > 1);
            files
        };
        start(device, &config, &kept, 4);
        start(device, &config, &later, 2);
        config.training.recompute = Recompute::Blocks;
        start(device, &config, &again, 4);
        run(&mut resume(device, &config, &later).unwrap(), &later, 4).unwrap();
        let expected = tensors(&kept);
        assert!(
            tensors(&again) == expected && tensors(&later) == expected,
            "{executor:?}, {precision:?}"
        );
    }
}

#[test]
fn anything_else_that_differs_is_named() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let saved = config(2);
    start(device, &saved, dir.path(), 2);
    let before = contents(dir.path());
    let cases = [
        ("seed=5", "1"),
        ("training.batch=3", "2"),
        ("training.accumulation=1", "2"),
        ("training.ema=0.5", "0.9999"),
        ("training.val_every=7", "2"),
        ("training.keep=9", "3"),
        ("training.precision=f16", "f32"),
        ("optim.lr=0.5", "0.01"),
        ("optim.schedule=cosine", "constant"),
        ("optim.warmup=9", "0"),
        ("model.dropout=0.0", "0.1"),
        ("model.n_blocks=2", "1"),
        ("data.train=else.txt", ""),
        ("sampling.steps=3", "128"),
    ];
    for (assignment, old) in cases {
        let mut given = saved.clone();
        given.set(assignment).unwrap();
        let (key, new) = assignment.split_once('=').unwrap();
        let text = format!("config {key} = {}", new.trim_end_matches(".0"));
        refused(
            resume(device, &given, dir.path()),
            "config",
            &[&text, &format!("has {old}")],
        );
    }
    let mut preset = saved.clone();
    preset.model = ModelConfig {
        length: LENGTH,
        ..ModelConfig::preset("nano").unwrap()
    };
    refused(
        resume(device, &preset, dir.path()),
        "config",
        &["config model."],
    );

    let newest = checkpoint(dir.path(), 2);
    let tokenizer = corpus().tokenizer;
    let texts = [["sophia\ncharlotte\nmia"], ["emma\nolivia\nava\nisabella"]];
    let [train, valid] = &texts;
    let other = Corpus::from_texts(tokenizer, train, valid, LENGTH, &mut Silent).unwrap();
    let result = block_on(Trainer::resume(device, &saved, other, &newest));
    refused(result, "config", &["data.train", "other text"]);
    assert!(contents(dir.path()) == before, "a refusal wrote something");
}

#[test]
fn a_complete_run_stays_as_it_is() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let config = config(3);
    start(device, &config, dir.path(), 3);
    let before = contents(dir.path());
    let mut trainer = resume(device, &config, dir.path()).unwrap();
    let mut events = 0;
    let summary = block_on(trainer.run(dir.path(), &mut |_: &Event| {
        events += 1;
        Flow::Continue
    }))
    .unwrap();
    assert_eq!((summary.step, summary.stopped, events), (3, false, 0));
    assert!(contents(dir.path()) == before);

    let mut fresh = block_on(Trainer::new(device, &config, corpus())).unwrap();
    refused(
        run(&mut fresh, dir.path(), 3),
        "argument",
        &["out = ", "already holds checkpoints"],
    );
    assert!(contents(dir.path()) == before);
}

#[test]
fn a_run_can_start_from_another_model() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    start(device, &config(2), dir.path(), 2);
    let model = block_on(Model::load(device, dir.path())).unwrap();
    let mut longer = config(2);
    longer.model.length = 2 * LENGTH;
    longer.model.dropout = 0.0;
    let packed = |length| {
        let Corpus { tokenizer, .. } = corpus();
        let train = "sophia\ncharlotte\nmia".repeat(9);
        let valid = "emma\nolivia\nava\nisabella".repeat(9);
        Corpus::from_texts(tokenizer, &[&train], &[&valid], length, &mut Silent).unwrap()
    };
    let new = |config: &TrainConfig| {
        block_on(Trainer::new(device, config, packed(config.model.length))).unwrap()
    };
    let mut trainer = new(&longer);
    block_on(trainer.start_from(&model)).unwrap();
    let tokens: Vec<u32> = vec![1; LENGTH];
    let mut begun = block_on(trainer.model()).unwrap();
    let mut loaded = block_on(Model::load(device, dir.path())).unwrap();
    let logits = |model: &mut Model| block_on(model.logits(&tokens, &[0.7])).unwrap();
    assert!(logits(&mut begun) == logits(&mut loaded));
    assert!(logits(&mut block_on(new(&longer).model()).unwrap()) != logits(&mut loaded));

    block_on(trainer.step()).unwrap();
    let begun = block_on(trainer.start_from(&model));
    refused(begun, "argument", &["init", "has done 1 steps"]);
    let mut wider = longer;
    wider.model.hidden_size = 64;
    let other = block_on(new(&wider).start_from(&model));
    refused(
        other,
        "argument",
        &["init = ", "it has no backbone.vocab_embed.embedding"],
    );
}

/// On one token, attending both ways is attending to what stands before.
#[test]
fn a_denoiser_can_start_from_an_autoregressive_model() {
    let device = Executor::CpuF32.shared();
    let mut causal = config(20);
    causal.model.kind = ModelKind::Ar;
    causal.model.time_conditioning = false;
    let mut trainer = block_on(Trainer::new(device, &causal, corpus())).unwrap();
    for _ in 0..20 {
        block_on(trainer.step()).unwrap();
    }
    let mut model = block_on(trainer.model()).unwrap();
    let mut denoiser = block_on(Trainer::new(device, &config(2), corpus())).unwrap();
    block_on(denoiser.start_from(&model)).unwrap();
    let mut begun = block_on(denoiser.model()).unwrap();
    for token in 0..10 {
        let expected = block_on(model.logits(&[token], &[0.0])).unwrap();
        assert!(expected.iter().any(|&x| x.abs() > 0.1));
        assert!(block_on(begun.logits(&[token], &[0.7])).unwrap() == expected);
    }
    // the other way round, the conditioning is left out
    let mut trainer = block_on(Trainer::new(device, &causal, corpus())).unwrap();
    block_on(trainer.start_from(&begun)).unwrap();
    let mut back = block_on(trainer.model()).unwrap();
    let logits = |model: &mut Model| block_on(model.logits(&[1, 2, 3, 4], &[0.0])).unwrap();
    assert!(logits(&mut back) == logits(&mut model));
}

/// At this learning rate the smallest model diverges, so that validation gets worse.
#[test]
fn patience_ends_a_run_and_keeps_its_best_checkpoint() {
    let device = Executor::CpuF32.shared();
    let mut config = config(100);
    config.optim.lr = Some(0.3);
    (config.training.keep, config.training.patience) = (1, 2);
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = block_on(Trainer::new(device, &config, corpus())).unwrap();
    let summary = run(&mut trainer, dir.path(), u64::MAX).unwrap();
    assert!(summary.exhausted && !summary.stopped && summary.step < 100);

    let rows = read_log(&dir.path().join("log.jsonl")).unwrap();
    let validations: Vec<(u64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.stats.step, row.val_ppl?)))
        .collect();
    let best = validations
        .iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert_eq!(summary.best, Some(best.0));
    assert_eq!(
        validations.last().unwrap().0,
        best.0 + 2 * config.training.val_every
    );
    let kept: Vec<u64> = mdlm::io::checkpoint::list(dir.path())
        .unwrap()
        .into_iter()
        .map(|(step, _)| step)
        .collect();
    assert_eq!(kept, [best.0, summary.step]);

    let chosen = mdlm::io::checkpoint::resolve(dir.path()).unwrap();
    assert_eq!(chosen, checkpoint(dir.path(), best.0));

    // continuing changes nothing until it is given more patience
    let mut trainer = resume(device, &config, dir.path()).unwrap();
    let again = run(&mut trainer, dir.path(), u64::MAX).unwrap();
    assert_eq!((again.step, again.exhausted), (summary.step, true));
    config.training.patience = 3;
    let mut trainer = resume(device, &config, dir.path()).unwrap();
    assert!(run(&mut trainer, dir.path(), u64::MAX).unwrap().step > summary.step);
}

#[test]
fn any_event_can_stop_a_run() {
    let device = Executor::CpuF32.shared();
    let stop_at = |wanted: fn(&Event) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(6);
        config.training.save_every = 1;
        let mut trainer = block_on(Trainer::new(device, &config, corpus())).unwrap();
        let summary = block_on(trainer.run(dir.path(), &mut |event: &Event| {
            if wanted(event) {
                Flow::Stop
            } else {
                Flow::Continue
            }
        }))
        .unwrap();
        assert_eq!(summary.stopped, summary.step < 6);
        assert!(checkpoint(dir.path(), summary.step).is_dir());
        summary.step
    };
    assert_eq!(stop_at(|e| matches!(e, Event::Saved { step: 3, .. })), 3);
    assert_eq!(stop_at(|e| matches!(e, Event::Validation { .. })), 2);
    assert_eq!(stop_at(|e| matches!(e, Event::Progress { .. })), 2);
    assert_eq!(stop_at(|e| matches!(e, Event::Step(s) if s.step == 6)), 6);
}

#[test]
fn a_run_with_skipped_steps_resumes() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let mut config = config(6);
    // the first update makes weights whose products overflow
    (config.optim.lr, config.optim.warmup) = (Some(1e30), Some(0));
    start(device, &config, &whole, 6);
    let rows = read_log(&whole.join("log.jsonl")).unwrap();
    let last = rows.last().unwrap().stats;
    assert_eq!((last.step, last.skipped), (6, 5));
    assert!(last.grad_norm.is_nan() && rows[0].stats.grad_norm.is_finite());
    start(device, &config, &broken, 3);
    let mut trainer = resume(device, &config, &broken).unwrap();
    run(&mut trainer, &broken, 6).unwrap();
    assert_same(&checkpoint(&whole, 6), &checkpoint(&broken, 6));

    // ten of them in a row end the run
    config.training.steps = 20;
    let mut trainer = resume(device, &config, &broken).unwrap();
    refused(
        run(&mut trainer, &broken, 20),
        "non_finite",
        &["gradient", "10 steps in a row up to step 11"],
    );
}

#[test]
fn accumulation_only_changes_the_rounding() {
    let device = Executor::CpuF32.shared();
    let losses = |batch: usize, accumulation: usize| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(6);
        (config.model.dropout, config.optim.lr) = (0.0, Some(1e-3));
        (config.training.batch, config.training.accumulation) = (batch, accumulation);
        start(device, &config, dir.path(), 6);
        let rows = read_log(&dir.path().join("log.jsonl")).unwrap();
        rows.iter()
            .map(|row| [row.stats.loss, row.stats.grad_norm])
            .collect::<Vec<_>>()
    };
    let whole = losses(4, 1);
    for (batch, accumulation) in [(2, 2), (1, 4)] {
        for (a, b) in whole.iter().zip(losses(batch, accumulation)) {
            for (a, b) in a.iter().zip(b) {
                assert!((a / b - 1.0).abs() < 2e-5, "{a} {b}");
            }
        }
    }
}

/// Four sequences with pads after 16, 9, 3 and 1 tokens.
struct Padded {
    config: TrainConfig,
    x0: Vec<u32>,
    xt: Vec<u32>,
    t: [f64; 4],
    mask: Vec<f64>,
}

impl Padded {
    fn new() -> Self {
        let mut config = config(1);
        (config.model.vocab_size, config.model.mask_index) = (11, 10);
        config.model.dropout = 0.0;
        let mut rng = Rng::new(3, Stream::Mask, 0);
        let x0: Vec<u32> = (0..4 * LENGTH).map(|_| rng.below(10) as u32).collect();
        let t = [0.2, 0.5, 0.9, 1.0];
        let masked = |(i, &id): (usize, &u32)| {
            if rng.uniform() < t[i / LENGTH] {
                10
            } else {
                id
            }
        };
        let xt = x0.iter().enumerate().map(masked).collect();
        let real = [16, 9, 3, 1];
        let mask = (0..4 * LENGTH).map(|i| f64::from(u8::from(i % LENGTH < real[i / LENGTH])));
        Self {
            mask: mask.collect(),
            config,
            x0,
            xt,
            t,
        }
    }

    fn weights(&self, storage: &mut Storage) {
        let mut rng = Rng::new(4, Stream::Init, 0);
        let mut some = |n: usize| (0..n).map(|_| 0.4 * rng.uniform() - 0.2).collect();
        storage.write(PARAMS, |_, key| Ok(some(key.len()))).unwrap();
    }

    /// Loss and gradient norm in micro-batches of `size`; `total` of each from its attention mask.
    fn step(&self, executor: Executor, size: usize, total: impl Fn(&[f64]) -> f64) -> [f64; 2] {
        let device = executor.shared();
        let model = &self.config.model;
        let backbone = Backbone::new(model, device.slab_limit()).unwrap();
        let mut storage = block_on(Storage::new(device, &backbone.layout, &TRAINING)).unwrap();
        self.weights(&mut storage);
        let optim = &self.config.optim;
        let session = TrainSession::new(
            device,
            &backbone.network,
            &storage,
            optim,
            RowLoss::Subs,
            Options::of(size, LENGTH),
            None,
        );
        let mut session = block_on(session).unwrap();
        let (mut loss, mut norm) = (0.0, 0.0);
        for first in (0..4).step_by(size) {
            let rows = first * LENGTH..(first + size) * LENGTH;
            let mask = &self.mask[rows.clone()];
            let (x0, xt) = (&self.x0[rows.clone()], self.xt[rows].to_vec());
            let t = &self.t[first..first + size];
            let batch = subs_batch(model, x0, xt, t, Some(mask), total(mask)).unwrap();
            let last = first + size == 4;
            let step = Step::default()
                .with(LR, 1e-3)
                .with(BIAS1, 0.1)
                .with(BIAS2, 0.1);
            let outcome: StepOutcome =
                block_on(session.run(&mut storage, &batch, step, last)).unwrap();
            loss += outcome.loss;
            norm = outcome.grad_norm;
        }
        [loss, norm]
    }
}

#[test]
fn pads_weigh_nothing_however_the_batch_is_cut() {
    let padded = Padded::new();
    let all: f64 = padded.mask.iter().sum();
    for executor in [Executor::CpuF64, Executor::CpuF32, Executor::Gpu] {
        let whole = padded.step(executor, 4, |_| all);
        for size in [2, 1] {
            let cut = padded.step(executor, size, |_| all);
            let bound = if executor == Executor::CpuF64 {
                1e-12
            } else {
                1e-5
            };
            for (a, b) in whole.iter().zip(cut) {
                assert!((a / b - 1.0).abs() < bound, "{executor:?} {size}: {a} {b}");
            }
        }
        // the mean of the micro-batches' own means is another number
        let means = padded.step(executor, 2, |mask| 2.0 * mask.iter().sum::<f64>());
        assert!((whole[0] / means[0] - 1.0).abs() > 1e-2, "{executor:?}");
    }
}

#[test]
fn the_average_is_what_a_checkpoint_loads() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let trainer = start(device, &config(4), dir.path(), 4);
    let mut kept = block_on(trainer.model()).unwrap();
    let mut loaded = block_on(Model::load(device, dir.path())).unwrap();
    let xt: Vec<u32> = (0..LENGTH as u32).collect();
    let logits = |model: &mut Model| block_on(model.logits(&xt, &[1.0])).unwrap();
    assert_eq!(logits(&mut kept), logits(&mut loaded));
}
