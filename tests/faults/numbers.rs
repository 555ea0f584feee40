//! Numbers that are none, in weights, gradients, what a batch weighs and logits: the step changes nothing and the first
//! bad tensor is named.

use mdlm::config::OptimConfig;
use mdlm::io::checkpoint::newest_whole;
use mdlm::model::{Model, Options};
use mdlm::train::{Trainer, first_not_finite};
use mdlm_engine::graph::{GRADS, Key, PARAMS};
use mdlm_engine::ops::RowLoss;
use mdlm_engine::program::Arena;
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

use crate::common::Executor;
use crate::common::runs::{config, corpus, refused, run};
use crate::common::training::{Training, model, values};
use crate::common::trials::trials;

/// Quiet and signalling NaN, its sign, and both infinities.
const PATTERNS: [u32; 5] = [
    0x7FC0_0000,
    0x7F80_0001,
    0xFFFF_FFFF,
    0x7F80_0000,
    0xFF80_0000,
];
const BATCH: usize = 2;

fn make(executor: Executor) -> Training {
    Training::new(executor.shared(), &model(true, 0.1), BATCH, usize::MAX).unwrap()
}

/// Every arena but the gradients, as bits.
fn bits(training: &Training) -> Vec<u64> {
    let state = training.state().into_iter().flatten().flatten();
    state.map(f64::to_bits).collect()
}

/// Replaces an element of a parameter in an arena; what was there.
fn poke(training: &mut Training, arena: Arena, key: usize, element: usize, x: f32) -> f32 {
    let key = &training.backbone.layout.keys()[key];
    let (slab, place) = (key.slab, key.offset + element);
    let mut values = block_on(training.storage.read_slab(arena, slab)).unwrap();
    let old = std::mem::replace(&mut values[place], x);
    training.storage.write_slab(arena, slab, &values).unwrap();
    old
}

/// An element of a parameter that a step cannot do without: of a table, one of a row that is looked up.
fn used(training: &Training, key: usize) -> usize {
    let key = &training.backbone.layout.keys()[key];
    let mask = training.backbone.config.mask_index as usize;
    match key.key.contains("vocab_embed") {
        true => mask * key.shape[1] + 3,
        false => key.len() / 2,
    }
}

/// What is said of the first bad tensor of the k-th step.
fn first(executor: Executor, training: &Training, k: u64, weight: Option<f64>) -> Option<String> {
    let mut pass = training.batch(k);
    pass.weights[1] = weight.unwrap_or(pass.weights[1]);
    let (optim, passes) = (OptimConfig::default(), [(values(k), &pass)]);
    let found = first_not_finite(
        executor.shared(),
        &training.backbone.network,
        &training.storage,
        &optim,
        RowLoss::Subs,
        Options::of(BATCH, training.backbone.config.length),
        &passes,
    );
    block_on(found).unwrap()
}

#[test]
fn weights_and_gradients_that_are_no_numbers() {
    let seed = 9;
    let count = trials("weights and gradients that are no numbers", 40, seed);
    for executor in [Executor::Gpu, Executor::CpuF32] {
        let (mut training, mut clean) = (make(executor), make(executor));
        training.step(0).unwrap();
        clean.step(0).unwrap();
        let mut rng = Rng::new(seed, Stream::Shuffle, 0);
        for _ in 0..count / 2 {
            let key = rng.below(training.backbone.layout.keys().len() as u64) as usize;
            let bad = f32::from_bits(PATTERNS[rng.below(5) as usize]);
            bad_number(executor, &mut training, key, bad, rng.below(2) == 0);
        }
        // as if nothing had been
        assert_eq!(training.step(1).unwrap(), clean.step(1).unwrap());
        assert!(bits(&training) == bits(&clean));
    }
    println!("{count} of {count} changed nothing; every bad weight was named");
}

/// Step 1 with a number that is none in a weight or a gradient.
fn bad_number(executor: Executor, training: &mut Training, key: usize, bad: f32, weight: bool) {
    let name = training.backbone.layout.keys()[key].key.clone();
    if name.ends_with("output_layer.linear.bias") && bad == f32::NEG_INFINITY && weight {
        // a logit like any other: a token that is never predicted
        return;
    }
    let element = used(training, key);
    let at = format!(
        "{executor:?}, {name}, {:08x}, weight: {weight}",
        bad.to_bits()
    );
    let finite = if weight {
        let old = poke(training, PARAMS, key, element, bad);
        let before = bits(training);
        let finite = training.step(1).unwrap().finite;
        assert!(bits(training) == before, "{at}: something changed");
        let first = first(executor, training, 1, None).unwrap();
        let part = format!("weight {name}, element {element} is");
        assert!(first.contains(&part), "{at}: {first}");
        poke(training, PARAMS, key, element, old);
        finite
    } else {
        let before = bits(training);
        training.run(1, false).unwrap();
        poke(training, GRADS, key, element, bad);
        let step = values(1);
        let updated = training.session.update(&mut training.storage, &step);
        let finite = block_on(updated).unwrap().finite;
        assert!(bits(training) == before, "{at}: something changed");
        finite
    };
    assert!(!finite, "{at}");
}

#[test]
fn batches_and_logits_that_are_no_numbers() {
    for executor in [Executor::Gpu, Executor::CpuF32] {
        for pattern in PATTERNS {
            let mut training = make(executor);
            let before = bits(&training);
            let bad = f64::from(f32::from_bits(pattern));
            let mut pass = training.batch(0);
            pass.weights[1] = bad;
            let step = training
                .session
                .run(&mut training.storage, &pass, values(0), true);
            assert!(!block_on(step).unwrap().finite);
            assert!(bits(&training) == before);
            let found = first(executor, &training, 0, Some(bad)).unwrap();
            assert!(
                found.starts_with("batch's weights, element 1 is"),
                "{found}"
            );
        }
        // finite weights whose products are not
        let mut training = make(executor);
        let keys = training.backbone.layout.keys();
        let head = keys
            .iter()
            .position(|key| key.key.ends_with("output_layer.linear.weight"));
        let head = head.unwrap();
        for element in 0..64 {
            poke(&mut training, PARAMS, head, element, 3e38);
        }
        let before = bits(&training);
        assert!(!training.step(0).unwrap().finite);
        assert!(bits(&training) == before);
        let found = first(executor, &training, 0, None).unwrap();
        assert!(
            found.starts_with("tensor ") && !found.contains("backbone"),
            "{found}"
        );
        println!("{executor:?}: {found}");
    }
}

/// Logits so far apart that the loss overflows, where every slope is 0 or 1.
#[test]
fn losses_that_are_infinite_and_gradients_that_need_not_be() {
    for executor in [Executor::Gpu, Executor::CpuF32] {
        let mut training = make(executor);
        training.step(0).unwrap();
        let keys = training.backbone.layout.keys();
        let bias = |key: &Key| key.key.ends_with("output_layer.linear.bias");
        let key = keys.iter().position(bias).unwrap();
        let count = keys[key].len();
        let spread = |element: usize| if element == 0 { 3e38 } else { -3e38 };
        let spoil = |training: &mut Training| -> Vec<f32> {
            let all = 0..count;
            all.map(|i| poke(training, PARAMS, key, i, spread(i)))
                .collect()
        };
        let old = spoil(&mut training);
        let before = bits(&training);
        let outcome = training.step(1).unwrap();
        assert_eq!(outcome.loss, f64::INFINITY, "{executor:?}");
        assert!(!outcome.finite, "{executor:?}");
        assert!(bits(&training) == before, "{executor:?}: something changed");
        let found = first(executor, &training, 1, None).unwrap();
        assert!(found.starts_with("tensor nll, element "), "{found}");
        // in a micro-batch that others follow
        training.run(1, false).unwrap();
        for (i, x) in old.into_iter().enumerate() {
            poke(&mut training, PARAMS, key, i, x);
        }
        let before = bits(&training);
        let outcome = training.step(2).unwrap();
        assert!(outcome.loss.is_finite() && !outcome.finite, "{executor:?}");
        assert!(bits(&training) == before, "{executor:?}: something changed");
        assert!(training.step(3).unwrap().finite);
    }
}

#[test]
fn ten_in_a_row_end_a_run_at_its_last_good_checkpoint() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(20);
        // the first update makes weights whose products overflow
        (config.optim.lr, config.optim.warmup) = (Some(1e30), Some(0));
        (config.training.save_every, config.training.val_every) = (1, 0);
        let mut trainer = block_on(Trainer::new(executor.shared(), &config, corpus())).unwrap();
        let error = refused(
            run(&mut trainer, dir.path(), 20),
            "non_finite",
            &[
                "10 steps in a row up to step 11",
                "; first was ",
                ", element ",
            ],
        );
        println!("{executor:?}: {error}");
        assert_eq!(trainer.steps_done(), 11);
        let last = newest_whole(dir.path()).unwrap().unwrap();
        assert!(last.ends_with("checkpoint-00000010"));
        block_on(Model::load(executor.shared(), &last)).unwrap();
    }
}
