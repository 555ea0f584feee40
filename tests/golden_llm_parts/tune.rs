//! Published models trained on: conversations as rows of tokens, all weights or adapters, runs that go on bit by bit, and
//! what their checkpoints load as.

use std::path::{Path, PathBuf};

use crate::FIXTURES;
use mdlm::blocking::wait;
use mdlm::io::checkpoint::{EMA, MODEL, OPTIMIZER};
use mdlm::model::{Load, adapters, read_base};
use mdlm::progress::Silent;
use mdlm::{Corpus, Device, Model, TrainConfig, Trainer};
use serde_json::Value;

/// A run on a fixture's model, on a file of conversations.
fn config(folder: &Path, conversations: &Path, settings: &[&str]) -> TrainConfig {
    let mut config = TrainConfig::default();
    config.base.path = folder.display().to_string();
    config.data.train = conversations.display().to_string();
    config.data.valid = config.data.train.clone();
    config.data.messages_field = "messages".to_owned();
    (
        config.model.length,
        config.training.batch,
        config.training.steps,
    ) = (48, 2, 6);
    for setting in settings {
        config.set(setting).unwrap();
    }
    config
}

fn corpus(config: &TrainConfig) -> Corpus {
    Corpus::load(&config.data, config.model.length, &mut Silent).unwrap()
}

fn conversations(dir: &Path, all: &[Value]) -> PathBuf {
    let path = dir.join("conversations.jsonl");
    let rows = all
        .iter()
        .map(|m| format!("{}\n", serde_json::json!({"messages": m})));
    std::fs::write(&path, rows.collect::<String>()).unwrap();
    path
}

#[test]
fn rows_are_those_of_the_published_recipe() {
    let Some(json) = FIXTURES.describe("tokenizers") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let rows = json["sft_rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let Some(folder) = FIXTURES.folder_of(row["model_dir"].as_str().unwrap()) else {
            return;
        };
        let path = conversations(dir.path(), &[row["messages"].clone()]);
        let mut config = config(&folder, &path, &[]);
        read_base(&mut config).unwrap();
        let blocks = corpus(&config).train;
        let ids: Vec<u32> = serde_json::from_value(row["input_ids"].clone()).unwrap();
        let block = blocks.block(0).unwrap();
        assert_eq!(block[..ids.len()], ids, "{}", row["model_dir"]);
        assert_eq!(
            blocks.given(0) as u64,
            row["prompt_len"],
            "{}",
            row["model_dir"]
        );
    }
}

/// What a model says of some tokens.
fn logits(model: &mut Model) -> Vec<f32> {
    let mask = model.mask_index();
    wait(model.logits(&[mask, 5, 7, mask, 6, mask], &[0.0])).unwrap()
}

/// Steps in one go and in two, which end with the same bytes; then the checkpoint as a model.
fn tunes(name: &str, settings: &[&str]) {
    let Some(folder) = FIXTURES.folder_of(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let chat = |ask: &str, say: &str| {
        serde_json::json!([
            {"role": "user", "content": ask},
            {"role": "assistant", "content": say},
        ])
    };
    let all = [
        chat("the cat", "sat on the mat"),
        chat("the mat", "the cat sat"),
    ];
    let mut config = config(&folder, &conversations(dir.path(), &all), settings);
    read_base(&mut config).unwrap();
    let device = Device::cpu();
    let start = |config: &TrainConfig| wait(Trainer::new(&device, config, corpus(config))).unwrap();
    let steps = |trainer: &mut Trainer, n: usize| -> Vec<f64> {
        (0..n).map(|_| wait(trainer.step()).unwrap().loss).collect()
    };

    let mut whole = start(&config);
    steps(&mut whole, 6);
    let mut first = start(&config);
    let before = logits(&mut wait(first.model()).unwrap());
    let how = Load {
        weights: config.base.weights.as_deref().map(|w| w.parse().unwrap()),
        model_type: config.base.model_type.clone(),
        ..Load::default()
    };
    let mut base = wait(Model::load_with(&device, &folder, &how)).unwrap();
    assert_eq!(
        before,
        logits(&mut base),
        "{name}: a run begins with its base"
    );
    steps(&mut first, 3);
    let saved = wait(first.save(&dir.path().join("first"))).unwrap();
    let mut second = wait(Trainer::resume(&device, &config, corpus(&config), &saved)).unwrap();
    steps(&mut second, 3);
    let ends = [("whole", &whole), ("second", &second)].map(|(to, trainer)| {
        let at = wait(trainer.save(&dir.path().join(to))).unwrap();
        [MODEL, EMA, OPTIMIZER].map(|file| std::fs::read(at.join(file)).unwrap())
    });
    assert!(
        ends[0] == ends[1],
        "{name}: a run that was resumed has other bytes"
    );

    // the checkpoint is a model, in the base's precision
    let after = logits(&mut wait(second.model()).unwrap());
    assert_ne!(after, before, "{name}: nothing was learnt");
    let how = Load {
        weights: how.weights,
        ..Load::default()
    };
    let run = dir.path().join("second");
    let mut loaded = wait(Model::load_with(&device, &run, &how)).unwrap();
    assert_eq!(logits(&mut loaded), after, "{name}");
    assert_eq!(loaded.model_type(), base.model_type());
    assert_eq!(loaded.mask_index(), base.mask_index());
}

#[test]
fn all_of_a_model_is_tuned() {
    tunes("qwen3_a2d", &[]);
    tunes("llada", &["training.accumulation=2", "training.ema=0.5"]);
}

#[test]
fn a_model_whose_rows_are_shifted_is_tuned() {
    tunes("dream", &["optim.recipe=reference"]);
}

#[test]
fn adapters_are_tuned_on_weights_of_every_precision() {
    for weights in ["f32", "f16", "bf16", "q8", "q4"] {
        let weights = format!("base.weights={weights}");
        tunes("qwen3_a2d", &["lora.rank=3", &weights]);
    }
    tunes(
        "llada",
        &[
            "lora.rank=2",
            "lora.targets=[\"attn_out\", \"ff_out\", \"up_proj\"]",
        ],
    );
}

#[test]
fn a_conversation_is_learnt_by_adapters() {
    let Some(folder) = FIXTURES.folder_of("qwen3_a2d") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let all = serde_json::json!([
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sat on the mat"},
    ]);
    let path = conversations(dir.path(), &[all]);
    let settings = [
        "lora.rank=8",
        "optim.lr=0.02",
        "training.steps=150",
        "training.ema=0",
    ];
    let mut config = config(&folder, &path, &settings);
    read_base(&mut config).unwrap();
    let mut trainer = wait(Trainer::new(&Device::cpu(), &config, corpus(&config))).unwrap();
    let before = wait(trainer.validate(|_, _| {})).unwrap().ppl;
    for _ in 0..150 {
        wait(trainer.step()).unwrap();
    }
    let after = wait(trainer.validate(|_, _| {})).unwrap().ppl;
    assert!(after < before / 10.0 && after < 2.0, "{before} {after}");
}

#[test]
fn adapters_of_peft_are_loaded() {
    let (Some(folder), Some(adapter)) = (
        FIXTURES.folder_of("qwen3_a2d"),
        FIXTURES.folder_of("qwen3_a2d_lora"),
    ) else {
        return;
    };
    let device = Device::cpu();
    let load = |adapter: Option<PathBuf>, folder: &Path| {
        let how = Load {
            adapter,
            ..Load::default()
        };
        wait(Model::load_with(&device, folder, &how))
    };
    let mut plain = load(None, &folder).unwrap();
    let mut with = load(Some(adapter.clone()), &folder).unwrap();
    assert_ne!(logits(&mut plain), logits(&mut with));

    let refused = |change: (&str, Value), part: &str| {
        let dir = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(adapter.join(adapters::CONFIG)).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[change.0] = change.1;
        std::fs::write(dir.path().join(adapters::CONFIG), json.to_string()).unwrap();
        let weights = [&adapter, dir.path()].map(|dir| dir.join(adapters::WEIGHTS));
        std::fs::copy(&weights[0], &weights[1]).unwrap();
        let error = load(Some(dir.path().to_owned()), &folder)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(part), "{}: {error}", change.0);
    };
    refused(("peft_type", "IA3".into()), "peft_type = LORA");
    refused(("use_dora", true.into()), "use_dora = false");
    refused(
        ("rank_pattern", serde_json::json!({"q_proj": 8})),
        "rank_pattern",
    );
    refused(("r", 0.into()), "r is 0");
    refused(("r", 5.into()), "lora_A.weight");
    refused(("target_modules", "all-linear".into()), "target_modules");
    refused(
        ("target_modules", serde_json::json!(["qq_proj"])),
        "qq_proj",
    );
    let bert = FIXTURES.folder_of("modernbert").unwrap();
    let error = load(Some(adapter.clone()), &bert)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("Llama"), "{error}");
}

#[test]
fn what_cannot_be_tuned_is_told() {
    let Some(folder) = FIXTURES.folder_of("qwen3_a2d") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let chat = serde_json::json!([{"role": "user", "content": "the cat"}]);
    let path = conversations(dir.path(), &[chat]);
    let mut one = config(&folder, &path, &[]);
    read_base(&mut one).unwrap();
    let error = Corpus::load(&one.data, 48, &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("conversation 1") && error.contains("assistant"),
        "{error}"
    );
    for (settings, part) in [
        (["lora.rank=2", "base.path="], "base.path"),
        (["lora.rank=5000", "seed=1"], "lora.rank"),
        (["lora.rank=2", "lora.alpha=0"], "lora.alpha"),
        (["lora.rank=2", "lora.targets=[]"], "lora.targets"),
        (["base.weights=q8", "seed=1"], "base.weights"),
        (["model.kind=ar", "seed=1"], "model.kind"),
        (
            [
                "objective.parameterization=sedd",
                "model.time_conditioning=true",
            ],
            "time_conditioning",
        ),
    ] {
        let error = config(&folder, &path, &settings).validate().unwrap_err();
        assert!(error.to_string().contains(part), "{settings:?}: {error}");
    }
}
