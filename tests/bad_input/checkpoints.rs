//! Damaged checkpoints of a run.

use std::fs;
use std::path::Path;

use mdlm::Result;
use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::{save, verify};
use mdlm::model::Model;
use mdlm::train::Trainer;
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::tokenizer;
use crate::common::runs::{checkpoint, config, contents, corpus, refused, start};

const FILES: [&str; 7] = [
    "config.toml",
    "ema.safetensors",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "tokenizer.json",
];

/// A run of three steps with a checkpoint after each of the last two.
fn finished() -> (tempfile::TempDir, TrainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(3);
    config.training.save_every = 2;
    start(Executor::CpuF32.shared(), &config, dir.path(), 3);
    (dir, config)
}

fn load(dir: &Path) -> Result<Model> {
    block_on(Model::load(Executor::CpuF32.shared(), dir))
}

fn resume_from(config: &TrainConfig, dir: &Path) -> Result<Trainer> {
    block_on(Trainer::resume(
        Executor::CpuF32.shared(),
        config,
        corpus(),
        dir,
    ))
}

/// Loading and resuming must both refuse it, and leave it as it is.
fn both_refuse(config: &TrainConfig, dir: &Path, code: &str, parts: &[&str]) {
    let before = contents(dir);
    refused(load(dir), code, parts);
    refused(resume_from(config, dir), code, parts);
    assert!(contents(dir) == before);
}

#[test]
fn what_is_not_there_is_named() {
    let (dir, config) = finished();
    refused(load(&dir.path().join("absent")), "io", &["absent", "open"]);
    let absent = checkpoint(dir.path(), 9);
    refused(
        resume_from(&config, &absent),
        "checkpoint",
        &["checkpoint-00000009"],
    );
    let empty = tempfile::tempdir().unwrap();
    refused(load(empty.path()), "checkpoint", &["no whole checkpoint"]);
    for file in FILES {
        let path = checkpoint(dir.path(), 3).join(file);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        both_refuse(&config, path.parent().unwrap(), "checkpoint", &[file]);
        fs::write(&path, bytes).unwrap();
    }
    let extra = checkpoint(dir.path(), 3).join("notes.txt");
    fs::write(&extra, "").unwrap();
    both_refuse(
        &config,
        extra.parent().unwrap(),
        "checkpoint",
        &["notes.txt"],
    );
}

#[test]
fn truncation_and_flipped_bits_are_found_in_every_file() {
    let (dir, config) = finished();
    let newest = checkpoint(dir.path(), 3);
    for file in FILES {
        let path = newest.join(file);
        let whole = fs::read(&path).unwrap();
        let n = whole.len();
        let mut damaged = vec![vec![], whole[..n / 2].to_vec(), whole[..n - 1].to_vec()];
        for place in [0, n / 3, n / 2, n - 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            damaged.push(bytes);
        }
        for bytes in damaged {
            fs::write(&path, bytes).unwrap();
            // a changed digest in the manifest is the fault of the file that it is for
            let culprit = if file == "manifest.json" { "" } else { file };
            both_refuse(&config, &newest, "checkpoint", &["00000003", culprit]);
            // the run's folder still has the one before
            assert_eq!(
                mdlm::io::checkpoint::newest_whole(dir.path()).unwrap(),
                Some(checkpoint(dir.path(), 2))
            );
        }
        load(dir.path()).unwrap();
        fs::write(&path, whole).unwrap();
    }
    verify(&newest).unwrap();
    load(&newest).unwrap();
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let (dir, config) = finished();
    let whole = checkpoint(dir.path(), 3);
    let state = fs::read_to_string(whole.join("state.json")).unwrap();
    let toml = fs::read_to_string(whole.join("config.toml")).unwrap();
    // a checkpoint with a right manifest in which one file is replaced
    let with = |file: &str, bytes: &[u8]| {
        save(dir.path(), 4, |folder| {
            for name in FILES.iter().filter(|name| **name != "manifest.json") {
                fs::copy(whole.join(name), folder.join(name)).unwrap();
            }
            fs::write(folder.join(file), bytes).unwrap();
            Ok(())
        })
        .unwrap()
    };
    let path = with(
        "config.toml",
        (toml.clone() + "\n[extra]\nx = 1\n").as_bytes(),
    );
    both_refuse(&config, &path, "config", &["extra.x", "unknown key"]);
    let path = with(
        "config.toml",
        toml.replace("n_heads = 2", "n_heads = 3").as_bytes(),
    );
    refused(load(&path), "config", &["model.n_heads = 3"]);
    refused(resume_from(&config, &path), "config", &["model.n_heads"]);
    let path = with("tokenizer.json", &tokenizer().to_json());
    refused(load(&path), "checkpoint", &["tokenizer.json", "7 ids"]);
    let path = with("tokenizer.json", b"{}");
    refused(load(&path), "corpus", &["tokenizer.json"]);
    let path = with(
        "state.json",
        state.replace("\"step\"", "\"stop\"").as_bytes(),
    );
    refused(resume_from(&config, &path), "checkpoint", &["state.json"]);
    // the optimiser's tensors in place of the weights
    let moments = fs::read(whole.join("optimizer.safetensors")).unwrap();
    for file in ["ema.safetensors", "model.safetensors"] {
        let path = with(file, &moments);
        let parts = [file, "tensor backbone.", "missing"];
        refused(resume_from(&config, &path), "checkpoint", &parts);
        if file == "ema.safetensors" {
            refused(load(&path), "checkpoint", &parts);
        }
    }
    let path = with(
        "optimizer.safetensors",
        &fs::read(whole.join("ema.safetensors")).unwrap(),
    );
    let parts = ["optimizer.safetensors", "tensor m.backbone", "missing"];
    refused(resume_from(&config, &path), "checkpoint", &parts);
}
