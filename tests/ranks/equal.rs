//! One, two and four ranks do the same steps, whatever they share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mdlm::config::TrainConfig;
use mdlm::device::Device;
use mdlm::io::checkpoint::newest_whole;
use mdlm::progress::{Event, Flow};
use mdlm::ranks::{Ranks, each};
use mdlm::train::{Row, Summary, Trainer, read_log};
use mdlm::{Error, Result};
use pollster::block_on;

use crate::common::close::rel_l2;
use crate::common::runs::{assert_same, checkpoint, config, corpus};

const PATIENCE: Duration = Duration::from_secs(60);

/// A rank's part of a run in `dir` up to step `until`, fresh or continued.
fn part(ranks: Arc<dyn Ranks>, config: &TrainConfig, dir: &Path, until: u64) -> Result<Summary> {
    let device = Device::cpu();
    let found = newest_whole(dir)?;
    ranks.barrier()?;
    let mut trainer = match found {
        Some(saved) => {
            let made = Trainer::resume_among(ranks.clone(), &device, config, corpus(), &saved);
            block_on(made)?
        }
        None => block_on(Trainer::new_among(ranks.clone(), &device, config, corpus()))?,
    };
    block_on(trainer.run(dir, &mut |event: &Event| match event {
        // one of them asks, all stop
        Event::Step(s) if s.step >= until && ranks.rank() == ranks.size() - 1 => Flow::Stop,
        _ => Flow::Continue,
    }))
}

/// A run by `size` ranks, of four micro-batches a step in all.
fn run(size: usize, config: &TrainConfig, dir: &Path, until: u64) -> Summary {
    let mut config = config.clone();
    config.training.accumulation = 4 / size;
    let ended = each(size, PATIENCE, |ranks| part(ranks, &config, dir, until));
    let all: Vec<Summary> = ended.into_iter().map(|s| s.unwrap().unwrap()).collect();
    assert!(all.iter().all(|summary| *summary == all[0]));
    all[0]
}

fn rows(dir: &Path) -> Vec<Row> {
    read_log(&dir.join("log.jsonl")).unwrap()
}

#[test]
fn ranks_agree_within_rounding() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |size: usize| dir.path().join(size.to_string());
    // dropout, noise, order and validation are those of one process
    let mut config = config(6);
    config.optim.lr = Some(1e-3);
    for size in [1, 2, 4] {
        assert_eq!(run(size, &config, &folder(size), u64::MAX).step, 6);
    }
    let weights = |size: usize| {
        let path = checkpoint(&folder(size), 6).join("model.safetensors");
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
    };
    let whole = rows(&folder(1));
    for size in [2, 4] {
        let shared = rows(&folder(size));
        assert_eq!(shared.len(), whole.len());
        for (a, b) in whole.iter().zip(&shared) {
            assert_eq!((a.stats.tokens, a.stats.lr), (b.stats.tokens, b.stats.lr));
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 2e-5;
            assert!(close(a.stats.loss, b.stats.loss), "{a:?} {b:?}");
            assert!(close(a.stats.grad_norm, b.stats.grad_norm), "{a:?} {b:?}");
            assert_eq!(a.val_ppl.is_some(), b.val_ppl.is_some());
            if let (Some(a), Some(b)) = (a.val_ppl, b.val_ppl) {
                assert!(close(a, b), "{a} {b}");
            }
        }
        let error = rel_l2(&weights(size), &weights(1));
        assert!(error < 1e-5, "{size} ranks: {error}");
    }
}

#[test]
fn bits_repeat_and_survive_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, again, broken] = ["whole", "again", "broken"].map(|name| dir.path().join(name));
    let mut config = config(6);
    config.training.save_every = 3;
    run(2, &config, &whole, u64::MAX);
    run(2, &config, &again, u64::MAX);
    assert_same(&whole, &again);
    let stopped = run(2, &config, &broken, 3);
    assert_eq!((stopped.step, stopped.stopped), (3, true));
    run(2, &config, &broken, u64::MAX);
    assert_same(&whole, &broken);
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
        assert!((a.stats.loss / b.stats.loss - 1.0).abs() < 2e-5, "{a:?} {b:?}");
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
