//! GIDD's steps against those of the public code: the probabilities of a denoising step, and a correction.

use crate::FIXTURES;
use crate::common::Executor;
use crate::common::close::Report;
use crate::common::hybrid::posterior;
use mdlm::model::Load;
use mdlm::rules::Filled;
use mdlm::sample::{Denoiser, Draw, DrawOptions, Drawn, Facts, Sampler};
use mdlm::{Canvas, Model, Result, SampleConfig, SamplerKind};

const MASK: u32 = 40;
const LENGTH: usize = 16;

/// A row's distribution over all tokens but the mask, the last one, at a temperature.
fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits[..MASK as usize]
        .iter()
        .map(|z| (z / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The formula that the sampler is held to in `tests/sampler_law` is the public code's.
#[test]
fn the_posterior_is_the_published_one() {
    let Some(fixture) = FIXTURES.load("gidd_sampler") else {
        return;
    };
    let xt = fixture.tokens("input_ids").unwrap();
    let mut report = Report::new("gidd_sampler", Executor::CpuF64);
    for (key, run) in fixture.json["runs"].as_object().unwrap() {
        let number = |name: &str| run[name].as_f64().unwrap();
        let logits = fixture.get(&format!("{key}.logits")).unwrap();
        let golden = fixture.get(&format!("{key}.posterior")).unwrap();
        let rows = xt.iter().zip(logits.chunks(MASK as usize + 1));
        let law = rows.flat_map(|(&z, logits)| {
            let x = softmax(logits, 1.0);
            posterior(number("p_uniform"), [number("t"), number("s")], z, &x)
        });
        report.relative_to_max(key, &law.collect::<Vec<f64>>(), golden, 1e-6);
    }
    report.finish();
}

async fn model(executor: Executor) -> Option<Model> {
    let folder = FIXTURES.folder_of("gidd")?;
    let how = Load {
        mask: Some(MASK),
        ..Load::default()
    };
    Some(
        Model::load_with(executor.shared(), &folder, &how)
            .await
            .unwrap(),
    )
}

/// What draws at filled rows say: of what stands there, or of another token at a temperature.
pub async fn draws(name: &str, executor: Executor) {
    let (Some(fixture), Some(mut model)) = (FIXTURES.load("gidd_sampler"), model(executor).await)
    else {
        return;
    };
    let canvas = fixture.tokens("correction.canvas").unwrap();
    let logits = fixture.get("correction.logits").unwrap();
    let rows: Vec<u32> = (0..2 * LENGTH as u32).collect();
    let mut report = Report::new(name, executor);
    let mut tokens = Vec::new();
    for (filled, temperature) in [
        (Filled::Said, 1.0),
        (Filled::Judged, 1.0),
        (Filled::Anew(0.5), 0.5),
        (Filled::Said, 1.0),
    ] {
        let options = DrawOptions {
            temperature,
            filled,
            keys: vec![[3, 4]],
            ..DrawOptions::default()
        };
        let drawn = model
            .draw(&canvas, &[0.01; 2], &rows, &options)
            .await
            .unwrap();
        let [mut said, mut expected] = [Vec::new(), Vec::new()];
        for ((draw, &stands), logits) in drawn.draws.iter().zip(&canvas).zip(logits.chunks(41)) {
            assert_eq!(draw.stood, Some(stands));
            let of = if filled == Filled::Judged {
                stands
            } else {
                draw.token
            };
            assert!(filled != Filled::Said || draw.token == stands);
            said.push(draw.probability);
            expected.push(softmax(logits, temperature)[of as usize]);
        }
        let same = drawn
            .draws
            .iter()
            .zip(&canvas)
            .filter(|(draw, token)| draw.token == **token);
        assert!(filled == Filled::Said || same.count() < LENGTH);
        report.relative_to_max(&format!("{filled:?}"), &said, &expected, 2e-5);
        tokens.push(
            drawn
                .draws
                .iter()
                .map(|draw| draw.token)
                .collect::<Vec<u32>>(),
        );
    }
    report.finish();
    // the same numbers are drawn with whether something stands or not
    let open = vec![MASK; canvas.len()];
    let options = DrawOptions {
        keys: vec![[3, 4]],
        ..DrawOptions::default()
    };
    let drawn = model
        .draw(&open, &[0.01; 2], &rows, &options)
        .await
        .unwrap();
    assert!(drawn.draws.iter().all(|draw| draw.stood.is_none()));
    assert_eq!(tokens[0], canvas);
}

/// A denoiser that draws what the fixture has drawn.
struct Told {
    facts: Facts,
    draws: Vec<Draw>,
}

impl Denoiser for Told {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    async fn draw(
        &mut self,
        _: &[u32],
        t: &[f64],
        _: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        assert_eq!((t[0], options.filled), (0.01, Filled::Anew(0.5)));
        Ok(Drawn {
            draws: self.draws.clone(),
            calls: 1,
        })
    }
}

/// The step of the public code changes the same token.
#[test]
fn a_correction_is_the_published_one() {
    pollster::block_on(async {
        let model = model(Executor::CpuF32).await;
        let (Some(fixture), Some(model)) = (FIXTURES.load("gidd_sampler"), model) else {
            return;
        };
        let tensor = |key: &str| fixture.tokens(&format!("correction.{key}")).unwrap();
        let (canvas, drawn, after) = (tensor("canvas"), tensor("drawn"), tensor("after"));
        let logits = fixture.get("correction.logits").unwrap();
        for row in 0..2 {
            let part = row * LENGTH..(row + 1) * LENGTH;
            let draws = part.clone().map(|at| Draw {
                token: drawn[at],
                probability: softmax(&logits[at * 41..][..41], 0.5)[drawn[at] as usize],
                entropy: 0.0,
                log_total: 0.0,
                margin: 0.0,
                drift: f64::INFINITY,
                stood: Some(canvas[at]),
            });
            let told = Told {
                facts: model.facts(),
                draws: draws.collect(),
            };
            let config = SampleConfig {
                sampler: SamplerKind::HYBRID,
                steps: 1,
                ..SampleConfig::default()
            };
            let config = config
                .with("corrections", 1.0)
                .with("correction_temperature", 0.5);
            let open = Canvas::of(canvas[part.clone()].iter().map(|&id| (Some(id), false)));
            let sampler = Sampler::new(told, vec![open], &config).unwrap();
            let made = sampler.finish(|_| std::ops::ControlFlow::Continue(()));
            let tokens = made.await.unwrap().tokens(MASK);
            assert_eq!(tokens, after[part.clone()]);
            assert_ne!(tokens, canvas[part]);
        }
    });
}

/// As it is sampled unless told otherwise: no mask is left, and nothing is written that stands for nothing.
pub async fn samples(_: &str, executor: Executor) {
    let Some(mut model) = model(executor).await else {
        return;
    };
    let mut config = model.sampling();
    assert_eq!((config.sampler.name, config.steps), ("hybrid", 128));
    config.steps = 12;
    for (prompt, config) in [
        (&[][..], config.clone()),
        (&[3, 9, 27], config.with("corrections", 8.0)),
    ] {
        let canvas = Canvas::prompt(prompt, LENGTH).unwrap();
        let mut changed = 0;
        let sampler = model.sampler(canvas, &config).unwrap();
        let made = sampler.finish(|report| {
            changed += report.revealed.len();
            std::ops::ControlFlow::Continue(())
        });
        let tokens = made.await.unwrap().tokens(MASK);
        assert!(tokens.iter().all(|&token| token < MASK) && tokens.starts_with(prompt));
        assert!(changed >= LENGTH - prompt.len());
    }
}
