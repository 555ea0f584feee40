//! Folders in the published layout that cannot be used.

use std::fs;

use mdlm::data::Tokenizer;
use mdlm::model::Model;
use pollster::block_on;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::common::Executor;
use crate::common::models::{published, small, write};
use crate::common::runs::refused;

const BIAS: &str = "backbone.output_layer.linear.bias";

/// A tensor of a file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The bytes of a file after a change to its tensors.
fn changed(file: &[u8], change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let entry = |(name, view): (&str, TensorView<'_>)| Entry {
        name: name.to_owned(),
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    let mut entries: Vec<Entry> = tensors.iter().map(entry).collect();
    change(&mut entries);
    let views = entries.iter().map(|e| {
        let view = TensorView::new(e.dtype, e.shape.clone(), &e.bytes).unwrap();
        (e.name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

fn at<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
    entries.iter_mut().find(|e| e.name == name).unwrap()
}

#[test]
fn wrong_tensors_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let load = || block_on(Model::load(Executor::CpuF32.shared(), dir.path()));
    load().unwrap();
    let check = |bytes: &[u8], parts: &[&str]| {
        fs::write(&path, bytes).unwrap();
        let all = [&["model.safetensors"], parts].concat();
        refused(load(), "checkpoint", &all);
    };
    check(
        &changed(&whole, |entries| {
            at(entries, BIAS).name = "backbone.output_layer.linear.bios".to_owned();
        }),
        &["1 missing", BIAS, "1 unexpected", "linear.bios"],
    );
    check(
        &changed(&whole, |entries| entries.retain(|e| e.name != BIAS)),
        &[BIAS, "missing"],
    );
    check(
        &changed(&whole, |entries| {
            let Entry {
                dtype,
                shape,
                bytes,
                ..
            } = at(entries, BIAS);
            let (dtype, shape, bytes) = (*dtype, shape.clone(), bytes.clone());
            let name = "backbone.more".to_owned();
            entries.push(Entry {
                name,
                dtype,
                shape,
                bytes,
            });
        }),
        &["backbone.more", "unexpected"],
    );
    check(
        &changed(&whole, |entries| at(entries, BIAS).shape = vec![1, 7]),
        &["1 of another shape", BIAS, "[1, 7], expected [7]"],
    );
    check(
        &changed(&whole, |entries| at(entries, BIAS).dtype = Dtype::I32),
        &[BIAS, "I32"],
    );
    check(
        &changed(&whole, |entries| {
            at(entries, BIAS).bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        &[BIAS, "element 2 is NaN"],
    );
    check(&whole[..whole.len() - 1], &["truncated"]);
    check(&whole[..100], &["truncated"]);
    check(&[], &["truncated"]);
    check(b"not a tensor file", &["truncated"]);
    fs::remove_file(&path).unwrap();
    refused(load(), "io", &["cannot open", "model.safetensors"]);
    fs::write(&path, whole).unwrap();
    load().unwrap();
}

#[test]
fn wrong_configurations_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    let load = || block_on(Model::load(Executor::CpuF32.shared(), dir.path()));
    let path = dir.path().join("config.json");
    let right = published(&small(16));
    let with = |key: &str, value: Value| {
        let mut config = right.clone();
        config[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        load()
    };
    refused(
        with("mask_index", json!(2)),
        "checkpoint",
        &["tokenizer.json", "mask at 6", "mask at 2"],
    );
    refused(
        with("model_type", json!("ar")),
        "checkpoint",
        &["unexpected", "backbone.sigma_map.mlp.0.weight"],
    );
    refused(
        with("model_type", json!("gpt2")),
        "checkpoint",
        &[
            "config.json",
            "model_type is gpt2, an autoregressive model",
            "mdlm",
        ],
    );
    refused(
        with("hidden_dim", json!("wide")),
        "checkpoint",
        &["config.json", "invalid type"],
    );
    refused(with("n_heads", json!(0)), "config", &["model.n_heads = 0"]);
    refused(with("n_heads", json!(3)), "config", &["model.n_heads = 3"]);
    refused(
        with("vocab_size", json!(u64::from(u32::MAX))),
        "config",
        &["model.vocab_size = 4294967295"],
    );
    // another width: the first tensor that does not fit is named
    refused(
        with("hidden_dim", json!(64)),
        "checkpoint",
        &["model.safetensors", "vocab_embed", "expected [7, 64]"],
    );
    refused(
        with("n_blocks", json!(2)),
        "checkpoint",
        &["backbone.blocks.1.", "missing"],
    );
    let mut config = right.clone();
    config.as_object_mut().unwrap().remove("n_blocks");
    fs::write(&path, config.to_string()).unwrap();
    refused(load(), "checkpoint", &["config.json", "n_blocks"]);
    fs::write(&path, "{").unwrap();
    refused(load(), "checkpoint", &["config.json", "line 1"]);
    fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    refused(load(), "io", &["config.json", "limit of 1048576 bytes"]);

    fs::write(&path, right.to_string()).unwrap();
    let tokenizer = dir.path().join("tokenizer.json");
    fs::write(&tokenizer, Tokenizer::byte().to_json()).unwrap();
    refused(
        load(),
        "checkpoint",
        &["tokenizer.json", "258 ids", "the model 7"],
    );
    fs::write(&tokenizer, "[]").unwrap();
    refused(load(), "corpus", &["tokenizer.json", "not a tokenizer"]);
    fs::remove_file(&tokenizer).unwrap();
    assert!(load().unwrap().tokenizer().is_none());
}
