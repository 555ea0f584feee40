//! What is drawn follows the sampler's own law, restricted.

use std::collections::HashMap;

use mdlm::data::Tokenizer;
use mdlm::error::Result;
use mdlm::sample::{Canvas, Denoiser, DrawOptions, Drawn, Facts, Sampler};
use mdlm::{SampleConfig, SamplerKind};
use pollster::block_on;

use crate::common::statistics::{chi_square, chi_square_bound};
use crate::oracle::Oracle;

/// `a`, `b`, the end of a text, the mask.
const MASK: u32 = 3;
const LENGTH: usize = 4;

/// A chain whose tokens are letters.
struct Spelled(Oracle);

impl Denoiser for Spelled {
    fn facts(&self) -> Facts {
        Facts {
            tokenizer: Some(Tokenizer::characters("ab")),
            ..self.0.facts()
        }
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        self.0.draw(xt, t, rows, options).await
    }
}

/// Texts of the expression with ends behind them.
fn texts(pattern: &str) -> Vec<Vec<u32>> {
    let whole = regex::Regex::new(&format!("^(?:{pattern})2*$")).unwrap();
    let all = (0..3usize.pow(LENGTH as u32)).map(|index| -> Vec<u32> {
        (0..LENGTH)
            .map(|l| (index / 3usize.pow(l as u32) % 3) as u32)
            .collect()
    });
    let shown = |tokens: &[u32]| -> String {
        tokens
            .iter()
            .map(|&id| ['a', 'b', '2'][id as usize])
            .collect()
    };
    all.filter(|tokens| whole.is_match(&shown(tokens)))
        .collect()
}

/// Adds the law of what is written from `xt` on, one position at a time, each of the masked ones as likely as the
/// others or the leftmost: the chain's own, restricted to tokens with which one of the texts is possible.
fn expect(
    oracle: &Oracle,
    texts: &[Vec<u32>],
    left: bool,
    xt: &mut Vec<u32>,
    weight: f64,
    law: &mut HashMap<Vec<u32>, f64>,
) {
    let masked: Vec<usize> = (0..LENGTH).filter(|&l| xt[l] == MASK).collect();
    if masked.is_empty() {
        *law.entry(xt.clone()).or_default() += weight;
        return;
    }
    let posterior = oracle.posterior(xt);
    let open = if left { &masked[..1] } else { &masked[..] };
    for &l in open {
        let possible = |v: u32| {
            texts.iter().any(|text| {
                let agrees = (0..LENGTH).all(|i| xt[i] == MASK || xt[i] == text[i]);
                agrees && text[l] == v
            })
        };
        let p = [0, 1, 2].map(|v| posterior[l][v as usize] * f64::from(possible(v)));
        let sum: f64 = p.iter().sum();
        for v in (0..3).filter(|&v| p[v] > 0.0) {
            xt[l] = v as u32;
            let weight = weight / open.len() as f64 * p[v] / sum;
            expect(oracle, texts, left, xt, weight, law);
            xt[l] = MASK;
        }
    }
}

#[test]
fn one_token_at_a_time_is_the_restricted_law() {
    let oracle = Oracle::chain(LENGTH);
    for pattern in ["(ab|ba)*", "a+b?|bb", "[ab]*b"] {
        let texts = texts(pattern);
        for sampler in [SamplerKind::FIRST_HITTING, SamplerKind::LEFT_TO_RIGHT] {
            let left = sampler == SamplerKind::LEFT_TO_RIGHT;
            let mut law = HashMap::new();
            expect(
                &oracle,
                &texts,
                left,
                &mut vec![MASK; LENGTH],
                1.0,
                &mut law,
            );
            assert!((law.values().sum::<f64>() - 1.0).abs() < 1e-12);
            let runs = 6000;
            let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
            for seed in 0..runs {
                let config = SampleConfig {
                    sampler,
                    seed,
                    regex: pattern.to_owned(),
                    ..SampleConfig::default()
                };
                let mut sampler =
                    Sampler::new(Spelled(oracle.clone()), vec![Canvas::open(LENGTH)], &config)
                        .unwrap();
                while block_on(sampler.step()).unwrap().is_some() {}
                *counts.entry(sampler.canvas().tokens(MASK)).or_default() += 1.0;
            }
            assert!(counts.keys().all(|tokens| law.contains_key(tokens)));
            // what is rare counts together
            let (common, rare): (Vec<_>, Vec<_>) =
                law.iter().partition(|(_, p)| **p * runs as f64 > 8.0);
            let count = |tokens: &Vec<u32>| counts.get(tokens).copied().unwrap_or(0.0);
            let mut seen: Vec<f64> = common.iter().map(|(tokens, _)| count(tokens)).collect();
            let mut expected: Vec<f64> = common.iter().map(|(_, p)| **p * runs as f64).collect();
            seen.push(rare.iter().map(|(tokens, _)| count(tokens)).sum());
            expected.push(rare.iter().map(|(_, p)| **p * runs as f64).sum::<f64>() + 1e-9);
            let (x, bound) = (
                chi_square(&seen, &expected),
                chi_square_bound(common.len() as f64),
            );
            println!(
                "{pattern}, {}: chi-square {x:.2}, bound {bound:.2}",
                sampler.name
            );
            assert!(x < bound, "{pattern}: {seen:?} {expected:?}");
        }
    }
}
