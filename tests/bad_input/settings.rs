//! Kinds, objectives and noise that do not exist or do not go together, in settings and on disk.

use std::fs;

use mdlm::Result;
use mdlm::config::{ModelKind, NoiseConfig, NoiseKind, TrainConfig};
use mdlm::io::checkpoint::save;
use mdlm::model::Model;
use pollster::block_on;
use serde_json::{Value, json};

use crate::common::Executor;
use crate::common::models::{published, small, write};
use crate::common::runs::{checkpoint, config, contents, refused, start};

/// The defaults with these settings, checked.
fn checked(settings: &[&str]) -> Result<TrainConfig> {
    let mut config = TrainConfig::default();
    settings.iter().try_for_each(|s| config.set(s))?;
    config.validate()?;
    Ok(config)
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let samplers: Vec<_> = mdlm::rules::ALL.iter().map(|kind| kind.name).collect();
    let schedules = [
        "loglinear",
        "cosine",
        "cosinesqr",
        "linear",
        "geometric",
        "polynomial",
    ];
    let cases: [(&str, &str, &[&str]); 6] = [
        ("sampling.sampler", "ddpm_cache", &samplers),
        ("noise.type", "sigmoid", &schedules),
        ("noise.type", "Loglinear", &schedules),
        (
            "objective.parameterization",
            "mdlm",
            &["subs", "d3pm", "sedd"],
        ),
        ("model.kind", "gpt2", &["dit", "ar"]),
        ("optim.schedule", "linear", &["constant", "cosine"]),
    ];
    for (key, name, known) in cases {
        let named = format!("config {key} = {name}");
        let parts = [&[named.as_str()], known].concat();
        refused(checked(&[&format!("{key}={name}")]), "config", &parts);
        let (section, key) = key.split_once('.').unwrap();
        let file = format!("[{section}]\n{key} = \"{name}\"\n");
        refused(TrainConfig::from_toml(&file), "config", &parts);
    }
}

#[test]
fn objectives_that_contradict_themselves_are_refused_with_the_reason() {
    const SEDD: &str = "objective.parameterization=sedd";
    const D3PM: &str = "objective.parameterization=d3pm";
    const T: &str = "objective.T=1000";
    const IMPORTANCE: &str = "objective.importance_sampling=true";
    const VARIABLES: &str = "objective.change_of_variables=true";
    const COSINE: &str = "noise.type=cosine";
    const SEES_TIME: &str = "model.time_conditioning=true";
    const AR: &str = "model.kind=ar";
    let cases: [(&[&str], &[&str]); 20] = [
        (
            &[SEDD],
            &[
                "objective.parameterization = sedd",
                "model.time_conditioning",
            ],
        ),
        (&[SEDD, SEES_TIME, T], &["objective.T = 1000", "continuous"]),
        (&[D3PM], &["objective.T = 0", "number of steps"]),
        (&[D3PM, T, COSINE], &["objective.T = 1000", "loglinear"]),
        (&[T, COSINE], &["objective.T = 1000", "loglinear"]),
        (
            &["objective.T=1048577"],
            &["objective.T = 1048577", "at most"],
        ),
        (
            &["objective.subs_masking=true"],
            &["objective.subs_masking = true", "d3pm"],
        ),
        (
            &[SEDD, SEES_TIME, "objective.subs_masking=true"],
            &["objective.subs_masking = true", "d3pm"],
        ),
        (
            &[IMPORTANCE, VARIABLES],
            &[
                "objective.change_of_variables = true",
                "importance_sampling",
            ],
        ),
        (
            &[IMPORTANCE, T],
            &["objective.importance_sampling", "T = 0"],
        ),
        (&[VARIABLES, T], &["objective.change_of_variables", "T = 0"]),
        (
            &["objective.block_size=4", "model.time_conditioning=true"],
            &[
                "objective.block_size = 4",
                "model.time_conditioning = false",
            ],
        ),
        (
            &["objective.block_size=99999"],
            &["objective.block_size = 99999", "the model's length"],
        ),
        (
            &["model.adaln=false", "model.time_conditioning=true"],
            &["model.time_conditioning", "model.adaln = true"],
        ),
        (
            &[SEDD, SEES_TIME, IMPORTANCE],
            &["objective.importance_sampling", "parameterization = subs"],
        ),
        (
            &[IMPORTANCE, COSINE],
            &["objective.importance_sampling", "loglinear or linear"],
        ),
        (
            &[VARIABLES, "noise.type=geometric"],
            &["objective.change_of_variables", "loglinear or linear"],
        ),
        (&[AR, T], &["objective.", "autoregressive"]),
        (&[AR, D3PM, T], &["objective.", "autoregressive"]),
        (
            &[AR, SEES_TIME],
            &["model.time_conditioning", "autoregressive"],
        ),
    ];
    for (settings, parts) in cases {
        refused(checked(settings), "config", parts);
    }
    // and what looks like these, but goes together
    let good: [&[&str]; 6] = [
        &[SEDD, SEES_TIME],
        &[D3PM, T, "objective.subs_masking=true"],
        &[T],
        &[IMPORTANCE],
        &[VARIABLES, "noise.type=linear"],
        &[AR, COSINE],
    ];
    for settings in good {
        checked(settings).unwrap_or_else(|e| panic!("{settings:?}: {e}"));
    }
}

#[test]
fn noise_out_of_range_is_refused() {
    for (settings, parts) in [
        (
            &["noise.sigma_min=0"][..],
            ["noise.sigma_min = 0", "above 0"],
        ),
        (&["noise.sigma_min=-1"], ["noise.sigma_min = -1", "above 0"]),
        (
            &["noise.sigma_min=nan"],
            ["noise.sigma_min = NaN", "finite"],
        ),
        (
            &["noise.sigma_max=inf"],
            ["noise.sigma_max = inf", "finite"],
        ),
        (
            &["noise.sigma_max=0.001"],
            ["noise.sigma_max = 0.001", "above noise.sigma_min"],
        ),
        (
            &["noise.sigma_min=3", "noise.sigma_max=2"],
            ["noise.sigma_max = 2", "above noise.sigma_min"],
        ),
        (&["noise.power=0"], ["noise.power = 0", "above 0"]),
        (&["noise.power=inf"], ["noise.power = inf", "finite"]),
        (&["noise.power=two"], ["noise.power = two", "invalid type"]),
    ] {
        refused(checked(settings), "config", &parts);
    }
}

/// A model's folder in the published layout, with entries of its `config.json` replaced.
fn load_with(entries: &[(&str, Value)]) -> Result<Model> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    let mut described = published(&small(16));
    for (key, value) in entries {
        described[*key] = value.clone();
    }
    fs::write(dir.path().join("config.json"), described.to_string()).unwrap();
    block_on(Model::load(Executor::CpuF32.shared(), dir.path()))
}

#[test]
fn a_published_folder_is_held_to_the_same() {
    let d3pm = json!({"parameterization": "d3pm"});
    refused(
        load_with(&[("objective", d3pm)]),
        "config",
        &["objective.T = 0"],
    );
    let sedd = json!({"parameterization": "sedd"});
    let parts = ["objective.parameterization = sedd", "time_conditioning"];
    refused(load_with(&[("objective", sedd)]), "config", &parts);
    let sedd = json!({"parameterization": "sedd", "temperature": 1});
    let parts = ["config.json", "unknown field `temperature`", "subs_masking"];
    refused(load_with(&[("objective", sedd)]), "checkpoint", &parts);
    let sigmoid = json!({"type": "sigmoid"});
    let parts = ["config.json", "unknown variant `sigmoid`", "polynomial"];
    refused(load_with(&[("noise", sigmoid)]), "checkpoint", &parts);
    let backwards = json!({"type": "linear", "sigma_min": 2.0, "sigma_max": 1.0});
    let parts = ["noise.sigma_max = 1"];
    refused(load_with(&[("noise", backwards)]), "config", &parts);
    // the weights are a denoiser's
    let parts = ["model.safetensors", "adaLN_modulation", "unexpected"];
    refused(
        load_with(&[("model_type", json!("ar"))]),
        "checkpoint",
        &parts,
    );
}

#[test]
fn a_models_noise_must_go_with_its_objective() {
    let noise = |kind| NoiseConfig {
        kind,
        ..NoiseConfig::default()
    };
    let d3pm = json!({"parameterization": "d3pm", "T": 1000});
    let mut model = load_with(&[("objective", d3pm)]).unwrap();
    let parts = ["objective.T = 1000", "loglinear"];
    let result = model.set_noise(noise(NoiseKind::Cosine));
    refused(result, "config", &parts);
    let wrong = NoiseConfig {
        power: f64::NAN,
        ..NoiseConfig::default()
    };
    refused(model.set_noise(wrong), "config", &["noise.power = NaN"]);
    // the noise before stays
    assert_eq!(*model.noise(), NoiseConfig::default());
    let variables = json!({"change_of_variables": true});
    let mut model = load_with(&[("objective", variables)]).unwrap();
    model.set_noise(noise(NoiseKind::Linear)).unwrap();
    let result = model.set_noise(noise(NoiseKind::Polynomial));
    refused(result, "config", &["change_of_variables", "linear"]);
    assert_eq!(model.noise().kind, NoiseKind::Linear);
    load_with(&[])
        .unwrap()
        .set_noise(noise(NoiseKind::Cosine))
        .unwrap();
}

/// A checkpoint whose settings describe another model than its tensors are of.
#[test]
fn a_checkpoint_of_another_model_names_the_tensors_that_differ() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let denoiser = dir.path().join("denoiser");
    start(device, &config(1), &denoiser, 1);
    let mut recurrent = config(1);
    recurrent.model.kind = ModelKind::Ar;
    recurrent.model.time_conditioning = false;
    let ar = dir.path().join("ar");
    start(device, &recurrent, &ar, 1);
    let (denoiser, ar) = (checkpoint(&denoiser, 1), checkpoint(&ar, 1));
    load(&denoiser).unwrap();
    load(&ar).unwrap();
    // the files of `from`, but the settings of `settings`, some of them replaced
    let mixed = |from: &std::path::Path, settings: &std::path::Path, old: &str, new: &str| {
        let text = fs::read_to_string(settings.join("config.toml")).unwrap();
        assert!(text.contains(old), "{text}");
        let folder = tempfile::tempdir_in(dir.path()).unwrap();
        let saved = save(folder.path(), 1, |out| {
            let files = contents(from).into_iter();
            for (name, bytes) in files.filter(|(name, _)| name != "manifest.json") {
                fs::write(out.join(name), bytes).unwrap();
            }
            fs::write(out.join("config.toml"), text.replace(old, new)).unwrap();
            Ok(())
        });
        load(&saved.unwrap()).map(|_| ())
    };
    let cases = [
        (&denoiser, &ar, "", "", ["sigma_map", "unexpected"]),
        (&ar, &denoiser, "", "", ["sigma_map", "missing"]),
        (
            &denoiser,
            &denoiser,
            "n_blocks = 1",
            "n_blocks = 2",
            ["backbone.blocks.1.", "missing"],
        ),
        (
            &denoiser,
            &denoiser,
            "hidden_size = 32",
            "hidden_size = 64",
            ["backbone.", "expected [64"],
        ),
        (
            &denoiser,
            &denoiser,
            "cond_dim = 16",
            "cond_dim = 24",
            ["backbone.sigma_map.mlp.0", "expected [24"],
        ),
    ];
    for (from, settings, old, new, parts) in cases {
        let parts = [&["ema.safetensors"], &parts[..]].concat();
        refused(mixed(from, settings, old, new), "checkpoint", &parts);
    }
    for (old, new, parts) in [
        (
            "kind = \"dit\"",
            "kind = \"gpt2\"",
            ["model.kind = gpt2", "dit"],
        ),
        (
            "sigma_min = 0.001",
            "sigma_min = -1.0",
            ["noise.sigma_min = -1", "above 0"],
        ),
        ("T = 0", "T = 2000000", ["objective.T = 2000000", "at most"]),
    ] {
        refused(mixed(&denoiser, &denoiser, old, new), "config", &parts);
    }
}

fn load(path: &std::path::Path) -> Result<Model> {
    block_on(Model::load(Executor::CpuF32.shared(), path))
}
