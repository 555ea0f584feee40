//! The reverse process of hybrid noise, and self-correction, against laws written from their definitions.

use std::ops::ControlFlow;

use mdlm::config::{SampleConfig, SamplerKind};
use mdlm::process::{Hybrid, Noise};
use mdlm::sample::{Canvas, Sampler};
use pollster::block_on;

use super::law::{compare, follows, number, states, step_by, total_variation};
use super::oracle::{Oracle, tempered};
use super::{OPEN, settings};
use crate::common::hybrid::{posterior, uniform_posterior};

fn gidd(p_uniform: f64) -> Hybrid {
    let noise = Noise::Hybrid {
        p_uniform,
        t_eps: 1e-4,
    };
    Hybrid::new(noise, 4, 3)
}

/// The law of the process in so many steps.
fn process(oracle: &Oracle, start: &[u32], p_uniform: f64, steps: usize) -> Vec<f64> {
    let mut law = vec![0.0; states(oracle, start.len())];
    law[number(start, oracle)] = 1.0;
    for step in 0..steps {
        let times = [step, step + 1].map(|done| 1.0 - done as f64 / steps as f64);
        law = step_by(&law, oracle, start, &|z, x| {
            let law = posterior(p_uniform, times, z, x);
            (0..).zip(law).collect()
        });
    }
    law
}

#[test]
fn hybrid_sampling_follows_its_process() {
    for (name, mut oracle) in [("chain", Oracle::chain(4)), ("hidden", Oracle::hidden(4))] {
        for (p_uniform, steps) in [(0.0, 3), (0.1, 2), (0.2, 5), (0.7, 6)] {
            oracle.hybrid = Some(gidd(p_uniform));
            for start in [OPEN, [3, 1, 3, 3]] {
                let law = process(&oracle, &start, p_uniform, steps);
                let config = settings(SamplerKind::HYBRID, steps);
                let what = format!("hybrid, {name}, p_uniform {p_uniform}, T = {steps}, {start:?}");
                follows(&what, &mut oracle, &start, &config, &law);
                if p_uniform > 0.5 {
                    // the comparison has the power to see a process without changes
                    let plain = process(&oracle, &start, 0.0, steps);
                    assert!(total_variation(&law, &plain) > 0.03, "{what}");
                }
            }
        }
        // a model of masks alone
        oracle.hybrid = None;
        let law = super::law::process(&oracle, &OPEN, &super::law::grid(&oracle, 4));
        let config = settings(SamplerKind::HYBRID, 4);
        follows(
            &format!("hybrid, {name}, masks"),
            &mut oracle,
            &OPEN,
            &config,
            &law,
        );
    }
}

/// Open positions begin as any of the three tokens, and are tokens ever after.
#[test]
fn uniform_sampling_follows_its_process() {
    const EPS: f64 = 1e-3;
    for (name, mut oracle) in [("chain", Oracle::chain(4)), ("hidden", Oracle::hidden(4))] {
        oracle.hybrid = Some(Hybrid::new(Noise::Uniform { eps: EPS }, 4, 3));
        for (start, steps) in [(OPEN, 1), (OPEN, 4), ([3, 1, 3, 3], 6)] {
            let open: Vec<usize> = (0..4).filter(|&l| start[l] == 3).collect();
            let count = 3usize.pow(open.len() as u32);
            let mut law = vec![0.0; states(&oracle, 4)];
            for index in 0..count {
                let mut begun = start;
                for (i, &l) in open.iter().enumerate() {
                    begun[l] = (index / 3usize.pow(i as u32) % 3) as u32;
                }
                law[number(&begun, &oracle)] += 1.0 / count as f64;
            }
            for step in 0..steps {
                let times = [step, step + 1].map(|done| 1.0 - done as f64 / steps as f64);
                law = step_by(&law, &oracle, &start, &|z, x| {
                    let law = uniform_posterior(EPS, times, z, x);
                    (0..).zip(law).collect()
                });
            }
            let config = settings(SamplerKind::HYBRID, steps);
            let what = format!("uniform, {name}, T = {steps}, {start:?}");
            follows(&what, &mut oracle, &start, &config, &law);
        }
    }
}

/// A canvas of tokens that may be changed.
fn written(tokens: &[u32]) -> Canvas {
    Canvas::of(tokens.iter().map(|&token| (Some(token), false)))
}

fn corrected(oracle: &mut Oracle, tokens: &[u32], config: &SampleConfig) -> Vec<Vec<u32>> {
    let mut now = tokens.to_vec();
    let mut seen = Vec::new();
    let sampler = Sampler::new(&mut *oracle, vec![written(tokens)], config).unwrap();
    let filled = block_on(sampler.finish(|report| {
        if report.network_calls > 0 {
            assert!(report.revealed.len() <= 1 && report.remasked.is_empty());
            report
                .revealed
                .iter()
                .for_each(|r| now[r.position] = r.token);
            seen.push(now.clone());
        }
        ControlFlow::Continue(())
    }));
    assert_eq!(filled.unwrap().tokens(3), now);
    seen
}

#[test]
fn corrections_write_what_the_network_is_surest_of() {
    let mut oracle = Oracle::chain(6);
    oracle.hybrid = Some(gidd(0.2));
    let config = settings(SamplerKind::HYBRID, 2)
        .with("corrections", 40.0)
        .with("correction_temperature", 0.0);
    for start in [[0, 2, 0, 2, 0, 1], [1, 1, 1, 1, 1, 1], [2, 0, 0, 1, 2, 2]] {
        let mut now = start.to_vec();
        let mut expected = Vec::new();
        loop {
            let predicted = oracle.posterior(&now);
            let best = |l: usize| {
                let most = (0..3).max_by(|&a, &b| predicted[l][a].total_cmp(&predicted[l][b]));
                (most.unwrap() as u32, predicted[l][most.unwrap()])
            };
            let others = (0..6).rev().filter(|&l| best(l).0 != now[l]);
            let Some(at) = others.max_by(|&a, &b| best(a).1.total_cmp(&best(b).1)) else {
                break;
            };
            now[at] = best(at).0;
            expected.push(now.clone());
            if expected.len() == 40 {
                break;
            }
        }
        let seen = corrected(&mut oracle, &start, &config);
        let changed = seen.len().min(expected.len());
        assert_eq!(seen[..changed], expected[..]);
        // the step that changed nothing was the last one
        assert!(seen.len() <= expected.len() + 1 && changed > 0, "{start:?}");
        assert!(oracle.asked.iter().all(|&t| t == 0.01));
    }
}

#[test]
fn a_correction_follows_its_law() {
    let mut oracle = Oracle::chain(4);
    oracle.hybrid = Some(gidd(0.2));
    let start = [0, 2, 2, 1];
    for temperature in [0.3, 1.0] {
        let predicted = oracle.posterior(&start);
        let predicted: Vec<_> = predicted.iter().map(|p| tempered(p, temperature)).collect();
        let mut law = vec![0.0; states(&oracle, 4)];
        for index in 0..81usize {
            let drawn = [1, 3, 9, 27].map(|base| index / base % 3);
            let weight: f64 = (0..4).map(|l| predicted[l][drawn[l]]).product();
            let others = (0..4).rev().filter(|&l| drawn[l] as u32 != start[l]);
            let sure = |l: &usize| predicted[*l][drawn[*l]];
            let mut after = start;
            if let Some(at) = others.max_by(|a, b| sure(a).total_cmp(&sure(b))) {
                after[at] = drawn[at] as u32;
            }
            law[number(&after, &oracle)] += weight;
        }
        let mut counts = vec![0.0; law.len()];
        for seed in 0..20_000 {
            let config = SampleConfig {
                seed,
                ..settings(SamplerKind::HYBRID, 1)
            };
            let config = config
                .with("corrections", 1.0)
                .with("correction_temperature", temperature);
            let seen = corrected(&mut oracle, &start, &config);
            counts[number(&seen[0], &oracle)] += 1.0;
        }
        let what = format!("a correction at temperature {temperature}");
        let (x, bound) = compare(&what, &counts, &law);
        assert!(x < bound, "{what}: {x}");
    }
}
