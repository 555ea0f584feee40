//! Autoregressive models: one position after the other, each predicted by what stands before it.

use std::ops::ControlFlow;

use mdlm::config::{ModelConfig, ModelKind, SampleConfig, SamplerKind};
use mdlm::model::Model;
use mdlm::sample::Canvas;
use mdlm::train::Trainer;
use pollster::block_on;

use super::fill;
use crate::common::Executor;
use crate::common::models::{load, small};
use crate::common::runs::{LENGTH, config, corpus, refused};

/// A model that has been trained for a few steps, since a fresh one knows nothing.
fn model() -> Model {
    let mut config = config(6);
    config.model.kind = ModelKind::Ar;
    config.model.time_conditioning = false;
    config.training.ema = 0.1;
    let trainer = Trainer::new(Executor::CpuF32.shared(), &config, corpus());
    let mut trainer = block_on(trainer).unwrap();
    for _ in 0..6 {
        block_on(trainer.step()).unwrap();
    }
    block_on(trainer.model()).unwrap()
}

#[test]
fn each_token_is_predicted_by_those_before_it() {
    let greedy = SampleConfig {
        temperature: 0.0,
        ..SampleConfig::default()
    };
    let mut model = model();
    let mask = model.mask_index() as usize;
    let canvas = Canvas::prompt(&[5, 1], LENGTH).unwrap();
    let (filled, reports) = fill(&mut model, canvas, &greedy);
    let tokens = filled.tokens(mask as u32);
    let logits = block_on(model.logits(&tokens, &[0.0])).unwrap();
    for (report, position) in reports.iter().zip(2..) {
        // the mask is the last token of the vocabulary
        let z = &logits[(mask + 1) * (position - 1)..][..mask];
        let best = (0..mask).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap();
        let sum: f64 = z.iter().map(|z| f64::from(*z).exp()).sum();
        let [revealed] = report.revealed[..] else {
            panic!("{report:?}")
        };
        assert_eq!((revealed.position, revealed.token), (position, best as u32));
        let p = f64::from(z[best]).exp() / sum;
        assert!((revealed.probability - p).abs() < 1e-5, "{revealed:?} {p}");
    }
    assert_eq!(reports.len(), LENGTH - 2);
}

#[test]
fn a_canvas_needs_a_beginning_and_no_gaps() {
    let mut model = model();
    let begun = Canvas::prompt(&[5, 1], 40).unwrap();
    let (filled, reports) = fill(&mut model, begun.clone(), &SampleConfig::default());
    assert!(filled.masked().is_empty());
    let order = reports.iter().flat_map(|r| &r.revealed).map(|x| x.position);
    assert!(order.eq(2..40), "window after window, from left to right");

    let mut sampler = |canvas: Canvas, sampler| {
        let config = SampleConfig {
            sampler,
            ..SampleConfig::default()
        };
        model.sampler(canvas, &config).map(|_| ())
    };
    sampler(begun.clone(), SamplerKind::LEFT_TO_RIGHT).unwrap();
    let parts = ["sampling.sampler = threshold", "left-to-right"];
    refused(sampler(begun, SamplerKind::THRESHOLD), "config", &parts);
    let parts = ["canvas position = 0", "BOS"];
    let open = Canvas::open(8);
    refused(sampler(open, SamplerKind::ANCESTRAL), "argument", &parts);
    let mut gap = Canvas::prompt(&[5, 1, 2, 3], 8).unwrap();
    gap.reopen(1..3).unwrap();
    let parts = ["canvas position = 3", "open position 1"];
    refused(sampler(gap, SamplerKind::ANCESTRAL), "argument", &parts);
}

/// Prompts of different lengths in one batch, against each on its own and against full passes over
/// everything so far, on every executor.
#[test]
fn cached_keys_and_values_change_nothing() {
    let config = ModelConfig {
        kind: ModelKind::Ar,
        n_blocks: 2,
        ..small(20)
    };
    let sampling = SampleConfig {
        temperature: 0.0,
        ..SampleConfig::default()
    };
    let prompts: [&[u32]; 3] = [&[5], &[5, 0, 3, 1, 2], &[5, 4]];
    let canvases: Vec<Canvas> = prompts
        .iter()
        .map(|prompt| Canvas::prompt(prompt, 20).unwrap())
        .collect();
    for (executor, bound) in [
        (Executor::CpuF64, 1e-6), // full logits come in f32
        (Executor::CpuF32, 1e-5),
        (Executor::Gpu, 1e-5),
    ] {
        let mut model = load(executor.shared(), &config, None);
        let mut alone = Vec::new();
        for canvas in &canvases {
            alone.push(fill(&mut model, canvas.clone(), &sampling).0);
        }
        let mut reports = Vec::new();
        let sampler = model.sampler_batch(canvases.clone(), &sampling).unwrap();
        let filled = block_on(sampler.finish_all(|report| {
            reports.push(report.clone());
            ControlFlow::Continue(())
        }));
        assert_eq!(filled.unwrap(), alone, "{executor:?}");
        for (b, canvas) in alone.iter().enumerate() {
            let logits = block_on(model.logits(&canvas.tokens(6), &[0.0])).unwrap();
            for r in reports.iter().flat_map(|r| &r.revealed) {
                if r.canvas == b {
                    let z = &logits[7 * (r.position - 1)..][..6];
                    let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
                    let p = f64::from(z[r.token as usize]).exp() / sum;
                    assert!((r.probability - p).abs() < bound, "{executor:?} {r:?} {p}");
                    assert!(z.iter().all(|&x| x <= z[r.token as usize]), "{r:?}");
                }
            }
        }
    }
}
