//! Temperature, top-k and top-p, against laws made by sorting.

use mdlm::config::SampleConfig;
use mdlm::model::Model;
use mdlm::sample::{Canvas, Denoiser, DrawOptions};
use pollster::block_on;

use super::{BIAS, fill};
use crate::common::Executor;
use crate::common::models::{load, small};
use crate::common::statistics::{chi_square, chi_square_bound};
use crate::common::trials::trials;

/// Two tokens that are equally probable at the top, three below them; the mask last.
const TIES: [f64; 7] = [1.0, 0.0, 1.0, 0.0, 0.0, -1.0, 9.0];

/// The law of the draws: of the `top_k` largest logits, then of the fewest of those that hold
/// `top_p` of the tempered probability; what is equal to the last one taken stays.
fn law(bias: &[f64; 7], config: &SampleConfig) -> Vec<f64> {
    let mut order: Vec<usize> = (0..6).collect();
    order.sort_by(|&a, &b| bias[b].total_cmp(&bias[a]));
    let weight = |v: usize| (bias[v] / config.temperature).exp();
    let mut kept = [0.0; 6];
    let last = order[(config.top_k as usize).clamp(1, 6) - 1];
    for v in 0..6 {
        if config.top_k == 0 || bias[v] >= bias[last] {
            kept[v] = weight(v);
        }
    }
    let sum: f64 = kept.iter().sum();
    let (mut mass, mut least) = (0.0, f64::NEG_INFINITY);
    for &v in order.iter().filter(|&&v| kept[v] > 0.0) {
        if mass < config.top_p * sum {
            (mass, least) = (mass + kept[v], bias[v]);
        }
    }
    for v in 0..6 {
        if bias[v] < least {
            kept[v] = 0.0;
        }
    }
    let sum: f64 = kept.iter().sum();
    kept.iter().map(|p| p / sum).collect()
}

fn options(temperature: f64, top_k: u32, top_p: f64) -> SampleConfig {
    SampleConfig {
        steps: 1,
        temperature,
        top_k,
        top_p,
        ..SampleConfig::default()
    }
}

/// Every position's token is an independent draw from the law.
fn follows(executor: Executor, bias: &[f64; 7], config: &SampleConfig, seeds: u64) {
    let length = 64;
    let mut model = load(executor.shared(), &small(length), Some(bias));
    let p = law(bias, config);
    let model_law = law(bias, &options(1.0, 0, 1.0));
    let mut counts = [0.0; 6];
    for seed in 0..seeds {
        let mut config = config.clone();
        config.seed = seed;
        let (_, reports) = fill(&mut model, Canvas::open(length), &config);
        for r in reports.iter().flat_map(|r| &r.revealed) {
            counts[r.token as usize] += 1.0;
            // what is reported is the model's own
            let own = model_law[r.token as usize];
            assert!((r.probability - own).abs() < 1e-5, "{r:?}");
        }
    }
    let n = seeds as f64 * length as f64;
    let (mut seen, mut expected) = (Vec::new(), Vec::new());
    for v in 0..6 {
        assert_eq!(
            counts[v] > 0.0,
            p[v] > 0.0,
            "{config:?}: token {v} of {p:?}"
        );
        if p[v] > 0.0 {
            seen.push(counts[v]);
            expected.push(n * p[v]);
        }
    }
    if seen.len() > 1 {
        let (x, bound) = (
            chi_square(&seen, &expected),
            chi_square_bound(seen.len() as f64 - 1.0),
        );
        let (t, k, p) = (config.temperature, config.top_k, config.top_p);
        println!(
            "{executor:?}, temperature {t}, top-k {k}, top-p {p}: {} tokens, chi-square {x:.2}, \
             bound {bound:.2}",
            seen.len()
        );
        assert!(x < bound, "{seen:?} but {expected:?}");
    }
}

#[test]
fn tempered_and_truncated_draws_follow_their_law() {
    // canvases of 64
    let draws = trials("draws of each law and executor", 3840, 0);
    // few draws tell little of kernels that other tests compare with these
    let executors = match draws {
        0..10_000 => &[Executor::CpuF32, Executor::Gpu][..],
        _ => &[Executor::CpuF32, Executor::Gpu, Executor::Borrowed],
    };
    for &executor in executors {
        let seeds = match executor {
            Executor::CpuF32 => draws.div_ceil(64).max(300),
            _ => draws.div_ceil(64),
        };
        for (temperature, top_k, top_p) in [
            // near the ends of what may be asked for
            (0.3, 2, 0.999),
            (100.0, 0, 1.0),
            (1.0, 2, 1.0),
            (1.0, 5, 1.0),
            (1.0, 0, 0.999_999),
            (1.0, 0, 0.55),
            (1.2, 1000, 1.0),
            (0.5, 0, 1.0),
            (2.0, 0, 1.0),
            (1.0, 3, 1.0),
            (1.0, 6, 1.0),
            (1.0, 0, 0.6),
            (0.8, 4, 0.9),
            (1.5, 0, 0.99),
        ] {
            let config = options(temperature, top_k, top_p);
            follows(executor, &BIAS, &config, seeds);
        }
        // equal logits stay together
        for (top_k, top_p) in [(1, 1.0), (2, 1.0), (3, 1.0), (5, 1.0), (0, 0.1), (0, 0.65)] {
            follows(executor, &TIES, &options(1.0, top_k, top_p), seeds);
        }
    }
}

#[test]
fn the_most_probable_token_by_temperature_and_by_rank() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(24), None);
        let mut filled = |config| fill(&mut model, Canvas::open(24), &config).0;
        let greedy = filled(options(0.0, 0, 1.0));
        assert_eq!(greedy, filled(options(1.0, 1, 1.0)));
        assert_eq!(greedy, filled(options(3.0, 0, 1e-6)));
        assert_ne!(greedy, filled(options(1.0, 0, 1.0)));
        // of equals, the first
        let mut model = load(executor.shared(), &small(24), Some(&TIES));
        let (canvas, _) = fill(&mut model, Canvas::open(24), &options(0.0, 0, 1.0));
        assert_eq!(canvas.tokens(6), [0; 24]);
    }
}

/// What a model says of rows, from its logits: log-probabilities without the mask.
fn log_law(model: &mut Model, xt: &[u32]) -> Vec<Vec<f64>> {
    let logits = block_on(model.logits(xt, &[0.5])).unwrap();
    let row = |z: &[f32]| -> Vec<f64> {
        let z: Vec<f64> = z.iter().copied().map(f64::from).collect();
        let total = z[..6].iter().map(|z| z.exp()).sum::<f64>().ln();
        z[..6].iter().map(|z| z - total).collect()
    };
    logits.chunks(7).map(row).collect()
}

#[test]
fn what_stands_is_judged_and_what_moves_is_measured() {
    for executor in [Executor::CpuF64, Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(12), None);
        let mut options = DrawOptions {
            temperature: 0.7,
            drifts: true,
            keys: vec![[5, 6]],
            ..DrawOptions::default()
        };
        options.reading.reader = 1;
        let mut before: Option<(Vec<u32>, Vec<Vec<f64>>)> = None;
        // the third draw is another reader's, who knows nothing of the two before
        for (reader, filled) in [(1, 1), (1, 3), (2, 4), (2, 9)] {
            options.reading.reader = reader;
            let xt: Vec<u32> = (0..12)
                .map(|i| if i < filled { i % 6 } else { 6 })
                .collect();
            let rows: Vec<u32> = (0..12).filter(|row| row % 4 != 3).collect();
            let drawn = block_on(model.draw(&xt, &[0.5], &rows, &options)).unwrap();
            let law = log_law(&mut model, &xt);
            let last = before.take().filter(|_| filled != 4);
            for (&row, draw) in rows.iter().zip(&drawn.draws) {
                let (row, p) = (row as usize, &law[row as usize]);
                if xt[row] < 6 {
                    assert_eq!(draw.token, xt[row]);
                }
                assert!((draw.probability - p[draw.token as usize].exp()).abs() < 1e-5);
                let Some((_, last)) = &last else {
                    assert_eq!(draw.drift, f64::INFINITY);
                    continue;
                };
                let moved = (p.iter().zip(&last[row])).map(|(p, q)| p.exp() * (p - q));
                let moved = moved.sum::<f64>();
                let error = (draw.drift - moved).abs();
                assert!(moved > 1e-4 && error < 1e-5, "{executor:?} {moved} {error}");
            }
            before = Some((xt, law));
        }
    }
}

/// With a key of its own a canvas is drawn in a batch as it is alone, whatever its place there.
#[test]
fn canvases_with_keys_of_their_own_are_drawn_as_alone() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(12), None);
        let rows: Vec<u32> = (3..12).collect();
        let (xt, key) = (
            |b: u32| (0..12).map(move |i| if i < 3 { b + i } else { 6 }),
            |b| [9, b],
        );
        let alone = |b: u32, model: &mut Model| {
            let options = DrawOptions {
                keys: vec![key(b)],
                ..DrawOptions::default()
            };
            let xt: Vec<u32> = xt(b).collect();
            let drawn = block_on(model.draw(&xt, &[0.5], &rows, &options));
            drawn
                .unwrap()
                .draws
                .iter()
                .map(|draw| draw.token)
                .collect::<Vec<u32>>()
        };
        let expected: Vec<Vec<u32>> = (0..3).map(|b| alone(b, &mut model)).collect();
        let options = DrawOptions {
            keys: [2, 0, 1].map(key).to_vec(),
            ..DrawOptions::default()
        };
        let all: Vec<u32> = [2, 0, 1].into_iter().flat_map(xt).collect();
        let listed = (0..3).flat_map(|b| rows.iter().map(move |row| 12 * b + row));
        let listed: Vec<u32> = listed.collect();
        let drawn = block_on(model.draw(&all, &[0.5; 3], &listed, &options)).unwrap();
        let tokens: Vec<u32> = drawn.draws.iter().map(|draw| draw.token).collect();
        let [a, b, c] = [2, 0, 1].map(|b: usize| &expected[b][..]);
        assert_eq!(tokens, [a, b, c].concat(), "{executor:?}");
        assert!(a != b && b != c);
        let wrong = DrawOptions {
            keys: vec![[1, 2]; 2],
            ..DrawOptions::default()
        };
        let error = block_on(model.draw(&all, &[0.5; 3], &listed, &wrong)).unwrap_err();
        assert_eq!(error.code(), "shape");
    }
}
