//! Templates, the reference's samplers, and evaluations that cannot work.

use crate::reference::{Predictor, Reference, autoregressive};
use mdlm::Result;
use mdlm::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, Parameterization};
use mdlm::data::{Blocks, Tokenizer};
use mdlm::eval::{EvalConfig, EvalMode, Judge, perplexity};
use mdlm::model::{Description, Model};
use mdlm::sample::Canvas;
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{load, small, tokenizer, write};
use crate::common::runs::refused;

/// A model of four positions and this objective.
fn model(objective: ObjectiveConfig) -> Model {
    let described = Description {
        model: ModelConfig {
            time_conditioning: objective.parameterization == Parameterization::Sedd,
            ..small(4)
        },
        noise: NoiseConfig::default(),
        objective,
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &described.model, None);
    let path = dir.path().join("config.json");
    std::fs::write(path, described.to_json().unwrap()).unwrap();
    block_on(Model::load(Executor::CpuF32.shared(), dir.path())).unwrap()
}

fn sedd() -> Model {
    model(ObjectiveConfig {
        parameterization: Parameterization::Sedd,
        ..ObjectiveConfig::default()
    })
}

fn recurrent() -> Model {
    let config = ModelConfig {
        kind: ModelKind::Ar,
        ..small(4)
    };
    load(Executor::CpuF32.shared(), &config, None)
}

/// What a template says, read another way: the text outside of masks, and the number of masks.
fn plain(template: &str) -> (String, usize) {
    let mut parts = template.split("[MASK");
    let mut text = parts.next().unwrap().to_owned();
    let mut masks = 0;
    for part in parts {
        let (count, rest) = part.split_once(']').unwrap();
        masks += match count {
            "" => 1,
            _ => count[1..].parse().unwrap(),
        };
        text += rest;
    }
    (text, masks)
}

#[test]
fn no_template_panics() {
    const PIECES: [&str; 18] = [
        "[MASK", "[MASK", "[MASK]", "[MASK:2]", "[MASK:", "]", "]", "[", ":", "3", "65537", "-1",
        "+1", "é", "🙂", "a", "\0", "mask",
    ];
    let mut rng = Rng::new(3, Stream::Shuffle, 0);
    let (bytes, letters) = (Tokenizer::byte(), tokenizer());
    let mut parsed = 0;
    for _ in 0..5000 {
        let count = rng.below(8);
        let template: String = (0..count)
            .map(|_| PIECES[rng.below(PIECES.len() as u64) as usize])
            .collect();
        if let Err(error) = Canvas::parse(&template, &letters) {
            let code = error.code();
            assert!(
                ["argument", "corpus"].contains(&code),
                "{template:?}: {error}"
            );
        }
        // every text has bytes, so that only masks can be wrong
        match Canvas::parse(&template, &bytes) {
            Ok(canvas) => {
                let (text, masks) = plain(&template);
                let tokens = canvas.tokens(bytes.mask_index());
                let frozen = tokens.iter().filter(|&&id| id < 256).map(|&id| id as u8);
                assert_eq!(frozen.collect::<Vec<u8>>(), text.as_bytes(), "{template:?}");
                assert_eq!(canvas.masked().len(), masks, "{template:?}");
                parsed += 1;
            }
            Err(error) => drop(refused(Err::<(), _>(error), "argument", &["template"])),
        }
    }
    println!("{parsed} of 5000 templates are right");
    assert!((500..4500).contains(&parsed), "{parsed}");
}

#[test]
fn the_references_samplers_want_a_model_of_their_kind() {
    let refuse = |model: &mut Model, predictor, parts: &[&str]| {
        let reference = Reference::new(model, predictor, 1, |n| vec![0.5; n]);
        refused(reference.map(|_| ()), "config", parts);
    };
    for predictor in [Predictor::Ddpm, Predictor::DdpmCache] {
        let name = format!("predictor = {predictor:?}");
        refuse(&mut sedd(), predictor, &[&name, "analytic"]);
    }
    for predictor in [Predictor::Ddpm, Predictor::DdpmCache, Predictor::Analytic] {
        refuse(
            &mut recurrent(),
            predictor,
            &["predictor", "autoregressive"],
        );
    }
    let mut denoiser = model(ObjectiveConfig::default());
    for stride in [0, 5] {
        let uniforms = |n| vec![0.5; n];
        let mut reference = Reference::new(&mut denoiser, Predictor::Ddpm, 1, uniforms).unwrap();
        let result = block_on(reference.semi_ar(2, stride, 1, |_| {}));
        refused(result, "config", &[&format!("stride = {stride}"), "1..=4"]);
    }
    let mut ar = recurrent();
    let noise = vec![0.0; 3 * 7];
    assert_eq!(
        block_on(autoregressive(&mut ar, 5, 1, 4, &noise))
            .unwrap()
            .len(),
        4
    );
    for (batch, length) in [(1, 3), (2, 4), (1, 0)] {
        let result = block_on(autoregressive(&mut ar, 5, batch, length, &noise));
        refused(result, "shape", &["gumbel", "elements"]);
    }
    let result = block_on(autoregressive(&mut ar, 7, 1, 4, &noise));
    refused(result, "token", &["token 7 at position 0"]);
    let result = block_on(autoregressive(&mut denoiser, 5, 1, 4, &noise));
    refused(result, "config", &["model.kind = dit", "autoregressive"]);
}

#[test]
fn evaluations_that_cannot_work_are_refused() {
    let blocks = Blocks::new(4, vec![0, 1, 2, 3, 5, 4, 0, 1], 7).unwrap();
    let evaluate = |model: &mut Model, config: EvalConfig| {
        block_on(perplexity(model, &blocks, 2, &config, |_, _| {}))
    };
    let t_steps = EvalConfig {
        t_steps: 10,
        ..EvalConfig::default()
    };
    let mc = EvalConfig {
        mode: EvalMode::Mc,
        ..EvalConfig::default()
    };
    let none = EvalConfig {
        samples: 0,
        ..EvalConfig::default()
    };
    let discrete = ObjectiveConfig {
        parameterization: Parameterization::D3pm,
        t_steps: 10,
        ..ObjectiveConfig::default()
    };
    let parts = ["T = 10", "exact mode"];
    for mut other in [model(discrete), sedd(), recurrent()] {
        refused(evaluate(&mut other, t_steps), "argument", &parts);
        evaluate(&mut other, EvalConfig::default()).unwrap();
    }
    let mut subs = model(ObjectiveConfig::default());
    evaluate(&mut subs, t_steps).unwrap();
    let both = EvalConfig { t_steps: 10, ..mc };
    refused(evaluate(&mut subs, both), "argument", &parts);
    refused(evaluate(&mut subs, none), "argument", &["samples = 0"]);
    for eps in [-0.5, 3.0, f64::NAN] {
        let wrong = EvalConfig {
            sampling_eps: eps,
            ..mc
        };
        refused(
            evaluate(&mut subs, wrong),
            "argument",
            &["sampling_eps", "below 1"],
        );
    }
    let long = Blocks::new(8, vec![0, 1, 2, 3, 5, 4, 0, 1], 7).unwrap();
    let result: Result<_> = block_on(perplexity(
        &mut subs,
        &long,
        2,
        &EvalConfig::default(),
        |_, _| {},
    ));
    refused(result, "argument", &["1 x 8", "the model's 4"]);

    let (own, bytes) = (tokenizer(), Tokenizer::byte());
    let judge = |model: Model, text: &str, tokenizer: &Tokenizer| {
        let samples = [tokenizer.encode(text).unwrap()];
        block_on(Judge::Autoregressive(Box::new(model)).perplexity(&samples, tokenizer))
    };
    judge(recurrent(), "ab", &own).unwrap();
    let parts = ["model.kind = dit", "autoregressive"];
    refused(judge(subs, "ab", &own), "argument", &parts);
    refused(judge(recurrent(), "", &own), "argument", &["samples = 1"]);
    // another vocabulary's text
    judge(recurrent(), "ab", &bytes).unwrap();
    refused(
        judge(recurrent(), "axe", &bytes),
        "corpus",
        &["'x' at position 1"],
    );
}
