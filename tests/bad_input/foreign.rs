//! Folders of other programs' models that cannot be used as they are.

use std::fs;
use std::path::{Path, PathBuf};

use mdlm::Canvas;
use mdlm::io::safetensors::Precision;
use mdlm::model::{Load, Model};
use mdlm_engine::program::Element;
use pollster::block_on;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::Executor;
use crate::common::runs::refused;

/// A copy of a model of the fixtures, to be spoilt.
fn copy(name: &str) -> (TempDir, PathBuf) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden_llm")
        .join(name);
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

fn load(dir: &Path, how: &Load) -> mdlm::Result<Model> {
    block_on(Model::load_with(Executor::CpuF32.shared(), dir, how))
}

#[test]
fn kinds_that_are_not_there_are_named() {
    let (_guard, dir) = copy("qwen3_a2d");
    for (model_type, reason) in [
        ("llada2_moe", "mixture of experts"),
        ("lladamoe", "mixture of experts"),
        ("diffusion_gemma", "mixture of experts"),
        ("llada_vl", "images"),
        ("qwen3", "a2d-qwen3"),
        ("mamba", "not known"),
    ] {
        edit(&dir.join("config.json"), |c| {
            c["model_type"] = json!(model_type)
        });
        refused(
            load(&dir, &Load::default()),
            "checkpoint",
            &[model_type, reason],
        );
    }
    edit(&dir.join("config.json"), |c| {
        c["model_type"] = json!("smdm")
    });
    let parts = ["model.safetensors", "transformer.wte.weight", "SMDM"];
    refused(load(&dir, &Load::default()), "checkpoint", &parts);
    edit(&dir.join("config.json"), |c| *c = json!({}));
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &["config.json", "model_type"],
    );
    refused(
        load(&dir.join("model.safetensors"), &Load::default()),
        "checkpoint",
        &["model.safetensors", "weights alone", "--model-type smdm"],
    );
    refused(
        load(&dir.join("tokenizer.json"), &Load::default()),
        "checkpoint",
        &["tokenizer.json", "no GGUF file"],
    );
}

#[test]
fn gidd_says_what_it_lacks() {
    let (_guard, dir) = copy("gidd");
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &["which id the mask is"],
    );
    let masked = Load {
        mask: Some(40),
        ..Load::default()
    };
    let mut model = load(&dir, &masked).unwrap();
    let blocks = mdlm::data::Blocks::new(16, vec![1; 16], 41).unwrap();
    let config = mdlm::EvalConfig::default();
    let score = mdlm::perplexity(&mut model, &blocks, 1, &config, |_, _| {});
    refused(
        block_on(score).map(|_| ()),
        "argument",
        &["dit", "sampled only"],
    );
    let mut run = mdlm::TrainConfig::default();
    run.base.path = dir.display().to_string();
    run.base.mask = Some(40);
    let begun = mdlm::model::read_base(&mut run);
    refused(begun, "config", &["base.path", "sampled only"]);
    for (key, value, part) in [
        ("p_uniform", json!(1.0), "p_uniform must be"),
        ("t_eps", json!(0.0), "t_eps above 0"),
        ("num_attention_heads", json!(3), "sizes cannot be"),
        ("hidden_size", json!("wide"), "hidden_size"),
        ("vocab_size", json!(42), "expected [42, 32]"),
    ] {
        let (_guard, dir) = copy("gidd");
        edit(&dir.join("config.json"), |c| c[key] = value);
        refused(load(&dir, &masked), "checkpoint", &[part]);
    }
}

#[test]
fn uniform_noise_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let config = mdlm::ModelConfig {
        time_conditioning: true,
        ..crate::common::models::small(12)
    };
    crate::common::models::write(dir.path(), &config, None);
    let duo = Load {
        model_type: Some("duo".to_owned()),
        mask: Some(config.mask_index),
        ..Load::default()
    };
    load(dir.path(), &duo).unwrap();
    for (key, value, part) in [
        ("causal", json!(true), "causal false"),
        ("cfg", json!(true), "cfg false"),
        ("time_conditioning", json!(false), "time_conditioning true"),
        ("n_heads", json!(3), "sizes cannot be"),
    ] {
        let path = dir.path().join("config.json");
        let before = std::fs::read(&path).unwrap();
        edit(&path, |c| c[key] = value);
        refused(load(dir.path(), &duo), "checkpoint", &[part]);
        std::fs::write(path, before).unwrap();
    }
}

/// Sizes come from the weights, and heads from what was published.
#[test]
fn smdm_says_what_it_lacks() {
    let (_guard, dir) = copy("smdm");
    assert_eq!(load(&dir, &Load::default()).unwrap().mask_index(), 44);
    let file = dir.join("model.safetensors");
    let alone = Load {
        model_type: Some("smdm".to_owned()),
        ..Load::default()
    };
    let parts = ["32 wide", "n_head", "config.json"];
    refused(load(&file, &alone), "checkpoint", &parts);
    let other = Load {
        mask: Some(3),
        ..Load::default()
    };
    refused(load(&dir, &other), "argument", &["mask", "44"]);
    let adapter = Load {
        adapter: Some(dir.clone()),
        ..alone.clone()
    };
    refused(load(&file, &adapter), "argument", &["adapter"]);
    for (n_head, part) in [
        (json!(3), "sizes cannot be"),
        (json!(1), "have 64 rows"),
        (json!("many"), "n_head"),
        (Value::Null, "say the number of heads"),
    ] {
        edit(&dir.join("config.json"), |c| c["n_head"] = n_head);
        refused(load(&dir, &Load::default()), "checkpoint", &[part]);
    }
}

#[test]
fn a_mask_is_never_guessed() {
    let (_guard, dir) = copy("qwen3_a2d");
    let mask = |id| Load {
        mask: Some(id),
        ..Load::default()
    };
    assert_eq!(load(&dir, &Load::default()).unwrap().mask_index(), 279);
    assert_eq!(load(&dir, &mask(280)).unwrap().mask_index(), 280);
    refused(load(&dir, &mask(288)), "checkpoint", &["288", "288 rows"]);
    refused(
        load(&dir, &mask(285)),
        "checkpoint",
        &["tokenizer.json", "no token 285"],
    );
    // a token that happens to stand where a mask would be added is none
    let (_other, unnamed) = copy("qwen3_a2d");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let path = unnamed.join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("<|mask|>", "<|hole|>")).unwrap();
    }
    edit(&unnamed.join("tokenizer_config.json"), |c| {
        c["mask_token"] = Value::Null
    });
    refused(
        load(&unnamed, &Load::default()),
        "checkpoint",
        &["tokenizer.json", "which id the mask is"],
    );
    assert_eq!(load(&unnamed, &mask(279)).unwrap().mask_index(), 279);
    // what the configuration says goes before what the tokenizer calls its mask
    edit(&dir.join("config.json"), |c| {
        c["mask_token_id"] = json!(281)
    });
    assert_eq!(load(&dir, &Load::default()).unwrap().mask_index(), 281);
    edit(&dir.join("config.json"), |c| {
        c["mask_token_id"] = Value::Null
    });
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &["tokenizer.json", "which id the mask is"],
    );
    assert!(load(&dir, &mask(287)).unwrap().tokenizer().is_none());
}

#[test]
fn a_tokenizer_with_more_ids_than_rows_is_refused() {
    let (_guard, dir) = copy("bert");
    let (_other, dream) = copy("dream");
    fs::copy(dream.join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    fs::copy(
        dream.join("tokenizer_config.json"),
        dir.join("tokenizer_config.json"),
    )
    .unwrap();
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &["tokenizer.json", "149 rows"],
    );
}

#[test]
fn missing_and_foreign_shards_are_named() {
    let (_guard, dir) = copy("llada_gqa");
    let index = dir.join("model.safetensors.index.json");
    let whole = fs::read(&index).unwrap();
    edit(&index, |i| {
        i["weight_map"]["more.weight"] = i["weight_map"]["model.transformer.wte.weight"].clone()
    });
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &["1 unexpected: more.weight"],
    );
    fs::write(&index, &whole).unwrap();
    let shard = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    let shard = shard
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .min()
        .unwrap();
    let name = shard.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 5]).unwrap();
    refused(
        load(&dir, &Load::default()),
        "checkpoint",
        &[&name, "truncated"],
    );
    fs::remove_file(&shard).unwrap();
    refused(load(&dir, &Load::default()), "io", &[&name]);
}

#[test]
fn what_half_precision_cannot_hold_is_refused() {
    let (_guard, dir) = copy("qwen3_a2d");
    let half = |weights| Load {
        weights: Some(weights),
        ..Load::default()
    };
    let bytes = |element| load(&dir, &half(element)).unwrap().info().bytes;
    assert!(bytes(Element::F16) < bytes(Element::F32) * 6 / 10);
    assert!(bytes(Element::Q4) < bytes(Element::F32) * 3 / 10);
    let path = dir.join("model.safetensors");
    let mut file = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let at = 8 + header + json[name]["data_offsets"][0].as_u64().unwrap() as usize;
    file[at..at + 4].copy_from_slice(&1e5f32.to_le_bytes());
    fs::write(&path, file).unwrap();
    refused(
        load(&dir, &half(Element::F16)),
        "checkpoint",
        &[name, "element 0", "bf16"],
    );
    load(&dir, &half(Element::Bf16)).unwrap();
}

#[test]
fn what_is_for_own_models_is_refused() {
    let (_guard, dir) = copy("llada");
    let mut model = load(&dir, &Load::default()).unwrap();
    refused(
        block_on(model.publish(Precision::F32)).map(|_| ()),
        "argument",
        &["llada", "this crate's own", "run's folder"],
    );
    refused(model.config().map(|_| ()), "argument", &["llada"]);
    refused(model.set_noise(Default::default()), "argument", &["llada"]);
    let config = mdlm::SampleConfig {
        block: 4,
        ..Default::default()
    };
    let long = Canvas::open(model.length() + 1);
    refused(
        model.sampler(long, &config).map(|_| ()),
        "config",
        &["sampling.block", "longer than the model"],
    );
}
