//! The sampler: what it keeps, what it fills, what it reports, and the law of its draws.
#![allow(clippy::unwrap_used)]

#[path = "sampling/autoregressive.rs"]
mod autoregressive;
#[path = "sampling/caches.rs"]
mod caches;
mod common;
#[path = "sampling/draws.rs"]
mod draws;
#[path = "sampling/rules.rs"]
mod rules;

use std::ops::ControlFlow;

use common::Executor;
use common::models::{load, small, tokenizer};
use common::runs::refused;
use common::statistics::{chi_square, chi_square_bound};
use mdlm::config::SampleConfig;
use mdlm::data::Tokenizer;
use mdlm::model::Model;
use mdlm::sample::{Canvas, StepReport};
use pollster::block_on;

/// Logits of a to e, of the end of text, and of the mask, which must never come out.
const BIAS: [f64; 7] = [0.5, -1.0, 0.0, 1.5, -2.0, 0.25, 9.0];

fn probabilities() -> Vec<f64> {
    let e: Vec<f64> = BIAS[..6].iter().map(|x| x.exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|x| x / sum).collect()
}

fn settings(steps: usize, seed: u64) -> SampleConfig {
    SampleConfig {
        steps,
        seed,
        ..SampleConfig::default()
    }
}

/// Fills a canvas; the reports of all steps.
fn fill(model: &mut Model, canvas: Canvas, config: &SampleConfig) -> (Canvas, Vec<StepReport>) {
    let mut reports = Vec::new();
    let sampler = model.sampler(canvas, config).unwrap();
    let filled = block_on(sampler.finish(|report| {
        reports.push(report.clone());
        ControlFlow::Continue(())
    }));
    (filled.unwrap(), reports)
}

#[test]
fn a_seed_is_a_sample() {
    let mut model = load(Executor::CpuF32.shared(), &small(24), None);
    let mut sample = |seed| fill(&mut model, Canvas::open(24), &settings(10, seed));
    let (first, reports) = sample(1);
    assert_eq!((&first, &reports), (&sample(1).0, &sample(1).1));
    assert_ne!(first, sample(2).0);
    assert_ne!(reports, sample(2).1);
}

#[test]
fn executors_draw_the_same_tokens() {
    let config = small(16);
    let sample = |executor: Executor, canvas: &Canvas, seed| {
        let mut model = load(executor.shared(), &config, None);
        fill(&mut model, canvas.clone(), &settings(6, seed))
    };
    let prompt = Canvas::prompt(&[5, 0, 3], 16).unwrap();
    for (canvas, seed) in [(Canvas::open(16), 3), (prompt, 4)] {
        let (oracle, exact) = sample(Executor::CpuF64, &canvas, seed);
        for executor in [Executor::CpuF32, Executor::Gpu] {
            let (filled, reports) = sample(executor, &canvas, seed);
            assert_eq!(filled, oracle, "{executor:?}");
            let all = |reports: &[StepReport]| -> Vec<_> {
                reports.iter().flat_map(|r| r.revealed.clone()).collect()
            };
            for (a, b) in all(&reports).iter().zip(all(&exact)) {
                assert!((a.probability - b.probability).abs() < 1e-5, "{a:?} {b:?}");
                assert!((a.entropy - b.entropy).abs() < 1e-5, "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn reports_add_up() {
    let mut model = load(Executor::CpuF32.shared(), &small(24), None);
    let mask = model.mask_index();
    let mut canvas = Canvas::prompt(&[5, 1, 2, 3], 24).unwrap();
    canvas.reopen(1..2).unwrap();
    for steps in [1, 2, 7, 100] {
        let (filled, reports) = fill(&mut model, canvas.clone(), &settings(steps, 5));
        let (mut masked, mut calls, mut t) = (21, 0, 1.0);
        let mut seen = Vec::new();
        for (i, r) in reports.iter().enumerate() {
            assert_eq!((r.step, r.steps), (i + 1, steps));
            assert!(r.t < t && (r.t - (1.0 - r.step as f64 / steps as f64)).abs() < 1e-12);
            masked -= r.revealed.len();
            calls += usize::from(!r.revealed.is_empty());
            assert_eq!((r.masked, r.network_calls), (masked, calls));
            assert!(r.revealed.is_sorted_by(|a, b| a.position < b.position));
            for x in &r.revealed {
                assert_eq!(filled.token(x.position), Some(x.token));
                assert!(x.probability > 0.0 && x.probability <= 1.0);
                assert!(x.entropy > 0.0 && x.entropy <= 6f64.ln());
            }
            seen.extend(r.revealed.iter().map(|x| x.position));
            t = r.t;
        }
        assert_eq!(masked, 0);
        assert!(reports.len() <= steps && (reports.len() < steps || t == 0.0));
        seen.sort_unstable();
        let open: Vec<usize> = (0..24).filter(|&i| i == 1 || i >= 4).collect();
        assert_eq!(seen, open);
        assert!(filled.masked().is_empty());
        assert!(filled.tokens(mask).iter().all(|&id| id < mask));
        for i in [0, 2, 3] {
            assert_eq!(
                filled.token(i),
                canvas.token(i),
                "a frozen position changed"
            );
            assert!(filled.is_frozen(i));
        }
    }
}

#[test]
fn a_break_keeps_the_canvas() {
    let mut model = load(Executor::CpuF32.shared(), &small(24), None);
    let config = settings(8, 7);
    let (whole, reports) = fill(&mut model, Canvas::open(24), &config);
    let sampler = model.sampler(Canvas::open(24), &config).unwrap();
    let part = block_on(sampler.finish(|report| {
        if report.step == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }))
    .unwrap();
    assert_eq!(part.masked().len(), reports[2].masked);
    assert!(!part.masked().is_empty() && part.masked().len() < 24);
    for i in (0..24).filter(|&i| part.token(i).is_some()) {
        assert_eq!(part.token(i), whole.token(i));
    }
    // what is left can be filled by another sampler, which changes nothing else
    let (filled, _) = fill(&mut model, part.clone(), &settings(4, 1));
    for i in (0..24).filter(|&i| part.token(i).is_some()) {
        assert_eq!(part.token(i), filled.token(i));
    }
    assert!(filled.masked().is_empty());
}

#[test]
fn reopened_positions_are_drawn_again_and_no_others() {
    let mut model = load(Executor::CpuF32.shared(), &small(24), None);
    let (first, _) = fill(&mut model, Canvas::open(24), &settings(8, 1));
    let mut again = first.clone();
    again.freeze(0..24).unwrap();
    again.reopen(5..17).unwrap();
    assert_eq!(again.masked(), (5..17).collect::<Vec<_>>());
    let (second, reports) = fill(&mut model, again, &settings(8, 2));
    let drawn: usize = reports.iter().map(|r| r.revealed.len()).sum();
    assert_eq!(drawn, 12);
    let differs = |i: &usize| first.token(*i) != second.token(*i);
    let changed: Vec<usize> = (0..24).filter(differs).collect();
    assert!(!changed.is_empty() && changed.iter().all(|i| (5..17).contains(i)));

    let (same, none) = fill(&mut model, first.clone(), &settings(8, 3));
    assert_eq!((same, none.len()), (first, 0), "there was nothing to fill");
}

/// Tokens drawn at every position must follow softmax(bias), alone and in neighbouring pairs.
fn tokens_follow_the_model(executor: Executor, seeds: u64, steps: usize) {
    let length = 64;
    let mut model = load(executor.shared(), &small(length), Some(&BIAS));
    let p = probabilities();
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    let (mut single, mut pairs) = (vec![0.0; 6], vec![0.0; 36]);
    for seed in 0..seeds {
        let (canvas, reports) = fill(&mut model, Canvas::open(length), &settings(steps, seed));
        for r in reports.iter().flat_map(|r| &r.revealed) {
            assert!((r.probability - p[r.token as usize]).abs() < 1e-5, "{r:?}");
            assert!((r.entropy - entropy).abs() < 1e-5, "{r:?}");
        }
        for pair in canvas.tokens(6).chunks(2) {
            single[pair[0] as usize] += 1.0;
            single[pair[1] as usize] += 1.0;
            pairs[(6 * pair[0] + pair[1]) as usize] += 1.0;
        }
    }
    let n = seeds as f64 * length as f64;
    let expected: Vec<f64> = p.iter().map(|p| n * p).collect();
    let (x, bound) = (chi_square(&single, &expected), chi_square_bound(5.0));
    println!("{executor:?}: {n} draws in {steps} steps, chi-square {x:.2}, bound {bound:.2}");
    assert!(x < bound, "{single:?} but {expected:?}");
    let expected: Vec<f64> = (0..36).map(|i| n / 2.0 * p[i / 6] * p[i % 6]).collect();
    let (x, bound) = (chi_square(&pairs, &expected), chi_square_bound(35.0));
    println!("{executor:?}: pairs, chi-square {x:.2}, bound {bound:.2}");
    assert!(x < bound, "{pairs:?} but {expected:?}");
}

#[test]
fn tokens_follow_the_model_cpu() {
    tokens_follow_the_model(Executor::CpuF32, 300, 1);
    tokens_follow_the_model(Executor::CpuF32, 300, 5);
}

#[test]
fn tokens_follow_the_model_gpu() {
    tokens_follow_the_model(Executor::Gpu, 150, 1);
    tokens_follow_the_model(Executor::Gpu, 50, 3);
}

#[test]
fn positions_are_revealed_at_the_rate_of_the_process() {
    let (steps, seeds, length) = (1000, 80, 64);
    let mut model = load(Executor::CpuF32.shared(), &small(length), Some(&BIAS));
    // of n masked positions, n (t - s) / t are revealed on average
    let (mut excess, mut variance) = (0.0, 0.0);
    let (mut bins, mut places) = (vec![0.0; 20], vec![0.0; length]);
    for seed in 0..seeds {
        let (_, reports) = fill(&mut model, Canvas::open(length), &settings(steps, seed));
        let mut masked = length as f64;
        for r in &reports {
            let p = 1.0 / (steps + 1 - r.step) as f64;
            excess += r.revealed.len() as f64 - masked * p;
            variance += masked * p * (1.0 - p);
            masked -= r.revealed.len() as f64;
            bins[(r.step - 1) * 20 / steps] += r.revealed.len() as f64;
            // where, in the first half, where that is not yet decided
            if r.step <= steps / 2 {
                r.revealed.iter().for_each(|x| places[x.position] += 1.0);
            }
        }
    }
    let z = excess / variance.sqrt();
    println!("{seeds} runs of {steps} steps: {z:.2} standard deviations off");
    assert!(z.abs() < 4.0);
    // so the step at which a position is revealed is uniform, and so are the positions
    let each = seeds as f64 * length as f64 / 20.0;
    let x = chi_square(&bins, &[each; 20]);
    assert!(x < chi_square_bound(19.0), "{x}: {bins:?}");
    // each position binomially with p = 1/2, whose variance is half a Poisson variate's
    let x = 2.0 * chi_square(&places, &vec![seeds as f64 / 2.0; length]);
    assert!(x < chi_square_bound(64.0), "{x}: {places:?}");
}

#[test]
fn templates() {
    let t = tokenizer();
    let parse = |text: &str| Canvas::parse(text, &t);
    let tokens = |text: &str| parse(text).unwrap().tokens(9);
    assert!(parse("").unwrap().is_empty());
    assert_eq!(tokens("abc"), [0, 1, 2]);
    assert_eq!(tokens("a[MASK]b[MASK:3]"), [0, 9, 1, 9, 9, 9]);
    assert_eq!(tokens("[MASK:0][MASK][MASK]e"), [9, 9, 4]);
    let canvas = parse("ab[MASK:2]").unwrap();
    assert_eq!((canvas.len(), canvas.masked()), (4, vec![2, 3]));
    let frozen: Vec<bool> = (0..4).map(|i| canvas.is_frozen(i)).collect();
    assert_eq!(frozen, [true, true, false, false]);
    assert_eq!(canvas.text(&t), "ab__");
    for bad in [
        "a[MASK",
        "[MASK:]",
        "[MASK:x]",
        "[MASK:-1]",
        "[MASKED]",
        "[MASK:65537]",
        "[MASK:99999999999999999999]",
    ] {
        refused(
            parse(bad),
            "argument",
            &["template", &bad[bad.find('[').unwrap()..]],
        );
    }
    refused(parse("xyz[MASK]"), "corpus", &["'x' at position 0"]);
    // other brackets are text
    let bytes = Tokenizer::byte();
    assert!(Canvas::parse("[mask]", &bytes).unwrap().masked().is_empty());
}
