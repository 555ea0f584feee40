//! Keys and values that are kept between calls, and batches of canvases of different lengths.

use std::ops::ControlFlow;

use mdlm::config::{Cache, ModelConfig};
use mdlm::io::safetensors::Precision;
use mdlm::model::Model;
use mdlm::train::Trainer;
use mdlm::{Canvas, SampleConfig, SamplerKind};
use pollster::block_on;

use super::fill;
use crate::common::Executor;
use crate::common::models::{load, small};
use crate::common::runs::{LENGTH, config, corpus, refused};

const EXECUTORS: [Executor; 3] = [Executor::CpuF64, Executor::CpuF32, Executor::Gpu];

fn greedy(cache: Cache, block: usize) -> SampleConfig {
    SampleConfig {
        sampler: SamplerKind::CONFIDENCE,
        steps: 3,
        temperature: 0.0,
        block,
        cache,
        ..SampleConfig::default()
    }
}

/// In a network of one block a key depends on its own token alone, so that nothing that is kept is out of date.
#[test]
fn caches_of_a_network_of_one_block_are_exact() {
    for executor in EXECUTORS {
        for guidance in [0.0, 0.7] {
            let mut model = load(executor.shared(), &small(40), None);
            let canvas = Canvas::prompt(&[3, 1, 2, 0, 4], 37).unwrap();
            let mut made = Vec::new();
            for cache in [Cache::Off, Cache::Exact, Cache::Prefix, Cache::Dual] {
                let config = SampleConfig {
                    guidance,
                    ..greedy(cache, 7)
                };
                let (filled, reports) = fill(&mut model, canvas.clone(), &config);
                assert!(filled.masked().is_empty());
                let last = reports.last().unwrap();
                assert_eq!(last.network_calls, reports.len(), "{cache}");
                made.push(filled);
            }
            assert!(made.iter().all(|filled| *filled == made[0]), "{executor:?}");
        }
    }
}

/// In a deeper one they are not; what is written is whole all the same, and the first step of a block is exact.
#[test]
fn inexact_caches_are_refreshed_with_each_block() {
    let config = ModelConfig {
        n_blocks: 3,
        ..small(24)
    };
    let mut model = load(Executor::CpuF32.shared(), &config, None);
    let one_step = |cache| SampleConfig {
        steps: 1,
        ..greedy(cache, 5)
    };
    let (expected, _) = fill(&mut model, Canvas::open(24), &one_step(Cache::Off));
    for cache in [Cache::Prefix, Cache::Dual] {
        let (filled, _) = fill(&mut model, Canvas::open(24), &one_step(cache));
        assert_eq!(filled, expected, "{cache}");
        let first = fill(&mut model, Canvas::open(24), &greedy(cache, 5));
        assert!(first.0.masked().is_empty());
        // a sampler that is given up leaves nothing for the next one
        let mut broken = model.sampler(Canvas::prompt(&[0; 9], 24).unwrap(), &greedy(cache, 5));
        for _ in 0..2 {
            block_on(broken.as_mut().unwrap().step()).unwrap();
        }
        assert_eq!(fill(&mut model, Canvas::open(24), &greedy(cache, 5)), first);
    }
    let parts = ["sampling.cache = dual", "sampling.block"];
    let without = model.sampler(Canvas::open(24), &greedy(Cache::Dual, 0));
    refused(without.map(|_| ()), "config", &parts);
}

#[test]
fn a_canvas_is_filled_as_if_alone_beside_longer_ones() {
    let prompts: [(&[u32], usize); 3] = [(&[2], 9), (&[1, 0, 3, 3, 4, 1, 2], 23), (&[0, 4], 16)];
    for executor in EXECUTORS {
        for (time_conditioning, block) in [(false, 0), (true, 0), (false, 4)] {
            let config = ModelConfig {
                n_blocks: 2,
                time_conditioning,
                ..small(24)
            };
            let mut model = load(executor.shared(), &config, None);
            let canvases = prompts.map(|(prompt, n)| Canvas::prompt(prompt, n).unwrap());
            for cache in [Cache::Exact, Cache::Dual] {
                if cache == Cache::Dual && block == 0 {
                    continue;
                }
                let config = greedy(cache, block);
                let alone = canvases
                    .clone()
                    .map(|canvas| fill(&mut model, canvas, &config).0);
                let sampler = model.sampler_batch(canvases.to_vec(), &config).unwrap();
                let all = sampler.finish_all(|_| ControlFlow::Continue(()));
                assert_eq!(block_on(all).unwrap(), alone, "{executor:?}, {cache}");
            }
        }
    }
}

/// A denoiser that was trained block by block writes so, from keys and values that are kept, and from its own logits.
#[test]
fn block_diffusion_is_trained_and_sampled() {
    const BLOCK: usize = 4;
    let mut config = config(8);
    config.objective.block_size = BLOCK;
    config.model.time_conditioning = false;
    config.training.ema = 0.1;
    for adaln in [true, false] {
        config.model.adaln = adaln;
        let trainer = Trainer::new(Executor::CpuF32.shared(), &config, corpus());
        let mut trainer = block_on(trainer).unwrap();
        let first = block_on(trainer.step()).unwrap().loss;
        let losses: Vec<f64> = (0..7)
            .map(|_| block_on(trainer.step()).unwrap().loss)
            .collect();
        assert!(
            losses.iter().all(|loss| loss.is_finite()) && losses[6] < first,
            "{losses:?}"
        );
        block_on(trainer.validate(|_, _| {})).unwrap();
        let mut model = block_on(trainer.model()).unwrap();
        let mask = model.mask_index();
        let prompt: Vec<u32> = (0..6).map(|i| i % 5).collect();
        let canvas = Canvas::prompt(&prompt, LENGTH).unwrap();
        let settings = |cache| SampleConfig {
            block: 0,
            ..greedy(cache, 0)
        };
        let (filled, reports) = fill(&mut model, canvas.clone(), &settings(Cache::Exact));
        let (same, _) = fill(&mut model, canvas.clone(), &settings(Cache::Off));
        assert_eq!(filled, same);
        // a canvas whose blocks begin elsewhere has no use for what is kept
        let longer = Canvas::prompt(&[&prompt[..], &[1, 2, 3]].concat(), LENGTH).unwrap();
        for _ in 0..2 {
            for canvas in [&canvas, &longer] {
                let [kept, anew] = [Cache::Exact, Cache::Off]
                    .map(|cache| fill(&mut model, canvas.clone(), &settings(cache)).0);
                assert_eq!(kept, anew);
            }
        }
        // the published form says the same
        let dir = tempfile::tempdir().unwrap();
        block_on(model.save(dir.path(), Precision::F32)).unwrap();
        let mut again = block_on(Model::load(Executor::CpuF32.shared(), dir.path())).unwrap();
        assert_eq!(
            fill(&mut again, canvas.clone(), &settings(Cache::Exact)).0,
            filled
        );
        let mut xt = canvas.tokens(mask);
        for report in reports {
            let place = |r: &mdlm::sample::Revealed| r.position / BLOCK;
            let block = place(&report.revealed[0]);
            assert!(report.revealed.iter().all(|r| place(r) == block));
            let logits = block_on(model.logits(&xt, &[0.0])).unwrap();
            for r in &report.revealed {
                let vocab = mask as usize + 1;
                let z = &logits[r.position * vocab..][..mask as usize];
                let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
                let p = f64::from(z[r.token as usize]).exp() / sum;
                assert!((p - r.probability).abs() < 1e-5, "{p} {r:?}");
                xt[r.position] = r.token;
            }
        }
    }
}

#[test]
fn a_canvas_ends_with_the_block_that_ends_its_text() {
    let mut model = load(Executor::CpuF32.shared(), &small(24), None);
    let config = greedy(Cache::Exact, 4);
    let canvas = Canvas::prompt(&[1, 5, 2], 23).unwrap();
    let (whole, reports) = fill(&mut model, canvas.clone(), &config);
    let tokens = whole.tokens(6);
    for token in 0..6 {
        let ended = SampleConfig {
            ends: vec![token],
            ..config.clone()
        };
        let (filled, seen) = fill(&mut model, canvas.clone(), &ended);
        // a token of the prompt ends nothing
        let at = tokens[3..].iter().position(|&id| id == token);
        let blocks = at.map_or(5, |at| at / 4 + 1);
        assert_eq!(filled.tokens(6), tokens[..3 + 4 * blocks]);
        assert_eq!(seen.len(), reports.len() * blocks / 5);
        assert_eq!(
            seen.last().unwrap().masked,
            if at.is_some() { 20 - 4 * blocks } else { 0 }
        );
    }
}

#[test]
fn tokens_are_left_out_or_come_last() {
    for executor in EXECUTORS {
        let mut model = load(executor.shared(), &small(16), None);
        let settings = |suppress: &[u32], late: &[u32]| SampleConfig {
            suppress: suppress.to_vec(),
            late: late.to_vec(),
            sampler: SamplerKind::CONFIDENCE,
            steps: 16,
            ..SampleConfig::default()
        };
        let (plain, _) = fill(&mut model, Canvas::open(16), &settings(&[], &[]));
        assert!([2, 5].iter().any(|id| plain.tokens(6).contains(id)));
        let (without, reports) = fill(&mut model, Canvas::open(16), &settings(&[2, 5], &[]));
        assert!(!without.tokens(6).iter().any(|id| [2, 5, 6].contains(id)));
        let revealed = reports.iter().flat_map(|r| &r.revealed);
        assert!(revealed.clone().all(|r| r.entropy <= 4f64.ln() + 1e-6));
        // as soon as anything else is drawn anywhere it goes first
        let (_, reports) = fill(&mut model, Canvas::open(16), &settings(&[], &[2, 5]));
        let late = |r: &mdlm::sample::Revealed| [2, 5].contains(&r.token);
        let first = reports.iter().take(3).flat_map(|r| &r.revealed);
        assert!(first.clone().all(|r| !late(r)), "{executor:?}");
    }
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    let config = SampleConfig {
        ends: vec![7],
        ..SampleConfig::default()
    };
    let wrong = model.sampler(Canvas::open(16), &config).map(|_| ());
    refused(wrong, "token", &["7"]);
}
