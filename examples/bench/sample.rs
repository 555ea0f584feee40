//! Sampling with every rule and with the reference's algorithms, on models with random weights.
//!
//! The cost of a sampler hangs on its network calls, and on what a call computes. The reference runs
//! the network in every step and draws on the host, one uniform variate for each position and token.
//! Runs of all samplers take turns, so that a busy machine troubles all of them alike.

use std::time::Instant;

use crate::reference::{Predictor, Reference, autoregressive};
use anyhow::Context;
use mdlm::blocking::wait;
use mdlm::config::ModelKind;
use mdlm::{Canvas, Device, Error, Model, ModelConfig, SampleConfig, SamplerKind};
use serde_json::{Value, json};

use crate::{Shape, median, random};

#[derive(Clone, Copy, clap::Args)]
pub struct SampleShape {
    #[command(flatten)]
    shape: Shape,
    /// Steps for each token of the samplers that have a number of steps.
    #[arg(long, default_value_t = 2.0)]
    steps_per_token: f64,
}

impl SampleShape {
    /// Refuses sizes that no model has, or that nothing can be measured with.
    pub fn check(self) -> mdlm::Result<()> {
        self.shape.check()?;
        let problem = "must be above 0 and at most 1000";
        if !(self.steps_per_token > 0.0 && self.steps_per_token <= 1000.0) {
            return Err(Error::config(
                "steps_per_token",
                self.steps_per_token,
                problem,
            ));
        }
        if self.shape.length < 2 {
            let problem = "must be at least 2: a token and one that it follows";
            return Err(Error::config("length", self.shape.length, problem));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    /// A sampler, and its tokens in a call.
    Ours(SamplerKind, usize),
    /// Left to right with an autoregressive model.
    Decode,
    Reference(Predictor),
    ReferenceAr,
    /// One call of the reference's network.
    Call,
}

const REFERENCES: [(&str, Method); 4] = [
    ("reference", Method::Reference(Predictor::Ddpm)),
    ("reference-cached", Method::Reference(Predictor::DdpmCache)),
    ("reference-ar", Method::ReferenceAr),
    ("call", Method::Call),
];

const OURS: [(&str, Method); 8] = [
    ("ancestral", Method::Ours(SamplerKind::ANCESTRAL, 1)),
    ("first-hitting", Method::Ours(SamplerKind::FIRST_HITTING, 1)),
    (
        "first-hitting-2",
        Method::Ours(SamplerKind::FIRST_HITTING, 2),
    ),
    ("confidence", Method::Ours(SamplerKind::CONFIDENCE, 1)),
    ("threshold", Method::Ours(SamplerKind::THRESHOLD, 1)),
    ("entropy-bound", Method::Ours(SamplerKind::ENTROPY_BOUND, 1)),
    ("remdm-cap", Method::Ours(SamplerKind::REMDM_CAP, 1)),
    ("left-to-right", Method::Decode),
];

/// What is measured of a method.
struct Case {
    name: &'static str,
    method: Method,
    /// Milliseconds, rising in the end.
    times: Vec<f64>,
    calls: usize,
}

/// Models of one size with random weights, and the numbers that the reference draws with.
struct Bench {
    length: usize,
    batch: usize,
    steps: usize,
    dit: Model,
    ar: Model,
    gumbel: Vec<f64>,
}

impl Bench {
    fn new(device: &Device, shape: Shape, batch: usize, steps: usize) -> mdlm::Result<Self> {
        let dit = shape.model();
        let ar = ModelConfig {
            kind: ModelKind::Ar,
            ..dit.clone()
        };
        Ok(Self {
            length: shape.length,
            batch,
            steps,
            dit: wait(Model::new(device, &dit, 1))?,
            ar: wait(Model::new(device, &ar, 1))?,
            gumbel: random(shape.length.saturating_sub(1) * shape.vocab),
        })
    }

    /// Samples once; network calls.
    fn sample(&mut self, method: Method) -> mdlm::Result<usize> {
        match method {
            Method::Ours(sampler, tokens_per_call) => {
                let mut config = SampleConfig {
                    sampler,
                    ..SampleConfig::default()
                };
                if tokens_per_call > 1 {
                    config = config.with("tokens_per_call", tokens_per_call as f64);
                }
                if sampler.has_steps {
                    config.steps = self.steps;
                }
                fill(
                    &mut self.dit,
                    Canvas::open(self.length),
                    self.batch,
                    &config,
                )
            }
            Method::Decode => {
                let canvas = Canvas::prompt(&[0], self.length)?;
                fill(&mut self.ar, canvas, self.batch, &SampleConfig::default())
            }
            Method::Reference(predictor) => {
                let uniforms = uniforms(1);
                let mut reference = Reference::new(&mut self.dit, predictor, 1, uniforms)?;
                wait(reference.sample(self.steps, |_| {}))?;
                Ok(reference.network_calls())
            }
            Method::ReferenceAr => {
                let sampled = autoregressive(&mut self.ar, 0, 1, self.length, &self.gumbel);
                Ok(wait(sampled)?.len() - 1)
            }
            Method::Call => {
                let masks = vec![self.dit.mask_index(); self.length];
                wait(self.dit.logits(&masks, &[0.0]))?;
                Ok(1)
            }
        }
    }

    /// Measures all cases in turns, at least three times after a warm-up.
    fn measure(
        &mut self,
        methods: &[(&'static str, Method)],
        seconds: f64,
    ) -> mdlm::Result<Vec<Case>> {
        let mut cases = Vec::new();
        for &(name, method) in methods {
            let calls = self.sample(method)?;
            cases.push(Case {
                name,
                method,
                times: Vec::new(),
                calls,
            });
        }
        let begin = Instant::now();
        let total = seconds * cases.len() as f64;
        while cases[0].times.len() < 3 || begin.elapsed().as_secs_f64() < total {
            for case in &mut cases {
                let start = Instant::now();
                self.sample(case.method)?;
                case.times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        for case in &mut cases {
            case.times.sort_by(f64::total_cmp);
        }
        Ok(cases)
    }

    /// Tokens that a run makes.
    fn tokens(&self, method: Method) -> usize {
        match method {
            Method::Ours(..) => self.length * self.batch,
            Method::Decode => (self.length - 1) * self.batch,
            Method::Reference(_) | Method::Call => self.length,
            Method::ReferenceAr => self.length - 1,
        }
    }

    fn rate(&self, case: &Case) -> f64 {
        self.tokens(case.method) as f64 / median(&case.times) * 1e3
    }
}

/// Fills a batch of equal canvases; network calls.
fn fill(
    model: &mut Model,
    canvas: Canvas,
    batch: usize,
    config: &SampleConfig,
) -> mdlm::Result<usize> {
    let mut sampler = model.sampler_batch(vec![canvas; batch], config)?;
    let mut calls = 0;
    while let Some(report) = wait(sampler.step())? {
        calls = report.network_calls;
    }
    Ok(calls)
}

/// Uniform variates in [0, 1) that cost next to nothing (SplitMix64), in place of the crate's own: what
/// is measured is what the reference does with them.
fn uniforms(mut state: u64) -> impl FnMut(usize) -> Vec<f64> {
    let mut next = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    move |n| (0..n).map(|_| next()).collect()
}

/// Prints a line for each sampler, at batch 1 and at the shape's.
pub fn run(sizes: &SampleShape, device: &Device, seconds: f64) -> anyhow::Result<()> {
    let shape = sizes.shape;
    anyhow::ensure!(shape.batch > 0, "--batch must be at least 1");
    let steps = ((shape.length as f64 * sizes.steps_per_token) as usize).max(1);
    let mut first = Bench::new(device, shape, 1, steps)?;
    let all = first.measure(&[&REFERENCES[..], &OURS].concat(), seconds)?;
    let named = |name: &str| all.iter().find(|case| case.name == name);
    let rates = |name: &str| named(name).map(|case| first.rate(case));
    let call = named("call").map(|case| median(&case.times));
    let plain = named("reference").context("the reference was measured")?;
    // what the reference would do if it did nothing but call the network
    let network = call.map(|ms| shape.length as f64 / (plain.calls as f64 * ms) * 1e3);

    let line = |bench: &Bench, case: &Case| -> Value {
        let rate = bench.rate(case);
        let ratio = |to: Option<f64>| to.map(|to| rate / to);
        let recurrent = [Method::Decode, Method::ReferenceAr].contains(&case.method);
        let batch = bench.batch;
        let shape = Shape { batch, ..shape };
        let mut line = json!({
            "name": case.name,
            "shape": shape.label(),
            "device": device.info().name,
            "batch": batch,
            "steps": steps,
            "network_calls": case.calls,
            "median_ms": median(&case.times),
            "min_ms": case.times[0],
            "max_ms": case.times[case.times.len() - 1],
            "tokens_per_s": rate,
        });
        if recurrent {
            line["ratio"] = json!(ratio(rates("reference-ar")));
        } else {
            line["ratio"] = json!(ratio(rates("reference")));
            line["ratio_cached"] = json!(ratio(rates("reference-cached")));
            line["ratio_network"] = json!(ratio(network));
        }
        line
    };
    for case in all.iter().filter(|case| case.method != Method::Call) {
        println!("{}", line(&first, case));
    }
    if shape.batch != 1 {
        let mut batch = Bench::new(device, shape, shape.batch, steps)?;
        for case in &batch.measure(&OURS, seconds)? {
            println!("{}", line(&batch, case));
        }
    }
    Ok(())
}
