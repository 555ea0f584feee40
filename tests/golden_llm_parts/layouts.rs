//! One network under the names of several programs: the weights of a fixture, renamed, give the same logits.

use std::borrow::Cow;
use std::path::Path;

use crate::FIXTURES;
use crate::common::Executor;
use mdlm::config::Cache;
use mdlm::io::safetensors::{Precision, TensorSpec, write_file};
use mdlm::model::{Load, inspect};
use mdlm::{Canvas, Model, SampleConfig};
use mdlm_engine::program::Element;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

/// Copies a model with other names of its tensors and another configuration.
fn renamed(from: &Path, to: &Path, config: &Value, name: impl Fn(&str) -> String) {
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(key, view)| (name(key), view));
    let made = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(to.join("model.safetensors"), made).unwrap();
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
}

fn config_of(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn logits(dir: &Path, how: &Load) -> Vec<f32> {
    let model = Model::load_with(Executor::CpuF32.shared(), dir, how).await;
    let xt: Vec<u32> = (0..7).map(|i| i * 41 % 289).collect();
    model.unwrap().logits(&xt, &[0.0]).await.unwrap()
}

/// LLaDA's network is a Llama, and DiffuLLaMA's too.
#[test]
fn llamas_by_any_name_compute_the_same() {
    let Some(from) = FIXTURES.folder_of("llada") else {
        return;
    };
    let c = config_of(&from);
    let llama = |model_type: &str| {
        json!({
            "model_type": model_type,
            "hidden_size": c["d_model"],
            "num_hidden_layers": c["n_layers"],
            "num_attention_heads": c["n_heads"],
            "intermediate_size": c["mlp_hidden_size"],
            "vocab_size": c["embedding_size"],
            "max_position_embeddings": c["max_sequence_length"],
            "rms_norm_eps": c["rms_norm_eps"],
            // as newer files have it
            "rope_parameters": {"rope_theta": c["rope_theta"], "rope_type": "default"},
            "rope_scaling": null,
            "mask_token_id": 289,
            "a_key_of_tomorrow": [1, {"x": null}],
        })
    };
    let parts = [
        ("transformer.wte", "embed_tokens"),
        ("transformer.ln_f", "norm"),
        ("transformer.blocks", "layers"),
        ("attn_norm", "input_layernorm"),
        ("ff_norm", "post_attention_layernorm"),
        ("q_proj", "self_attn.q_proj"),
        ("k_proj", "self_attn.k_proj"),
        ("v_proj", "self_attn.v_proj"),
        ("attn_out", "self_attn.o_proj"),
        ("ff_proj", "mlp.gate_proj"),
        ("up_proj", "mlp.up_proj"),
        ("ff_out", "mlp.down_proj"),
    ];
    let plain = |key: &str| {
        if key == "model.transformer.ff_out.weight" {
            return "lm_head.weight".to_owned();
        }
        parts
            .iter()
            .fold(key.to_owned(), |key, (from, to)| key.replace(from, to))
    };
    let taken_apart = |key: &str| {
        let key = plain(key).replace("model.", "denoise_model.");
        key.replace("denoise_model.embed_tokens", "embed_tokens")
    };
    pollster::block_on(async {
        let expected = logits(&from, &Load::default()).await;
        for (model_type, as_what, names) in [
            ("a2d-llama", None, &plain as &dyn Fn(&str) -> String),
            ("llama", Some("a2d-llama"), &plain),
            ("llama", Some("diffullama"), &taken_apart),
            ("DiffuLLaMA", None, &taken_apart),
            // what wrappers of training programs put before every name
            ("a2d-llama", None, &|key| format!("module.{}", plain(key))),
            ("a2d-llama", None, &|key| {
                format!("module._orig_mod.{}", plain(key))
            }),
        ] {
            let dir = tempfile::tempdir().unwrap();
            renamed(&from, dir.path(), &llama(model_type), names);
            let how = Load {
                model_type: as_what.map(str::to_owned),
                ..Load::default()
            };
            assert_eq!(
                logits(dir.path(), &how).await,
                expected,
                "{model_type}, {as_what:?}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let some = |key: &str| match key.contains("wte") {
            true => plain(key),
            false => format!("module.{}", plain(key)),
        };
        renamed(&from, dir.path(), &llama("a2d-llama"), some);
        let error = Model::load(Executor::CpuF32.shared(), dir.path()).await;
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("unexpected: module.lm_head.weight"),
            "{error}"
        );
    });
}

/// MDLM's network under the names of those whose noise only changes tokens.
#[test]
fn uniform_noise_is_known_by_its_models() {
    let dir = tempfile::tempdir().unwrap();
    let config = mdlm::ModelConfig {
        time_conditioning: true,
        ..crate::common::models::small(12)
    };
    crate::common::models::write(dir.path(), &config, None);
    let tokens: Vec<u32> = (0..12).map(|i| i % 5).collect();
    pollster::block_on(async {
        let device = Executor::CpuF32.shared();
        let mut own = Model::load(device, dir.path()).await.unwrap();
        let expected = own.logits(&tokens, &[0.7]).await.unwrap();
        for kind in ["udlm", "duo"] {
            let how = Load {
                model_type: Some(kind.to_owned()),
                mask: Some(config.mask_index),
                ..Load::default()
            };
            assert_eq!(inspect(dir.path(), &how).unwrap().p_uniform, Some(1.0));
            let mut model = Model::load_with(device, dir.path(), &how).await.unwrap();
            assert_eq!(model.logits(&tokens, &[0.7]).await.unwrap(), expected);
            let sampling = SampleConfig {
                steps: 5,
                ..model.sampling()
            };
            assert_eq!(sampling.sampler.name, "hybrid");
            let mut sampler = model.sampler(Canvas::open(12), &sampling).unwrap();
            let begun = sampler.canvas().clone();
            assert!(begun.masked().is_empty());
            while sampler.step().await.unwrap().is_some() {}
            assert!(*sampler.canvas() != begun && sampler.canvas().masked().is_empty());
        }
    });
}

/// MDLM's network, described by the settings of the program that distilled it.
#[test]
fn settings_of_sdtt_are_a_description() {
    let dir = tempfile::tempdir().unwrap();
    let config = mdlm::ModelConfig {
        vocab_size: 50258,
        mask_index: 50257,
        ..crate::common::models::small(12)
    };
    crate::common::models::write(dir.path(), &config, None);
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let tokens: Vec<u32> = (0..12).map(|i| 4000 * i % 50258).collect();
    pollster::block_on(async {
        let device = Executor::CpuF32.shared();
        let mut own = Model::load(device, dir.path()).await.unwrap();
        let expected = own.logits(&tokens, &[0.0]).await.unwrap();
        let settings = json!({
            "model": {
                "name": "small", "type": "ddit-orig", "hidden_size": 32, "cond_dim": 16, "length": 12,
                "n_blocks": 1, "n_heads": 2, "scale_by_sigma": true, "dropout": 0.1, "tie_word_embeddings": false,
            },
            "parameterization": {"name": "multi-round-sdtt", "num_distill_steps": 2},
            "tokenizer": {"name": "gpt2"},
            "time_conditioning": false,
        });
        std::fs::write(dir.path().join("config.json"), settings.to_string()).unwrap();
        let found = inspect(dir.path(), &Load::default()).unwrap();
        assert_eq!((&*found.model_type, found.mask_index), ("sdtt", 50257));
        let mut model = Model::load(device, dir.path()).await.unwrap();
        assert_eq!(model.logits(&tokens, &[0.0]).await.unwrap(), expected);
        assert_eq!(model.sampling().sampler.name, "ancestral");
    });
}

/// A file of SMDM's alone says all but the heads, which are those of its published size.
#[test]
fn a_file_of_smdm_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mdm-6M.safetensors");
    let (width, mlp, tokens) = (256, 1024, 20);
    let mut shapes = vec![
        ("lm_head.weight", vec![tokens, width]),
        ("transformer.wte.weight", vec![tokens + 1, width]),
        ("transformer.ln_f.weight", vec![width]),
    ];
    shapes.extend([
        ("transformer.h.0.norm_1.weight", vec![width]),
        ("transformer.h.0.attn.attn.weight", vec![3 * width, width]),
        ("transformer.h.0.attn.proj.weight", vec![width, width]),
        ("transformer.h.0.norm_2.weight", vec![width]),
        ("transformer.h.0.mlp.swiglu.w1.weight", vec![mlp, width]),
        ("transformer.h.0.mlp.swiglu.w2.weight", vec![mlp, width]),
        ("transformer.h.0.mlp.swiglu.w3.weight", vec![width, mlp]),
    ]);
    let specs: Vec<TensorSpec> = (shapes.into_iter())
        .map(|(name, shape)| TensorSpec::new(name, shape))
        .collect();
    let values = |i: usize| {
        let part = |j: usize| ((i + 7 * j) % 23) as f32 / 23.0 - 0.5;
        Ok(Cow::Owned((0..specs[i].count()).map(part).collect()))
    };
    write_file(&path, &specs, Precision::F32, values).unwrap();
    let how = Load {
        model_type: Some("smdm".to_owned()),
        ..Load::default()
    };
    let found = inspect(&path, &how).unwrap();
    assert_eq!(
        (found.mask_index, found.length, found.vocab_size),
        (20, 2048, 21)
    );
    assert!(format!("{:?}", found.trunk).contains("n_heads: 4, n_kv_heads: 4, head_dim: 64"));
    pollster::block_on(async {
        for weights in [Element::F32, Element::Q8] {
            let how = Load {
                weights: Some(weights),
                ..how.clone()
            };
            let model = Model::load_with(Executor::CpuF32.shared(), &path, &how).await;
            let mut model = model.unwrap();
            let config = SampleConfig {
                steps: 6,
                guidance: 0.6,
                ..model.sampling()
            };
            assert_eq!(config.sampler.name, "ancestral");
            let canvas = Canvas::prompt(&[1, 2, 3], 12).unwrap();
            let sampler = model.sampler(canvas, &config).unwrap();
            let made = sampler.finish(|_| std::ops::ControlFlow::Continue(()));
            assert!(
                made.await
                    .unwrap()
                    .tokens(20)
                    .iter()
                    .all(|&token| token < 20)
            );
        }
    });
}

/// SDAR is a Qwen3 whose rows see their block and those before it, counted from the beginning.
#[test]
fn sdar_is_a_qwen3_in_blocks() {
    let Some(from) = FIXTURES.folder_of("qwen3_a2d") else {
        return;
    };
    let mut config = config_of(&from);
    (config["model_type"], config["mask_token_id"]) = (json!("sdar"), json!(279));
    let dir = tempfile::tempdir().unwrap();
    renamed(&from, dir.path(), &config, str::to_owned);
    pollster::block_on(async {
        let model = Model::load(Executor::CpuF32.shared(), dir.path()).await;
        let mut model = model.unwrap();
        let settings = model.sampling();
        assert_eq!((settings.block, settings.sampler.name), (4, "threshold"));
        let canvas = Canvas::prompt(&[5, 9, 2, 7, 11, 3], 14).unwrap();
        let fill = |end: usize| {
            let canvas = Canvas::prompt(&canvas.tokens(279)[..6], end).unwrap();
            let config = SampleConfig {
                temperature: 0.0,
                ..settings.clone()
            };
            (canvas, config)
        };
        let mut filled = Vec::new();
        for end in [8, 12, 14] {
            let (canvas, config) = fill(end);
            let sampler = model.sampler(canvas, &config).unwrap();
            let made = sampler.finish(|report| {
                // the first block holds the end of the prompt and two more
                let blocks = report.revealed.iter().map(|r| r.position / 4);
                assert!(blocks.clone().min() == blocks.max());
                std::ops::ControlFlow::Continue(())
            });
            filled.push(made.await.unwrap().tokens(279));
        }
        // what is behind a block changes nothing in it
        assert_eq!(filled[0], filled[2][..8]);
        assert_eq!(filled[1], filled[2][..12]);
    });
}

/// Weights of a type that nobody publishes are named.
#[test]
fn weights_in_f64_are_refused() {
    let Some(from) = FIXTURES.folder_of("qwen3_a2d") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    renamed(&from, dir.path(), &config_of(&from), str::to_owned);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let wide = vec![0; 8 * 64];
    let tensors = file.iter().map(|(key, view)| match key {
        "model.norm.weight" => (key, TensorView::new(Dtype::F64, vec![64], &wide).unwrap()),
        _ => (key, view),
    });
    let made = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(&path, made).unwrap();
    let how = Load {
        mask: Some(279),
        ..Load::default()
    };
    let model = Model::load_with(Executor::CpuF32.shared(), dir.path(), &how);
    let error = pollster::block_on(model).err().unwrap();
    let text = error.to_string();
    assert!(
        error.code() == "checkpoint" && text.contains("model.norm.weight F64"),
        "{text}"
    );
}

/// The same text in blocks that begin elsewhere has other keys: what is kept of it is not used.
#[test]
fn what_is_kept_of_other_blocks_is_not_used() {
    let Some(dir) = FIXTURES.folder_of("qwen3_a2d") else {
        return;
    };
    for shift in [false, true] {
        pollster::block_on(kept_of_other_blocks(&dir, shift));
    }
}

async fn kept_of_other_blocks(dir: &Path, shift: bool) {
    let how = Load {
        block: Some(4),
        shift: Some(shift),
        ..Load::default()
    };
    {
        let model = || Model::load_with(Executor::CpuF32.shared(), dir, &how);
        let mut shared = model().await.unwrap();
        let config = SampleConfig {
            temperature: 0.0,
            ..shared.sampling()
        };
        let text: Vec<u32> = (0..20).map(|i| i * 37 % 270).collect();
        for length in [13, 14, 13, 15, 17, 12, 16] {
            let canvas = Canvas::prompt(&text[..length], 32).unwrap();
            let mut alone = model().await.unwrap();
            let mut filled = Vec::new();
            for (which, cache) in [(0, Cache::Exact), (1, Cache::Exact), (1, Cache::Off)] {
                let model = if which == 0 { &mut shared } else { &mut alone };
                let config = SampleConfig {
                    cache,
                    ..config.clone()
                };
                let sampler = model.sampler(canvas.clone(), &config).unwrap();
                let made = sampler.finish(|_| std::ops::ControlFlow::Continue(()));
                filled.push(made.await.unwrap());
            }
            assert!(
                filled.iter().all(|made| *made == filled[0]),
                "behind {length}, {shift}"
            );
        }
    }
}
