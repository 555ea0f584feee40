//! Laws that are known exactly: of the model, and of a process in T steps.

use std::ops::ControlFlow;

use mdlm::config::SampleConfig;
use mdlm::sample::{Canvas, Sampler};
use pollster::block_on;

use super::oracle::Oracle;
use crate::common::statistics::{chi_square, chi_square_bound};

/// Every state of `length` positions, the mask (the largest number) included.
pub fn state(mut index: usize, oracle: &Oracle, length: usize) -> Vec<u32> {
    let base = oracle.vocab_size();
    let digit = |_| {
        let digit = index % base;
        index /= base;
        digit as u32
    };
    (0..length).map(digit).collect()
}

pub fn number(state: &[u32], oracle: &Oracle) -> usize {
    let base = oracle.vocab_size();
    state.iter().rev().fold(0, |n, &x| n * base + x as usize)
}

pub fn states(oracle: &Oracle, length: usize) -> usize {
    oracle.vocab_size().pow(length as u32)
}

/// The model's law of whole sequences, given the tokens of `start`; 0 at states with a mask.
pub fn joint(oracle: &Oracle, start: &[u32]) -> Vec<f64> {
    let mask = oracle.mask_index();
    let agrees = |xt: &[u32]| {
        let pairs = xt.iter().zip(start);
        pairs
            .into_iter()
            .all(|(x, s)| *x != mask && (*s == mask || s == x))
    };
    let whole = oracle.likelihood(start);
    let p = |index| {
        let xt = state(index, oracle, start.len());
        if agrees(&xt) {
            oracle.likelihood(&xt) / whole
        } else {
            0.0
        }
    };
    (0..states(oracle, start.len())).map(p).collect()
}

/// The law after one step: a masked position is revealed with probability `reveal` and becomes
/// what the model predicts there; a token, unless it stands in `start`, becomes a mask with
/// probability `remask`; all positions independently.
pub fn step(law: &[f64], oracle: &Oracle, start: &[u32], [reveal, remask]: [f64; 2]) -> Vec<f64> {
    let mask = oracle.mask_index();
    step_by(law, oracle, start, &|token, predicted| match token {
        token if token != mask => vec![(token, 1.0 - remask), (mask, remask)],
        _ => {
            let drawn = predicted.iter().enumerate();
            let drawn = drawn.map(|(v, p)| (v as u32, p * reveal));
            drawn.chain([(mask, 1.0 - reveal)]).collect()
        }
    })
}

/// The tokens that one can become, with their probabilities, given what the model predicts at its position.
pub type Becomes<'a> = &'a dyn Fn(u32, &[f64]) -> Vec<(u32, f64)>;

/// The law after a step in which each position, unless it stands in `start`, becomes something independently.
pub fn step_by(law: &[f64], oracle: &Oracle, start: &[u32], becomes: Becomes<'_>) -> Vec<f64> {
    let mask = oracle.mask_index();
    let mut after = vec![0.0; law.len()];
    for (index, &weight) in law.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        let xt = state(index, oracle, start.len());
        let posterior = oracle.posterior(&xt);
        let mut reached = vec![(Vec::new(), weight)];
        for (l, &token) in xt.iter().enumerate() {
            let options: Vec<(u32, f64)> = if start[l] != mask {
                vec![(token, 1.0)]
            } else {
                becomes(token, &posterior[l])
            };
            reached = reached
                .iter()
                .flat_map(|(state, weight): &(Vec<u32>, f64)| {
                    options.iter().filter(|o| o.1 > 0.0).map(move |&(x, p)| {
                        let mut state = state.clone();
                        state.push(x);
                        (state, weight * p)
                    })
                })
                .collect();
        }
        for (state, weight) in reached {
            after[number(&state, oracle)] += weight;
        }
    }
    after
}

/// The law of a process of such steps from `start`.
pub fn process(oracle: &Oracle, start: &[u32], steps: &[[f64; 2]]) -> Vec<f64> {
    let mut law = vec![0.0; states(oracle, start.len())];
    law[number(start, oracle)] = 1.0;
    steps
        .iter()
        .fold(law, |law, &chances| step(&law, oracle, start, chances))
}

/// Chances of the steps of the reverse process on a uniform grid.
pub fn grid(oracle: &Oracle, steps: usize) -> Vec<[f64; 2]> {
    let schedule = oracle.schedule();
    let chance = |i: usize| {
        let t = |i: usize| (steps - i) as f64 / steps as f64;
        let left = if i + 1 == steps {
            0.0
        } else {
            schedule.move_chance(t(i + 1))
        };
        [1.0 - left / schedule.move_chance(t(i)), 0.0]
    };
    (0..steps).map(chance).collect()
}

/// Half the sum of absolute differences.
pub fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

/// How often a sampler ends in each state: `runs` batches of `batch` canvases, one seed each.
pub fn counts(
    oracle: &mut Oracle,
    start: &[u32],
    config: &SampleConfig,
    runs: u64,
    batch: usize,
) -> Vec<f64> {
    let mask = oracle.mask_index();
    let mut counts = vec![0.0; states(oracle, start.len())];
    let mut canvas = Canvas::prompt(start, start.len()).unwrap();
    for (l, _) in start.iter().enumerate().filter(|(_, x)| **x == mask) {
        canvas.reopen(l..l + 1).unwrap();
    }
    for seed in 0..runs {
        let config = SampleConfig {
            seed,
            ..config.clone()
        };
        let canvases = vec![canvas.clone(); batch];
        let sampler = Sampler::new(&mut *oracle, canvases, &config).unwrap();
        let filled = block_on(sampler.finish_all(|_| ControlFlow::Continue(()))).unwrap();
        for canvas in filled {
            counts[number(&canvas.tokens(mask), oracle)] += 1.0;
        }
    }
    counts
}

/// Chi-square of counts under a law and its bound; states expected less than five times are one.
pub fn compare(what: &str, counts: &[f64], law: &[f64]) -> (f64, f64) {
    let n: f64 = counts.iter().sum();
    let (mut seen, mut expected) = (vec![0.0], vec![0.0]);
    for (&count, &p) in counts.iter().zip(law) {
        assert!(p > 0.0 || count == 0.0, "{what}: an impossible state");
        if n * p >= 5.0 {
            seen.push(count);
            expected.push(n * p);
        } else {
            seen[0] += count;
            expected[0] += n * p;
        }
    }
    if expected[0] < 5.0 {
        // too rare to count on its own: with the first of the others
        expected[1] += expected.remove(0);
        seen[0] += seen.remove(1);
    }
    let (x, bound) = (
        chi_square(&seen, &expected),
        chi_square_bound(seen.len() as f64 - 1.0),
    );
    println!(
        "{what}: {n} sequences, {} cells, chi-square {x:.1}, bound {bound:.1}",
        seen.len()
    );
    (x, bound)
}

/// Fails unless the sampler's sequences follow the law.
pub fn follows(what: &str, oracle: &mut Oracle, start: &[u32], config: &SampleConfig, law: &[f64]) {
    assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{what}");
    let counts = counts(oracle, start, config, 400, 100);
    let (x, bound) = compare(what, &counts, law);
    assert!(x < bound, "{what}: chi-square {x} above {bound}");
}
