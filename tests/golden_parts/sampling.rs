//! The reference's samplers: single steps from given logits, and whole runs token for token.

use std::cell::RefCell;

use crate::common::Executor;
use crate::common::close::Report;
use crate::common::fixtures::{Fixture, short};
use crate::reference::{Position, Predictor, Reference, autoregressive, race};
use mdlm::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, Parameterization};
use mdlm::io::safetensors::Precision;
use mdlm::model::{Backbone, Description, Model, write_weights};
use mdlm::process::Schedule;

/// The fixture's model, through files in the published layout.
async fn model(
    executor: Executor,
    params: &Fixture,
    config: ModelConfig,
    parameterization: Parameterization,
) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let layout = Backbone::new(&config, usize::MAX).unwrap().layout;
    let values: Vec<Vec<f64>> = layout
        .keys()
        .iter()
        .map(|key| params.get(short(&key.key)).unwrap().to_vec())
        .collect();
    let weights = dir.path().join("model.safetensors");
    write_weights(
        &weights,
        &layout,
        config.head_dim(),
        &values,
        Precision::F32,
    )
    .unwrap();
    let described = Description {
        model: config,
        noise: NoiseConfig::default(),
        objective: ObjectiveConfig {
            parameterization,
            ..ObjectiveConfig::default()
        },
    };
    let json = described.to_json().unwrap();
    std::fs::write(dir.path().join("config.json"), json).unwrap();
    Model::load(executor.shared(), dir.path()).await.unwrap()
}

/// Whether a run's name says that it sees sigma.
fn sees_time(name: &str) -> bool {
    name.ends_with("_tc")
}

pub async fn whole_runs(executor: Executor) {
    let (Some(fixture), Some(params)) =
        (Fixture::load("F_sampler_runs"), Fixture::load("params_dit"))
    else {
        return;
    };
    let batch = fixture.number(&["n_samples"]) as usize;
    let runs = fixture.json["runs"].as_object().unwrap();
    assert_eq!(runs.len(), 6);
    for (name, run) in runs {
        let key = |part: &str| format!("{name}.{part}");
        let inputs = (
            fixture.get(&key("u")),
            fixture.tokens(&key("traj")),
            fixture.tokens(&key("x")),
        );
        let (Some(u), Some(trajectory), Some(x)) = inputs else {
            continue;
        };
        let (predictor, parameterization) = match name.as_str() {
            "ddpm" | "ddpm_tc" => (Predictor::Ddpm, Parameterization::Subs),
            "ddpm_cache" | "semi_ar" => (Predictor::DdpmCache, Parameterization::Subs),
            "analytic" => (Predictor::Analytic, Parameterization::Subs),
            "analytic_sedd_tc" => (Predictor::Analytic, Parameterization::Sedd),
            other => panic!("unknown run {other}"),
        };
        let config = params.model(sees_time(name));
        let mut model = model(executor, &params, config, parameterization).await;
        let used = RefCell::new(0);
        let uniforms = |n: usize| {
            let mut used = used.borrow_mut();
            *used += n;
            u[*used - n..*used].to_vec()
        };
        let mut reference = Reference::new(&mut model, predictor, batch, uniforms).unwrap();
        let steps = run["num_steps"].as_u64().unwrap() as usize;
        let mut seen = Vec::new();
        let observe = |xt: &[u32]| seen.extend_from_slice(xt);
        let last = if run["semi"].is_null() {
            reference.sample(steps, observe).await.unwrap();
            reference.xt().to_vec()
        } else {
            let size = |key: &str| run["semi"][key].as_u64().unwrap() as usize;
            let strides = (size("stride"), size("num_strides"));
            let emitted = reference.semi_ar(steps, strides.0, strides.1, observe);
            emitted.await.unwrap()
        };
        assert_eq!(seen, trajectory, "{name} {executor:?}");
        assert_eq!(last, x, "{name} {executor:?}");
        let calls = run["nfe"].as_u64().unwrap() as usize;
        assert_eq!(reference.network_calls(), calls, "{name}");
        assert_eq!(*used.borrow(), u.len(), "{name}: uniforms left over");
        println!(
            "F {name} {executor:?}: {} tokens equal, {calls} calls",
            seen.len()
        );
    }
}

pub async fn autoregressive_run(executor: Executor) {
    let (Some(fixture), Some(params)) = (Fixture::load("D_ar"), Fixture::load("params_ar")) else {
        return;
    };
    let inputs = (
        fixture.get("sampler.gumbel"),
        fixture.tokens("sampler.tokens"),
    );
    let (Some(gumbel), Some(tokens)) = inputs else {
        return;
    };
    let config = ModelConfig {
        kind: ModelKind::Ar,
        ..params.model(false)
    };
    let mut model = model(executor, &params, config, Parameterization::Subs).await;
    let batch = fixture.size("batch");
    let length = tokens.len() / batch;
    let sampled = autoregressive(&mut model, tokens[0], batch, length, gumbel).await;
    assert_eq!(sampled.unwrap(), tokens, "{executor:?}");
}

/// Weights and winners of single steps, from stored logits.
pub fn single_steps() {
    let Some(fixture) = Fixture::load("F_sampler_steps") else {
        return;
    };
    let inputs = (
        fixture.get("logits"),
        fixture.tokens("x"),
        fixture.get("u"),
        fixture.get("timesteps"),
    );
    let (Some(logits), Some(x), Some(u), Some(times)) = inputs else {
        return;
    };
    let (vocab, mask_index) = (
        fixture.size("vocab_size_with_mask"),
        fixture.size("mask_index") as u32,
    );
    let (schedule, dt) = (Schedule::default(), fixture.number(&["dt"]));
    let mut report = Report::new("F_sampler_steps", Executor::CpuF64);
    let steps = fixture.json["steps"].as_object().unwrap();
    assert_eq!(steps.len(), 17);
    for name in steps.keys() {
        let parts: Vec<&str> = name.split('.').collect();
        let parameterization = match parts[0] {
            "subs" => Parameterization::Subs,
            "d3pm" => Parameterization::D3pm,
            "sedd" => Parameterization::Sedd,
            other => panic!("{other}"),
        };
        let i: usize = parts[2][1..].parse().unwrap();
        let (t, s) = (times[i], times[i] - dt);
        let sigma = schedule.sigma(t);
        let positions = || {
            let rows = logits.chunks_exact(vocab).zip(&x);
            rows.map(|(logits, &token)| Position {
                logits,
                token,
                mask_index,
                parameterization,
            })
        };
        let dsigma = match parts[1] {
            "denoise" => sigma,
            _ => sigma - schedule.sigma(s),
        };
        let weights = |p: Position<'_>| match parts[1] {
            "ddpm" => p.ancestral(sigma, schedule.move_chance(t), schedule.move_chance(s)),
            "ddpm_cache" => p.ancestral(sigma, t, s),
            "analytic" => p.analytic(sigma, dsigma, false),
            "denoise" => p.analytic(sigma, dsigma, true),
            other => panic!("{other}"),
        };
        type Step<'a> = (&'a str, &'a dyn Fn(Position<'_>) -> Vec<f64>);
        let tensors: [Step<'_>; 5] = [
            ("model_output", &|p| p.output(sigma)),
            ("probs", &weights),
            ("score", &|p| p.score(sigma)),
            ("stag_score", &|p| p.staggered(sigma, dsigma)),
            ("transp", &|p| p.transition(dsigma)),
        ];
        for (tensor, f) in tensors {
            let key = format!("{name}.{tensor}");
            if !fixture.keys().any(|k| k == key) {
                continue;
            }
            if let Some(golden) = fixture.get(&key) {
                let got: Vec<f64> = positions().flat_map(f).collect();
                report.with_sentinels(&key, &got, golden, 1e-6);
            }
        }
        if let Some(golden) = fixture.tokens(&format!("{name}.next")) {
            let rows = positions().zip(u.chunks_exact(vocab));
            let next: Vec<u32> = rows
                .map(|(p, u)| {
                    // ancestral steps leave what is not masked alone
                    if p.token != mask_index && parts[1].starts_with("ddpm") {
                        p.token
                    } else {
                        race(&weights(p), u)
                    }
                })
                .collect();
            assert_eq!(next, golden, "{name}");
        }
    }
    report.finish();
}
