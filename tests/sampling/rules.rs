//! Every sampler: what it must keep, fill and report.

use std::ops::ControlFlow;

use mdlm::config::{SampleConfig, SamplerKind};
use mdlm::error::{Error, Result};
use mdlm::model::Model;
use mdlm::rules::{Draw, Rule, Setting, View};
use mdlm::sample::{Canvas, Denoiser, DrawOptions, Drawn, Facts, Sampler, StepReport};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

use super::fill;
use crate::common::Executor;
use crate::common::models::{load, small};

/// Every sampler, with settings that make it do what is special about it.
fn all() -> Vec<SampleConfig> {
    let config = |sampler| {
        let mut config = SampleConfig {
            sampler,
            steps: 9,
            seed: 3,
            ..SampleConfig::default()
        };
        for (kind, key, value) in [
            (SamplerKind::FIRST_HITTING, "tokens_per_call", 4.0),
            (SamplerKind::CONFIDENCE, "order_noise", 2.0),
            (SamplerKind::THRESHOLD, "threshold", 0.5),
            (SamplerKind::KLASS, "threshold", 0.2),
            (SamplerKind::P2, "doubt", 1.5),
            (SamplerKind::HYBRID, "corrections", 3.0),
            (SamplerKind::ENTROPY_BOUND, "gamma", 2.0),
            (SamplerKind::REMDM_CAP, "eta", 0.2),
            (SamplerKind::REMDM_RESCALE, "eta", 0.5),
            (SamplerKind::REMDM_LOOP, "eta", 0.1),
        ] {
            if sampler == kind {
                config = config.with(key, value);
            }
        }
        config
    };
    mdlm::rules::ALL.iter().copied().map(config).collect()
}

fn remasks(config: &SampleConfig) -> bool {
    config.sampler.name.starts_with("remdm") || config.sampler == SamplerKind::P2
}

/// Whether the positions hang on predictions.
fn reads_predictions(config: &SampleConfig) -> bool {
    let names = [
        "confidence",
        "dream",
        "dream-entropy",
        "dream-margin",
        "entropy-bound",
        "factor",
        "hybrid",
        "klass",
        "p2",
        "remdm-conf",
        "scheduled",
        "threshold",
    ];
    names.contains(&config.sampler.name)
}

fn on_a_grid(config: &SampleConfig) -> bool {
    config.sampler.has_steps
}

/// Replays reports on a canvas and checks them against what the sampler made of it.
fn check_reports(
    config: &SampleConfig,
    before: &[Canvas],
    after: &[Canvas],
    reports: &[StepReport],
) {
    let name = config.sampler.name;
    let mut tokens: Vec<Vec<u32>> = before.iter().map(|canvas| canvas.tokens(6)).collect();
    let mut calls = 0;
    for r in reports {
        for x in &r.remasked {
            assert!(remasks(config) && !before[x.canvas].is_frozen(x.position));
            let token = &mut tokens[x.canvas][x.position];
            assert_ne!(*token, 6, "{name}: a mask was masked");
            *token = 6;
        }
        for x in &r.revealed {
            let token = &mut tokens[x.canvas][x.position];
            let free = *token == 6 || name == "hybrid" && !before[x.canvas].is_frozen(x.position);
            assert!(free, "{name}: a token was overwritten");
            *token = x.token;
            assert!(
                x.token < 6 && x.probability > 0.0 && x.probability <= 1.0,
                "{x:?}"
            );
            assert!((0.0..=6f64.ln() + 1e-6).contains(&x.entropy), "{x:?}");
        }
        let place = |x: &mdlm::sample::Revealed| (x.canvas, x.position);
        assert!(r.revealed.is_sorted_by(|a, b| place(a) < place(b)));
        let masked = tokens.iter().flatten().filter(|x| **x == 6).count();
        assert_eq!(r.masked, masked, "{name}");
        assert!((0.0..=1.0).contains(&r.t), "{name}");
        assert!(r.network_calls - calls <= 1 && (r.revealed.is_empty() || r.network_calls > calls));
        calls = r.network_calls;
        if on_a_grid(config) {
            assert!(r.step <= r.steps);
        } else {
            assert_eq!(r.steps, 0);
            assert!(!r.revealed.is_empty(), "{name}: a step without effect");
        }
    }
    assert!(reports.is_sorted_by(|a, b| a.step < b.step));
    for ((before, after), tokens) in before.iter().zip(after).zip(tokens) {
        assert_eq!(after.tokens(6), tokens, "{name}");
        assert!(after.masked().is_empty(), "{name}: left masked");
        for i in (0..before.len()).filter(|&i| before.is_frozen(i)) {
            assert_eq!(
                before.token(i),
                after.token(i),
                "{name}: a frozen one changed"
            );
            assert!(after.is_frozen(i));
        }
    }
}

fn fill_all(
    model: &mut Model,
    canvases: &[Canvas],
    config: &SampleConfig,
) -> (Vec<Canvas>, Vec<StepReport>) {
    let mut reports = Vec::new();
    let sampler = model.sampler_batch(canvases.to_vec(), config).unwrap();
    let filled = block_on(sampler.finish_all(|report| {
        reports.push(report.clone());
        ControlFlow::Continue(())
    }));
    (filled.unwrap(), reports)
}

/// A prompt, an infill and an open canvas.
fn three(length: usize) -> Vec<Canvas> {
    let mut gap = Canvas::prompt(&vec![2; length], length).unwrap();
    gap.reopen(3..length - 4).unwrap();
    vec![
        Canvas::prompt(&[5, 0, 3], length).unwrap(),
        gap,
        Canvas::open(length),
    ]
}

#[test]
fn every_sampler_fills_and_reports() {
    for time_conditioning in [false, true] {
        let mut shape = small(16);
        shape.time_conditioning = time_conditioning;
        let mut model = load(Executor::CpuF32.shared(), &shape, None);
        for config in all() {
            // as long as the model, shorter, and filled window after window
            for length in [16, 11, 40] {
                let canvases = three(length);
                let (filled, reports) = fill_all(&mut model, &canvases, &config);
                check_reports(&config, &canvases, &filled, &reports);
                let again = fill_all(&mut model, &canvases, &config);
                assert_eq!((&filled, &reports), (&again.0, &again.1), "{config:?}");
                if remasks(&config) {
                    let remasked = reports.iter().any(|r| !r.remasked.is_empty());
                    assert!(remasked, "{config:?} never masked anything again");
                }
            }
        }
    }
}

#[test]
fn canvases_of_a_batch_do_not_touch_each_other() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    let canvases = three(16);
    for config in all().iter().filter(|config| !reads_predictions(config)) {
        let (filled, reports) = fill_all(&mut model, &canvases, config);
        let alone = fill(&mut model, canvases[0].clone(), config);
        assert_eq!(filled[0], alone.0, "{config:?}");
        let first = |r: &StepReport| {
            let mine = r.revealed.iter().filter(|x| x.canvas == 0);
            mine.map(|x| (x.position, x.token)).collect::<Vec<_>>()
        };
        for (a, b) in reports.iter().zip(&alone.1) {
            assert_eq!(first(a), first(b), "{config:?}");
        }
        let others = [
            canvases[2].clone(),
            canvases[1].clone(),
            canvases[0].clone(),
        ];
        let (swapped, _) = fill_all(&mut model, &others, config);
        assert_eq!(filled[1], swapped[1], "{config:?}");
    }
}

#[test]
fn equal_canvases_of_a_batch_become_different() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    for config in all() {
        let (filled, _) = fill_all(&mut model, &[Canvas::open(16), Canvas::open(16)], &config);
        assert_ne!(filled[0], filled[1], "{config:?}");
    }
}

#[test]
fn every_device_fills_the_same_positions() {
    let canvases = three(16);
    for config in all() {
        let run = |executor: Executor| {
            let mut model = load(executor.shared(), &small(16), None);
            let (filled, reports) = fill_all(&mut model, &canvases, &config);
            check_reports(&config, &canvases, &filled, &reports);
            let places = |r: &StepReport| {
                let revealed = r.revealed.iter().map(|x| (x.canvas, x.position));
                (revealed.collect::<Vec<_>>(), r.remasked.clone())
            };
            reports.iter().map(places).collect::<Vec<_>>()
        };
        let oracle = run(Executor::CpuF64);
        for executor in [Executor::CpuF32, Executor::Gpu] {
            let places = run(executor);
            if !reads_predictions(&config) {
                assert_eq!(places, oracle, "{config:?} on {executor:?}");
            }
        }
    }
}

#[test]
fn how_many_a_step_reveals() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    let mut sizes = |change: &dyn Fn(&mut SampleConfig)| {
        let mut config = SampleConfig::default();
        change(&mut config);
        let (_, reports) = fill(&mut model, Canvas::open(16), &config);
        reports.iter().map(|r| r.revealed.len()).collect::<Vec<_>>()
    };
    let mut with = |sampler, change: &dyn Fn(&mut SampleConfig)| {
        sizes(&|config| {
            config.sampler = sampler;
            change(config);
        })
    };
    assert_eq!(
        with(SamplerKind::THRESHOLD, &|c| c.options.set("threshold", 0.0)),
        [16]
    );
    assert_eq!(
        with(SamplerKind::THRESHOLD, &|c| c.options.set("threshold", 1.0)),
        [1; 16]
    );
    assert_eq!(
        with(SamplerKind::ENTROPY_BOUND, &|c| c.options.set("gamma", 0.0)),
        [1; 16]
    );
    assert_eq!(
        with(SamplerKind::ENTROPY_BOUND, &|c| c.options.set("gamma", 1e3)),
        [16]
    );
    assert_eq!(
        with(SamplerKind::CONFIDENCE, &|c| c.steps = 5),
        [4, 3, 3, 3, 3]
    );
    assert_eq!(with(SamplerKind::CONFIDENCE, &|c| c.steps = 100), [1; 16]);
    assert_eq!(with(SamplerKind::FIRST_HITTING, &|_| ()), [1; 16]);
    assert_eq!(
        with(SamplerKind::FIRST_HITTING, &|c| c
            .options
            .set("tokens_per_call", 7.0)),
        [7, 7, 2]
    );
    assert_eq!(with(SamplerKind::LEFT_TO_RIGHT, &|_| ()), [1; 16]);
    // two steps to see whether anything moves
    let easy = |c: &mut SampleConfig| {
        c.options.set("threshold", 0.0);
        c.options.set("drift", 1e9);
    };
    assert_eq!(with(SamplerKind::KLASS, &easy), [1, 1, 14]);
    assert_eq!(
        with(SamplerKind::KLASS, &|c| c.options.set("threshold", 1.0)),
        [1; 16]
    );
    let trusting = |c: &mut SampleConfig| {
        c.steps = 5;
        c.options.set("doubt", 0.0);
    };
    assert_eq!(with(SamplerKind::P2, &trusting), [4, 3, 3, 3, 3]);
}

#[test]
fn a_longer_canvas_is_filled_window_after_window() {
    let mut model = load(Executor::CpuF32.shared(), &small(8), None);
    let config = SampleConfig {
        steps: 4,
        stride: 3,
        ..SampleConfig::default()
    };
    let mut canvas = Canvas::open(18);
    let text = Canvas::prompt(&[1; 18], 18).unwrap();
    assert!(text.masked().is_empty());
    let (filled, reports) = fill(&mut model, canvas.clone(), &config);
    check_reports(&config, &[canvas.clone()], &[filled], &reports);
    for r in &reports {
        // windows begin at 0, 3, 6, 9 and 10, the last one with the end of the canvas
        let window = (r.step - 1) / 4;
        let fresh = [0..8, 8..11, 11..14, 14..17, 17..18];
        assert_eq!(r.steps, 20);
        assert!(
            r.revealed
                .iter()
                .all(|x| fresh[window].contains(&x.position)),
            "{r:?}"
        );
    }
    // an earlier part that is known is context
    canvas = Canvas::prompt(&[2; 15], 18).unwrap();
    let (filled, reports) = fill(&mut model, canvas.clone(), &config);
    check_reports(&config, &[canvas], &[filled], &reports);
    assert!(reports.iter().all(|r| r.step > 12));
}

/// A model that fails every second time.
struct Flaky<'m> {
    model: &'m mut Model,
    calls: usize,
}

impl Denoiser for Flaky<'_> {
    fn facts(&self) -> Facts {
        self.model.facts()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        self.calls += 1;
        if self.calls % 2 == 1 {
            let (reason, during) = ("a test".to_owned(), "draw");
            return Err(Error::DeviceLost { reason, during });
        }
        self.model.draw(xt, t, rows, options).await
    }
}

#[test]
fn a_step_that_failed_can_be_repeated() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    for config in all() {
        let canvas = Canvas::prompt(&[1, 2], 16).unwrap();
        let (expected, reports) = fill(&mut model, canvas.clone(), &config);
        let flaky = Flaky {
            model: &mut model,
            calls: 0,
        };
        let mut sampler = Sampler::new(flaky, vec![canvas], &config).unwrap();
        let mut again = Vec::new();
        loop {
            let before = sampler.canvas().clone();
            match block_on(sampler.step()) {
                Ok(Some(report)) => again.push(report),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.code(), "device_lost");
                    assert_eq!(*sampler.canvas(), before);
                }
            }
        }
        assert_eq!(
            (sampler.canvas(), again),
            (&expected, reports),
            "{config:?}"
        );
    }
}

#[test]
fn a_sampler_may_own_its_model() {
    let model = load(Executor::CpuF32.shared(), &small(8), None);
    let mut sampler = Sampler::new(model, vec![Canvas::open(8)], &SampleConfig::default()).unwrap();
    block_on(sampler.step()).unwrap().unwrap();
    let (mut model, canvases) = sampler.into_parts();
    let (filled, _) = fill(&mut model, canvases[0].clone(), &SampleConfig::default());
    assert!(filled.masked().is_empty());
}

/// A rule as a model's sampler makes it.
fn rule(sampler: SamplerKind, steps: usize, options: &[(&str, f64)]) -> Box<dyn Rule> {
    let mut given = mdlm::rules::Options::default();
    options
        .iter()
        .for_each(|(key, value)| given.set(key, *value));
    (sampler.make)(&Setting {
        schedule: &mdlm::process::Schedule::default(),
        hybrid: None,
        steps,
        scores: false,
        vocab_size: 7,
        options: &given,
    })
}

fn draws(probability: &[f64], drift: f64) -> Vec<Draw> {
    let draw = |&probability: &f64| Draw {
        token: 1,
        probability,
        entropy: 0.5,
        log_total: 0.0,
        margin: 0.1,
        drift,
        stood: None,
    };
    probability.iter().map(draw).collect()
}

#[test]
fn klass_waits_until_predictions_rest() {
    let rule = rule(SamplerKind::KLASS, 0, &[("threshold", 0.6), ("drift", 0.1)]);
    assert!(rule.drifts());
    let far = f64::INFINITY;
    let chosen = |before: &[f64; 6], now: f64| {
        let view = View {
            step: 3,
            t: 0.5,
            masked: &[1, 2, 4],
            filled: &[0],
            probability: &[1.0; 6],
            drift: before,
        };
        let draws = draws(&[0.7, 0.9, 0.6], now);
        rule.choose(&view, &draws, &mut Rng::new(1, Stream::Reveal, 0))
    };
    // sure and at rest; sure; at rest but not surer than the threshold
    assert_eq!(chosen(&[far, 0.05, 0.2, far, 0.01, far], 0.09), [0]);
    assert_eq!(chosen(&[far, 0.05, 0.05, far, 0.01, far], 0.09), [0, 1]);
    // none: the surest
    assert_eq!(chosen(&[0.0; 6], 0.1), [1]);
    assert_eq!(chosen(&[far; 6], 0.0), [1]);
}

#[test]
fn p2_keeps_the_surest_whether_they_stand_or_not() {
    let rule = rule(SamplerKind::P2, 4, &[("doubt", 2.0)]);
    let view = |step| View {
        step,
        t: 0.5,
        masked: &[1, 2, 4],
        filled: &[0, 5, 7],
        probability: &[1.0; 8],
        drift: &[f64::INFINITY; 8],
    };
    let mut rng = Rng::new(1, Stream::Reveal, 0);
    assert_eq!(rule.plan(&view(1), &mut rng).rows, [0, 1, 2, 4, 5, 7]);
    // what stands counts as 0.9^2, 0.7^2 and 0.5^2
    let draws = draws(&[0.9, 0.3, 0.8, 0.5, 0.7, 0.5], f64::INFINITY);
    // three masks after the second of four steps, one after the third, none after the last
    for (step, revealed, doubted) in [
        (0, &[2][..], &[4, 5][..]),
        (1, &[2, 3], &[4, 5]),
        (2, &[1, 2, 3], &[5]),
        (3, &[1, 2, 3], &[]),
    ] {
        assert_eq!(rule.choose(&view(step), &draws, &mut rng), revealed);
        assert_eq!(rule.doubt(&view(step), &draws), doubted);
    }
}
