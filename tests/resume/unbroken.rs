//! A run that was stopped and continued ends as one that was not.

use std::fs;

use mdlm::config::{Moments, Precision, Recipe, TrainConfig};
use mdlm::train::{Trainer, read_log};
use pollster::block_on;

use crate::common::Executor;
use crate::common::runs::{
    LENGTH, assert_same, checkpoint, config, corpus, refused, resume, run, start,
};

fn resumed_is_unbroken(executor: Executor, config: &TrainConfig, stops: &[u64]) {
    let steps = config.training.steps;
    let device = executor.shared();
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    start(device, config, &whole, steps);
    for (i, &stop) in stops.iter().enumerate() {
        if i == 0 {
            start(device, config, &broken, stop);
        } else {
            let mut trainer = resume(device, config, &broken).unwrap();
            assert_eq!(trainer.steps_done(), stops[i - 1]);
            let summary = run(&mut trainer, &broken, stop).unwrap();
            assert_eq!((summary.step, summary.stopped), (stop, true));
        }
    }
    let mut trainer = resume(device, config, &broken).unwrap();
    let summary = run(&mut trainer, &broken, steps).unwrap();
    assert_eq!((summary.step, summary.stopped), (steps, false));

    assert_same(&checkpoint(&whole, steps), &checkpoint(&broken, steps));
    for file in ["log.jsonl", "config.toml", "loss.svg"] {
        let read = |dir: &std::path::Path| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read(&whole), read(&broken));
    }
    let rows = read_log(&whole.join("log.jsonl")).unwrap();
    let measured: Vec<u64> = rows
        .iter()
        .filter(|row| row.val_ppl.is_some())
        .map(|row| row.stats.step)
        .collect();
    let due: Vec<u64> = (1..=steps).filter(|s| s % 2 == 0 || *s == steps).collect();
    assert_eq!((rows.len() as u64, measured), (steps, due));
}

#[test]
fn resumed_is_unbroken_cpu() {
    resumed_is_unbroken(Executor::CpuF32, &config(9), &[1, 4, 7]);
}

#[test]
fn resumed_is_unbroken_gpu() {
    // a GPU is a step ahead, but for those that are validated: stopped at 1, it stops at 2
    resumed_is_unbroken(Executor::Gpu, &config(4), &[2]);
}

/// Muon, plain cross-entropy, and pieces of blocks for the first half of the steps.
fn fast(steps: u64) -> TrainConfig {
    let mut config = config(steps);
    (config.optim.recipe, config.optim.lr) = (Recipe::Fast, None);
    (config.training.short_share, config.training.short_length) = (Some(0.5), Some(LENGTH / 4));
    config
}

#[test]
fn the_fast_recipe_is_unbroken_cpu() {
    // while sequences are short, where they become long, and after it
    resumed_is_unbroken(Executor::CpuF32, &fast(10), &[1, 5, 8]);
}

#[test]
fn the_fast_recipe_is_unbroken_gpu() {
    resumed_is_unbroken(Executor::Gpu, &fast(6), &[2, 4]);
}

/// With activations in f16, whose loss is scaled by what earlier steps have met, and moments that are rounded at random.
fn half(steps: u64) -> TrainConfig {
    let mut config = config(steps);
    config.training.precision = Precision::F16;
    config.optim.moments = Moments::Bf16;
    config
}

#[test]
fn half_precision_is_unbroken_cpu() {
    resumed_is_unbroken(Executor::CpuF32, &half(9), &[1, 4, 7]);
}

#[test]
fn half_precision_is_unbroken_gpu() {
    resumed_is_unbroken(Executor::Gpu, &half(4), &[2]);
}

/// What is begun is finished, and what looks at the weights waits for it.
#[test]
fn steps_ahead_are_settled() {
    for (executor, ahead) in [(Executor::CpuF32, 0), (Executor::Gpu, 1)] {
        let mut trainer = block_on(Trainer::new(executor.shared(), &config(9), corpus())).unwrap();
        let stats = block_on(trainer.step_ahead(5)).unwrap();
        assert_eq!((stats.step, trainer.is_settled()), (1, ahead == 0));
        let validated = block_on(trainer.validate(|_, _| {}));
        let dir = tempfile::tempdir().unwrap();
        let saved = block_on(trainer.save(dir.path()));
        if ahead > 0 {
            refused(validated, "busy", &["training is busy"]);
            refused(saved, "busy", &["training is busy"]);
            assert!(block_on(trainer.model()).is_err());
        }
        let rest = block_on(trainer.settle()).unwrap();
        assert_eq!(rest.map(|stats| stats.step), (ahead > 0).then_some(2));
        assert_eq!(trainer.steps_done(), 1 + ahead);
        block_on(trainer.validate(|_, _| {})).unwrap();
    }
}
