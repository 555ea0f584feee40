//! Samplers against laws that are known exactly, with a denoiser whose predictions are exact.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "sampler_law/hybrid.rs"]
mod hybrid;
#[path = "sampler_law/law.rs"]
mod law;
#[path = "../examples/ablate/oracle.rs"]
mod oracle;
#[path = "sampler_law/race.rs"]
mod race;

use common::statistics::{chi_square, chi_square_bound};
use law::{compare, counts, follows, grid, joint, process, total_variation};
use mdlm::config::{NoiseConfig, NoiseKind, Parameterization, SampleConfig, SamplerKind};
use mdlm::sample::{Canvas, Sampler};
use oracle::Oracle;
use pollster::block_on;

/// Four open positions; the mask is token 3.
const OPEN: [u32; 4] = [3; 4];

fn settings(sampler: SamplerKind, steps: usize) -> SampleConfig {
    SampleConfig {
        sampler,
        steps,
        ..SampleConfig::default()
    }
}

#[test]
fn the_oracle_is_exact() {
    for oracle in [Oracle::chain(4), Oracle::hidden(4)] {
        for start in [OPEN, [3, 1, 3, 3], [0, 3, 3, 2], [3, 3, 2, 3]] {
            let law = joint(&oracle, &start);
            assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let posterior = oracle.posterior(&start);
            for (l, v) in (0..4).flat_map(|l| (0..3).map(move |v| (l, v))) {
                let here = |index: usize| law::state(index, &oracle, 4)[l] == v as u32;
                let sum: f64 = (0..law.len()).filter(|&i| here(i)).map(|i| law[i]).sum();
                let masked = start[l] == 3;
                assert!(!masked || (posterior[l][v] - sum).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn first_hitting_and_left_to_right_follow_the_model() {
    for (name, oracle) in [("chain", Oracle::chain(4)), ("hidden", Oracle::hidden(4))] {
        for kind in [NoiseKind::Loglinear, NoiseKind::Cosine] {
            let mut oracle = oracle.clone();
            oracle.noise = NoiseConfig {
                kind,
                ..NoiseConfig::default()
            };
            let law = joint(&oracle, &OPEN);
            let config = settings(SamplerKind::FIRST_HITTING, 1);
            let what = format!("first-hitting, {name}, {kind:?}");
            follows(&what, &mut oracle, &OPEN, &config, &law);
        }
        let mut oracle = oracle;
        let law = joint(&oracle, &OPEN);
        let config = settings(SamplerKind::LEFT_TO_RIGHT, 1);
        let what = format!("left-to-right, {name}");
        follows(&what, &mut oracle, &OPEN, &config, &law);
        oracle.autoregressive = true;
        let start = [1, 3, 3, 3];
        let law = joint(&oracle, &start);
        let what = format!("autoregressive, {name}");
        follows(&what, &mut oracle, &start, &SampleConfig::default(), &law);
    }
}

#[test]
fn ancestral_sampling_follows_its_process() {
    for (name, mut oracle) in [("chain", Oracle::chain(4)), ("hidden", Oracle::hidden(4))] {
        for kind in [NoiseKind::Loglinear, NoiseKind::Cosine, NoiseKind::Linear] {
            oracle.noise = NoiseConfig {
                kind,
                ..NoiseConfig::default()
            };
            for steps in [1, 2, 5] {
                let law = process(&oracle, &OPEN, &grid(&oracle, steps));
                let config = settings(SamplerKind::ANCESTRAL, steps);
                let what = format!("ancestral, {name}, {kind:?}, T = {steps}");
                follows(&what, &mut oracle, &OPEN, &config, &law);
            }
        }
    }
}

#[test]
fn the_process_tends_to_the_model() {
    let mut oracle = Oracle::chain(4);
    let exact = joint(&oracle, &OPEN);
    let distance = |steps| total_variation(&process(&oracle, &OPEN, &grid(&oracle, steps)), &exact);
    let distances = [1, 4, 16, 64, 256].map(distance);
    println!("distance from the model at T = 1, 4, 16, 64, 256: {distances:.2?}");
    // the error of a step is of the order of the chance that it reveals two positions
    for pair in distances[1..].windows(2) {
        assert!((3.0..5.0).contains(&(pair[0] / pair[1])), "{distances:?}");
    }
    let config = settings(SamplerKind::ANCESTRAL, 512);
    follows("ancestral, T = 512", &mut oracle, &OPEN, &config, &exact);
    // and the comparison has the power to see two steps
    let config = settings(SamplerKind::ANCESTRAL, 2);
    let counts = counts(&mut oracle, &OPEN, &config, 400, 100);
    let (x, bound) = compare("ancestral, T = 2, against the model", &counts, &exact);
    assert!(x > 10.0 * bound);
}

#[test]
fn analytic_sampling_follows_the_same_process() {
    for parameterization in [Parameterization::Subs, Parameterization::Sedd] {
        for kind in [NoiseKind::Loglinear, NoiseKind::Geometric] {
            let mut oracle = Oracle::hidden(4);
            oracle.parameterization = parameterization;
            oracle.noise = NoiseConfig {
                kind,
                ..NoiseConfig::default()
            };
            let law = process(&oracle, &OPEN, &grid(&oracle, 4));
            let config = settings(SamplerKind::ANALYTIC, 4);
            let what = format!("analytic, {parameterization:?}, {kind:?}");
            follows(&what, &mut oracle, &OPEN, &config, &law);
        }
    }
}

/// Chances of ReMDM's steps, from `alpha` and `sigma` of the step's number and times.
fn remdm(
    steps: usize,
    alpha: impl Fn(f64) -> f64,
    sigma: impl Fn(f64, f64) -> f64,
) -> Vec<[f64; 2]> {
    let t = |i: usize| 1.0 - i as f64 / steps as f64;
    let chances = |i: usize| {
        let (at, after) = (alpha(t(i)), alpha(t(i + 1)));
        let most = ((1.0 - after) / at).min(1.0);
        let sigma = sigma(t(i), most);
        [(after - (1.0 - sigma) * at) / (1.0 - at), sigma]
    };
    (0..steps).map(chances).collect()
}

#[test]
fn remasking_follows_its_process() {
    let mut oracle = Oracle::chain(4);
    let schedule = oracle.schedule();
    let alpha = |t: f64| if t == 0.0 { 1.0 } else { schedule.alpha_t(t) };
    let looped = |t: f64| {
        if t > 0.6 {
            0.7 * (1.0 - t) / 0.4
        } else if t > 0.2 {
            0.7
        } else {
            1.0 - 0.3 * t / 0.2
        }
    };
    let cases = [
        (
            "remdm-cap",
            SamplerKind::REMDM_CAP,
            0.3,
            remdm(6, alpha, |_, most| most.min(0.3)),
        ),
        (
            "remdm-rescale",
            SamplerKind::REMDM_RESCALE,
            0.5,
            remdm(6, alpha, |_, most| 0.5 * most),
        ),
        (
            "remdm-loop",
            SamplerKind::REMDM_LOOP,
            0.25,
            remdm(
                15,
                looped,
                |t, _| if t > 0.21 && t < 0.61 { 0.25 } else { 0.0 },
            ),
        ),
    ];
    for (name, kind, eta, chances) in cases {
        let mut config = settings(kind, chances.len());
        if kind != SamplerKind::REMDM_CONF {
            config = config.with("eta", eta);
        }
        if kind == SamplerKind::REMDM_LOOP {
            for (key, value) in [("t_on", 0.6), ("t_off", 0.2), ("alpha_on", 0.7)] {
                config = config.with(key, value);
            }
        }
        for start in [OPEN, [3, 3, 0, 3]] {
            let law = process(&oracle, &start, &chances);
            let what = format!("{name}, T = {}, {start:?}", chances.len());
            follows(&what, &mut oracle, &start, &config, &law);
        }
    }
}

#[test]
fn infilling_follows_the_conditional_law() {
    for (name, mut oracle) in [("chain", Oracle::chain(4)), ("hidden", Oracle::hidden(4))] {
        for start in [[3, 1, 3, 3], [2, 3, 3, 0], [3, 3, 3, 2]] {
            let law = joint(&oracle, &start);
            let config = settings(SamplerKind::FIRST_HITTING, 1);
            let what = format!("first-hitting, {name}, {start:?}");
            follows(&what, &mut oracle, &start, &config, &law);
            let law = process(&oracle, &start, &grid(&oracle, 3));
            let config = settings(SamplerKind::ANCESTRAL, 3);
            let what = format!("ancestral, {name}, T = 3, {start:?}");
            follows(&what, &mut oracle, &start, &config, &law);
        }
    }
}

/// Sum over all steps of what was seen less what was expected, in standard deviations.
#[derive(Default)]
struct Excess {
    difference: f64,
    variance: f64,
}

impl Excess {
    /// `n` trials of chance `p`.
    fn add(&mut self, seen: usize, n: usize, p: f64) {
        self.difference += seen as f64 - n as f64 * p;
        self.variance += n as f64 * p * (1.0 - p);
    }

    fn check(&self, what: &str) {
        let z = self.difference / self.variance.sqrt();
        println!("{what}: {z:.2} standard deviations off");
        assert!(z.abs() < 4.0, "{what}: {z}");
    }
}

#[test]
fn a_thousand_steps_reveal_what_the_process_wants() {
    const STEPS: usize = 1000;
    for (kind, parameterization) in [
        (SamplerKind::ANCESTRAL, Parameterization::Subs),
        (SamplerKind::ANALYTIC, Parameterization::Sedd),
        (SamplerKind::REMDM_CAP, Parameterization::Subs),
        (SamplerKind::REMDM_RESCALE, Parameterization::Subs),
    ] {
        let mut oracle = Oracle::chain(64);
        oracle.parameterization = parameterization;
        let schedule = oracle.schedule();
        let mut config = settings(kind, STEPS);
        let (mut revealed, mut remasked) = (Excess::default(), Excess::default());
        let (mut early, mut late) = (Excess::default(), Excess::default());
        for seed in 0..10 {
            config.seed = seed;
            let canvases = vec![Canvas::open(64); 8];
            let mut sampler = Sampler::new(&mut oracle, canvases, &config).unwrap();
            let mut masked = 8 * 64;
            while let Some(report) = block_on(sampler.step()).unwrap() {
                let t = 1.0 - (report.step - 1) as f64 / STEPS as f64;
                let at = schedule.alpha_t(t);
                let after = if report.step == STEPS {
                    1.0
                } else {
                    schedule.alpha_t(report.t)
                };
                let most = ((1.0 - after) / at).min(1.0);
                let sigma = match kind.name {
                    "remdm-cap" => most.min(0.02),
                    "remdm-rescale" => most * 0.02,
                    _ => 0.0,
                };
                let p = (after - (1.0 - sigma) * at) / (1.0 - at);
                let part = if t > 0.5 { &mut early } else { &mut late };
                part.add(report.revealed.len(), masked, p);
                revealed.add(report.revealed.len(), masked, p);
                remasked.add(report.remasked.len(), 8 * 64 - masked, sigma);
                masked = masked + report.remasked.len() - report.revealed.len();
                assert_eq!(report.masked, masked);
            }
            assert_eq!(masked, 0);
        }
        revealed.check(&format!("{kind:?}, revealed"));
        early.check(&format!("{kind:?}, revealed before t = 0.5"));
        late.check(&format!("{kind:?}, revealed after it"));
        if remasked.variance > 0.0 {
            remasked.check(&format!("{kind:?}, remasked"));
        }
    }
}

#[test]
fn the_least_probable_tokens_are_masked_again_most_often() {
    const STEPS: usize = 50;
    let mut oracle = Oracle::hidden(24);
    let schedule = oracle.schedule();
    let mut config = settings(SamplerKind::REMDM_CONF, STEPS);
    let (mut count, mut weighted) = (Excess::default(), Excess::default());
    for seed in 0..200 {
        config.seed = seed;
        let canvases = vec![Canvas::open(24)];
        let mut sampler = Sampler::new(&mut oracle, canvases, &config).unwrap();
        // probability at which each token was revealed
        let mut held = [None; 24];
        while let Some(report) = block_on(sampler.step()).unwrap() {
            let t = 1.0 - (report.step - 1) as f64 / STEPS as f64;
            let after = match report.step {
                STEPS => 1.0,
                _ => schedule.alpha_t(report.t),
            };
            let most = ((1.0 - after) / schedule.alpha_t(t)).min(1.0);
            let sum: f64 = held.iter().flatten().map(|p: &f64| (-p).exp()).sum();
            for (position, p) in held.iter().enumerate() {
                let Some(p) = p else { continue };
                let chance = most * (-p).exp() / sum;
                let seen = report.remasked.iter().any(|x| x.position == position);
                let off = f64::from(u8::from(seen)) - chance;
                let variance = chance * (1.0 - chance);
                count.difference += off;
                count.variance += variance;
                weighted.difference += p * off;
                weighted.variance += p * p * variance;
            }
            report.remasked.iter().for_each(|x| held[x.position] = None);
            let revealed = report.revealed.iter();
            revealed.for_each(|x| held[x.position] = Some(x.probability));
        }
        assert!(held.iter().all(Option::is_some));
    }
    count.check("remdm-conf, masked again");
    weighted.check("remdm-conf, their probability");
}

/// Times that the network is told in each call, and times after the steps that called it.
fn times(oracle: &Oracle, config: &SampleConfig) -> [Vec<f64>; 2] {
    let mut oracle = oracle.clone();
    let mut sampler = Sampler::new(&mut oracle, vec![Canvas::open(6)], config).unwrap();
    let mut after = Vec::new();
    while let Some(report) = block_on(sampler.step()).unwrap() {
        if report.network_calls > after.len() {
            after.push(report.t);
        }
    }
    [oracle.asked, after]
}

#[test]
fn the_network_is_told_the_time() {
    let mut oracle = Oracle::chain(6);
    for kind in [NoiseKind::Loglinear, NoiseKind::Cosine] {
        oracle.noise.kind = kind;
        let schedule = oracle.schedule();
        for sampler in [SamplerKind::ANCESTRAL, SamplerKind::REMDM_CAP] {
            let [asked, after] = times(&oracle, &settings(sampler, 10));
            for (asked, after) in asked.iter().zip(after) {
                assert!((asked - after - 0.1).abs() < 1e-12, "{asked} {after}");
            }
        }
        // in the loop, the time at which as many are masked
        let [asked, after] = times(&oracle, &settings(SamplerKind::REMDM_LOOP, 20));
        for (asked, after) in asked.iter().zip(after) {
            let t = after + 0.05;
            if t > 0.1 && t < 0.5 {
                assert!(
                    (schedule.move_chance(*asked) - 0.1).abs() < 1e-9,
                    "{asked} {t}"
                );
            }
        }
        // of n masked positions the first is hit where (P(mask) / P(mask at 1))^n is uniform
        let mut bins = vec![0.0; 10];
        for seed in 0..20_000 {
            let mut config = settings(SamplerKind::FIRST_HITTING, 1);
            config.seed = seed;
            let [asked, after] = times(&oracle, &config);
            assert_eq!((asked.len(), after[..5] == asked[..5]), (6, true));
            assert!(asked.is_sorted_by(|a, b| a > b) && after[5] == 0.0);
            let n = 6.0 - (seed % 6) as f64;
            let before = match seed % 6 {
                0 => 1.0,
                i => asked[i as usize - 1],
            };
            let hit = asked[(seed % 6) as usize];
            let u = (schedule.move_chance(hit) / schedule.move_chance(before)).powf(n);
            bins[((u * 10.0) as usize).min(9)] += 1.0;
        }
        let x = chi_square(&bins, &[2000.0; 10]);
        println!("hit times, {kind:?}: chi-square {x:.1}");
        assert!(x < chi_square_bound(9.0), "{bins:?}");
    }
}
