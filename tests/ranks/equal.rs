//! One, two and four ranks do the same steps, whatever they share.

use std::path::Path;
use std::time::Duration;

use mdlm::Error;
use mdlm::config::{Moments, Precision, Recipe, TrainConfig, Wire};
use mdlm::device::Device;
use mdlm::progress::{Event, Flow};
use mdlm::ranks::each;
use mdlm::train::{Row, Summary, Trainer, read_log};
use pollster::block_on;

use crate::common::close::rel_l2;
use crate::common::runs::{assert_same, checkpoint, config, corpus};
use crate::common::shared::part;

const PATIENCE: Duration = Duration::from_secs(60);

/// A run by `size` ranks, of four micro-batches a step in all.
fn run(size: usize, config: &TrainConfig, dir: &Path, until: u64) -> Summary {
    let mut config = config.clone();
    config.training.accumulation = 4 / size;
    let ended = each(size, PATIENCE, |ranks| {
        // one of them asks, all stop
        let asks = ranks.rank() == size - 1;
        part(&ranks, &config, dir, &mut |event: &Event| match event {
            Event::Step(s) if s.step >= until && asks => Flow::Stop,
            _ => Flow::Continue,
        })
    });
    let all: Vec<Summary> = ended.into_iter().map(|s| s.unwrap().unwrap()).collect();
    assert!(all.iter().all(|summary| *summary == all[0]));
    all[0]
}

fn rows(dir: &Path) -> Vec<Row> {
    read_log(&dir.join("log.jsonl")).unwrap()
}

/// All numbers of a file of the last checkpoint.
fn numbers(dir: &Path, step: u64, file: &str) -> Vec<f64> {
    let path = checkpoint(dir, step).join(file);
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<f64> = Vec::new();
    let mut names = file.names();
    names.sort_unstable();
    for name in names {
        let data = file.tensor(name).unwrap().data();
        let (numbers, _) = data.as_chunks::<4>();
        all.extend(numbers.iter().map(|&b| f64::from(f32::from_le_bytes(b))));
    }
    all
}

/// Checks that two runs of six steps differ by rounding alone.
fn agree(whole: &Path, shared: &Path) {
    let (a, b) = (rows(whole), rows(shared));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((a.stats.tokens, a.stats.lr), (b.stats.tokens, b.stats.lr));
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 2e-5;
        assert!(close(a.stats.loss, b.stats.loss), "{a:?} {b:?}");
        assert!(close(a.stats.grad_norm, b.stats.grad_norm), "{a:?} {b:?}");
        assert_eq!(a.val_ppl.is_some(), b.val_ppl.is_some());
        if let (Some(a), Some(b)) = (a.val_ppl, b.val_ppl) {
            assert!(close(a, b), "{a} {b}");
        }
    }
    for (file, bound) in [("model", 1e-5), ("ema", 1e-5), ("optimizer", 1e-4)] {
        let of = |dir: &Path| numbers(dir, 6, &format!("{file}.safetensors"));
        let error = rel_l2(&of(shared), &of(whole));
        assert!(error < bound, "{file} of {}: {error}", shared.display());
    }
}

/// By the reference's recipe and by Muon; replicated and shared out.
#[test]
fn ranks_agree_within_rounding() {
    for recipe in [Recipe::Reference, Recipe::Fast] {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        // dropout, noise, order and validation are those of one process
        let mut config = config(6);
        (config.optim.recipe, config.optim.lr) = (recipe, Some(1e-3));
        assert_eq!(run(1, &config, &folder("1"), u64::MAX).step, 6);
        for (size, shard) in [(2, false), (4, false), (2, true), (4, true)] {
            config.training.shard = shard;
            let shared = folder(&format!("{size}-{shard}"));
            assert_eq!(run(size, &config, &shared, u64::MAX).step, 6);
            agree(&folder("1"), &shared);
        }
    }
}

#[test]
fn bits_repeat_and_survive_a_break() {
    for (shard, wire, half, recipe) in [
        (false, Wire::F32, false, Recipe::Reference),
        (true, Wire::F32, false, Recipe::Reference),
        (false, Wire::F16, false, Recipe::Reference),
        (false, Wire::F32, true, Recipe::Fast),
        (true, Wire::F32, true, Recipe::Reference),
        (true, Wire::F32, true, Recipe::Fast),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let [whole, again, broken] = ["whole", "again", "broken"].map(|name| dir.path().join(name));
        let mut config = config(6);
        (config.training.save_every, config.training.shard) = (3, shard);
        (config.training.wire, config.optim.recipe) = (wire, recipe);
        if half {
            config.training.precision = Precision::F16;
            config.optim.moments = Moments::Bf16;
        }
        run(2, &config, &whole, u64::MAX);
        run(2, &config, &again, u64::MAX);
        assert_same(&whole, &again);
        let stopped = run(2, &config, &broken, 3);
        assert_eq!((stopped.step, stopped.stopped), (3, true));
        run(2, &config, &broken, u64::MAX);
        assert_same(&whole, &broken);
    }
}

#[test]
fn a_run_goes_on_with_other_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, moved] = ["whole", "moved"].map(|name| dir.path().join(name));
    let mut config = config(6);
    config.optim.lr = Some(1e-3);
    run(1, &config, &whole, u64::MAX);
    for (size, until) in [(4, 2), (1, 3), (2, 5), (4, u64::MAX)] {
        run(size, &config, &moved, until);
    }
    for (a, b) in rows(&whole).iter().zip(&rows(&moved)) {
        assert_eq!(a.stats.tokens, b.stats.tokens);
        assert!(
            (a.stats.loss / b.stats.loss - 1.0).abs() < 2e-5,
            "{a:?} {b:?}"
        );
    }
    // what was saved by four with one micro-batch each is four micro-batches of one
    let mut alone = config.clone();
    alone.training.accumulation = 1;
    let saved = checkpoint(&moved, 6);
    alone.training.steps = 7;
    let trainer = block_on(Trainer::resume(&Device::cpu(), &alone, corpus(), &saved)).unwrap();
    assert_eq!(trainer.config().training.accumulation, 4);
    // three cannot share them
    let error = each(3, PATIENCE, |ranks| {
        let device = Device::cpu();
        let made = Trainer::resume_among(ranks, &device, &alone, corpus(), &saved);
        block_on(made).err().unwrap()
    });
    for error in error {
        let error = error.unwrap();
        let text = error.to_string();
        assert!(text.contains("the run has 8 sequences a step"), "{text}");
    }
}

/// Gradients in half precision lead to nearly the same losses.
#[test]
fn half_precision_on_the_wire_is_close() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, narrow] = ["whole", "narrow"].map(|name| dir.path().join(name));
    let mut config = config(20);
    config.optim.lr = Some(1e-3);
    run(2, &config, &whole, u64::MAX);
    config.training.wire = Wire::F16;
    run(2, &config, &narrow, u64::MAX);
    let (a, b) = (rows(&whole), rows(&narrow));
    for (a, b) in a.iter().zip(&b) {
        let error = (a.stats.loss / b.stats.loss - 1.0).abs();
        assert!(error < 2e-3, "{a:?} {b:?}");
    }
    // and they are others
    assert!(a.iter().zip(&b).any(|(a, b)| a.stats.loss != b.stats.loss));
}

/// What a rank keeps beside weights and gradients is its part of moments and average.
#[test]
fn shards_take_less_memory() {
    let arenas = |size: usize, shard: bool| {
        let mut config = config(1);
        config.training.shard = shard;
        (config.model.hidden_size, config.model.n_blocks) = (64, 4);
        let bytes = each(size, PATIENCE, |ranks| {
            let made = block_on(Trainer::new_among(ranks, &Device::cpu(), &config, corpus()));
            made.unwrap().report().unwrap().arena_bytes
        });
        let bytes: Vec<u64> = bytes.into_iter().map(Result::unwrap).collect();
        *bytes.iter().max().unwrap() as f64
    };
    let whole = arenas(1, true);
    assert_eq!(arenas(4, false), whole);
    // 2 of 5 arenas, and a share of the other 3
    for size in [2, 4] {
        let ideal = (2.0 + 3.0 / size as f64) / 5.0;
        let share = arenas(size, true) / whole;
        assert!(
            (ideal..1.08 * ideal).contains(&share),
            "{size} ranks: {share}, {ideal}"
        );
    }
}

/// Validation that gets worse ends all ranks at one step.
#[test]
fn early_stopping_is_decided_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(100);
    config.optim.lr = Some(0.3);
    (config.training.keep, config.training.patience) = (1, 2);
    let summary = run(2, &config, dir.path(), u64::MAX);
    assert!(summary.exhausted && summary.step < 100);
    assert!(checkpoint(dir.path(), summary.best.unwrap()).is_dir());
}

#[test]
fn an_error_of_one_rank_is_told_to_the_others() {
    let ended = each(3, PATIENCE, |ranks| match ranks.rank() {
        1 => {
            ranks.fail("has failed: no room");
            Err(Error::Cancelled)
        }
        _ => ranks.barrier(),
    });
    for (rank, ended) in ended.into_iter().enumerate() {
        let error = ended.unwrap().unwrap_err().to_string();
        match rank {
            1 => assert_eq!(error, "cancelled"),
            _ => assert_eq!(error, "rank 1 has failed: no room"),
        }
    }
}
