//! GGUF files that cannot be used: cut, with huge counts, with tensors elsewhere, with other types.

use std::path::Path;

use mdlm::Model;
use mdlm::io::gguf::header;
use mdlm::model::{Load, inspect};
use pollster::block_on;

use crate::common::Executor;
use crate::common::gguf::{Tensor, Writer, converted, f32s, q4_0};
use crate::common::runs::refused;

/// A small model, its matrices in 4 bits.
fn small() -> Writer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_llm/llada");
    converted(&dir, "llada", q4_0)
}

/// What is said of a file's content.
fn read(bytes: &[u8]) -> mdlm::Result<()> {
    let name = Path::new("model.gguf");
    header::read(bytes, bytes.len() as u64, name).map(|_| ())
}

fn open(w: &Writer, how: &Load) -> mdlm::Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    w.write(&path);
    inspect(&path, how).map(|_| ())
}

/// What is said of a model that is changed in one place.
fn changed(change: impl FnOnce(&mut Writer), parts: &[&str]) {
    let mut w = small();
    change(&mut w);
    refused(open(&w, &Load::default()), "checkpoint", parts);
}

#[test]
fn every_truncation_and_any_addition_is_found() {
    let (header, whole) = small().bytes();
    for length in (0..header).chain((header..whole.len()).step_by(997)) {
        refused(
            read(&whole[..length]),
            "checkpoint",
            &["model.gguf", "truncated"],
        );
    }
    refused(
        read(&[&whole[..], &[0; 32]].concat()),
        "checkpoint",
        &["too long"],
    );
    read(&whole).unwrap();
}

/// A header: tensors, keys, and what follows.
fn made(tensors: u64, keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    let counts = [tensors, keys].map(u64::to_le_bytes).concat();
    [b"GGUF\x03\0\0\0", &counts[..], &rest.concat()].concat()
}

#[test]
fn hostile_headers_are_refused() {
    let zeros = [0; 4096];
    let long = |n: u64| n.to_le_bytes();
    let key = [&long(1)[..], b"k"].concat();
    let kind = |n: u32| n.to_le_bytes();
    for (bytes, parts) in [
        (b"GGUX\x03\0\0\0".to_vec(), &["no GGUF file"][..]),
        (b"GGUF\x01\0\0\0".to_vec(), &["version 1"]),
        (b"GGUF\0\0\0\x03".to_vec(), &["big-endian"]),
        (made(u64::MAX, 0, &[&zeros]), &["tensors; at most"]),
        (made(0, u64::MAX, &[&zeros]), &["keys; at most"]),
        // counts that limits allow and the file has no room for
        (made(1 << 15, 0, &[&zeros]), &["truncated", "tensors"]),
        (made(0, 1 << 12, &[&zeros]), &["truncated", "keys"]),
        (
            made(0, 1, &[&long(u64::MAX), &zeros]),
            &["the name of a key", "at most"],
        ),
        (
            made(0, 1, &[&long(1), b"\xFF", &zeros]),
            &["the name of a key", "UTF-8"],
        ),
        (
            made(0, 1, &[&key, &kind(13), &zeros]),
            &["k has a value of type 13"],
        ),
        (
            made(0, 1, &[&key, &kind(7), b"\x02", &zeros]),
            &["k is 2, neither 0 nor 1"],
        ),
        (
            made(0, 1, &[&key, &kind(8), &long(u64::MAX), &zeros]),
            &["k: 1844", "at most"],
        ),
        (
            made(0, 1, &[&key, &kind(8), &long(9999), &zeros]),
            &["truncated", "k"],
        ),
        (
            made(0, 1, &[&key, &kind(9), &kind(4), &long(u64::MAX), &zeros]),
            &["values of k; at most"],
        ),
        (
            made(0, 1, &[&key, &kind(9), &kind(4), &long(2000), &zeros]),
            &["truncated", "values of k"],
        ),
        (
            made(
                0,
                1,
                &[&key, &kind(9), &kind(9), &long(1), &kind(9), &zeros],
            ),
            &["k is a list of lists"],
        ),
        (
            made(
                0,
                2,
                &[&key, &kind(0), b"\x01", &key, &kind(0), b"\x02", &zeros],
            ),
            &["k is there twice"],
        ),
        (
            made(1, 0, &[&long(1), b"t", &kind(5), &zeros]),
            &["tensor t", "5 extents"],
        ),
    ] {
        refused(read(&bytes), "checkpoint", parts);
    }
    // lists that are large together
    let list = |name: &[u8]| {
        let values = [&kind(9)[..], &kind(0), &long(3 << 19), &vec![0; 3 << 19]].concat();
        [&long(1)[..], name, &values].concat()
    };
    refused(
        read(&made(0, 2, &[&list(b"a"), &list(b"b")])),
        "checkpoint",
        &["values of b; at most"],
    );
}

#[test]
fn tensors_lie_one_behind_the_other() {
    // every byte of the offset that the header has for a tensor
    let w = small();
    let (header, whole) = w.bytes();
    let (name, extents) = (&w.tensors[3].name, w.tensors[3].shape.len());
    let place = whole
        .windows(name.len())
        .position(|part| part == name.as_bytes());
    let offset = place.unwrap() + name.len() + 4 + 8 * extents + 4;
    assert!(offset + 8 <= header);
    for byte in 0..8 {
        let mut bytes = whole.clone();
        bytes[offset + byte] ^= 0x20;
        refused(read(&bytes), "checkpoint", &[name, "lies at"]);
    }
    type Change = fn(&mut Tensor);
    let changes: [(Change, &[&str]); 5] = [
        (|t| t.shape = vec![usize::MAX >> 1; 4], &["cannot be"]),
        (|t| t.shape = vec![1 << 40, 32], &["truncated"]),
        (
            |t| t.shape[1] = 33,
            &["rows of 33 numbers, Q4_0 has blocks of 32"],
        ),
        (|t| t.code = 13, &["Q5_K", "not read", "Q8_0"]),
        (|t| t.code = 99, &["number 99"]),
    ];
    for (change, parts) in changes {
        let mut w = small();
        // a matrix
        let place = w.tensors.iter().position(|t| t.code == 2).unwrap();
        change(&mut w.tensors[place]);
        let error = refused(open(&w, &Load::default()), "checkpoint", parts).to_string();
        assert!(error.contains(&w.tensors[place].name), "{error}");
    }
    for align in [0, 3, 1 << 17] {
        changed(
            |w| w.whole("general.alignment", align),
            &["general.alignment"],
        );
    }
    changed(
        |w| w.tensors[1].name = w.tensors[0].name.clone(),
        &["is there twice"],
    );
}

#[test]
fn what_contradicts_or_is_not_supported_is_named() {
    let other = |name: &'static str| move |w: &mut Writer| w.text("general.architecture", name);
    changed(other("llada-moe"), &["llada-moe", "mixture of experts"]);
    changed(other("rnd1"), &["rnd1", "mixture of experts"]);
    changed(other("mamba"), &["mamba", "not known", "llada and dream"]);
    changed(other("qwen3"), &["qwen3", "autoregressive", "a2d-qwen3"]);
    for (key, value, parts) in [
        (
            "llada.embedding_length",
            32,
            &["token_embd.weight", "expected [320, 32]"][..],
        ),
        (
            "llada.block_count",
            3,
            &["blk.2.attn_norm.weight", "is not there"],
        ),
        ("llada.block_count", 1, &["blk.1.", "none of the network's"]),
        ("llada.block_count", 1 << 23, &["block_count is 8388608"]),
        ("llada.block_count", 0, &["sizes cannot be"]),
        ("llada.attention.head_count", 0, &["sizes cannot be"]),
        (
            "llada.attention.head_count_kv",
            2,
            &["attn_k.weight", "expected [32, 64]"],
        ),
        (
            "llada.attention.key_length",
            8,
            &["value_length is 16, only 8"],
        ),
        (
            "llada.rope.dimension_count",
            8,
            &["dimension_count is 8, only 16"],
        ),
        ("llada.vocab_size", 321, &["vocab_size is 321, only 320"]),
        ("llada.expert_count", 8, &["expert_count is 8, only 0"]),
        (
            "llada.attention.sliding_window",
            9,
            &["sliding_window is 9"],
        ),
        (
            "diffusion.canvas_length",
            9,
            &["diffusion.canvas_length is 9"],
        ),
        ("split.count", 2, &["one of 2 parts"]),
        (
            "tokenizer.ggml.mask_token_id",
            320,
            &["mask_token_id is 320"],
        ),
        (
            "tokenizer.ggml.mask_token_id",
            300,
            &["mask_token_id is 300, which is no token"],
        ),
        (
            "llada.context_length",
            u32::MAX,
            &["context_length is a whole number"],
        ),
    ] {
        changed(|w| w.whole(key, value), parts);
    }
    changed(
        |w| w.text("llada.block_count", "2"),
        &["llada.block_count is text"],
    );
    changed(
        |w| w.flag("llada.attention.causal", true),
        &["attention.causal is true"],
    );
    changed(
        |w| w.text("llada.rope.scaling.type", "yarn"),
        &["yarn, only none"],
    );
    changed(
        |w| w.values.retain(|(key, ..)| !key.ends_with("rms_epsilon")),
        &["no llada.attention.layer_norm_rms_epsilon"],
    );
    changed(
        |w| w.number("llada.rope.freq_base", f64::NAN),
        &["freq_base is a number, expected a finite number"],
    );
    changed(
        |w| w.tensor("rope_freqs.weight", &[8], f32s(&[1.0; 8], 8)),
        &["rope_freqs.weight", "scales rotary frequencies"],
    );
    changed(
        |w| w.tensor("blk.0.attn_q.bias", &[64], f32s(&[1.0; 64], 64)),
        &["blk.0.attn_q.bias", "is a bias"],
    );
    let as_what = |model_type: &str| Load {
        model_type: Some(model_type.to_owned()),
        ..Load::default()
    };
    refused(
        open(&small(), &as_what("a2d-qwen3")),
        "checkpoint",
        &["llada", "not as a2d-qwen3"],
    );
}

#[test]
fn tokens_that_cannot_be_are_named() {
    changed(
        |w| w.text("tokenizer.ggml.model", "llama"),
        &["tokenizer.ggml.model is llama"],
    );
    changed(
        |w| w.text("tokenizer.ggml.pre", "tekken"),
        &["tekken", "qwen2"],
    );
    changed(
        |w| w.texts("tokenizer.ggml.tokens", &["a"]),
        &["token_type has 320 values for 1"],
    );
    changed(
        |w| w.wholes("tokenizer.ggml.tokens", &[1]),
        &["tokens is a list, expected"],
    );
    changed(
        |w| w.wholes("tokenizer.ggml.token_type", &[9; 320]),
        &["token 0", "type 9"],
    );
    changed(
        |w| w.wholes("tokenizer.ggml.token_type", &[6; 320]),
        &["token 0", "type 6"],
    );
    changed(
        |w| w.texts("tokenizer.ggml.merges", &["a"]),
        &["number 0", "no pair"],
    );
    changed(
        |w| w.texts("tokenizer.ggml.merges", &["a nothing"]),
        &["model.gguf", "nothing"],
    );
    changed(
        |w| {
            w.texts("tokenizer.ggml.tokens", &vec!["same"; 320]);
            w.wholes("tokenizer.ggml.token_type", &[1; 320]);
        },
        &["tokens 0 and 1 are both \"same\""],
    );
    changed(
        |w| {
            w.flag("tokenizer.ggml.add_bos_token", true);
            w.values.retain(|(key, ..)| !key.ends_with("bos_token_id"));
        },
        &["no tokenizer.ggml.bos_token_id"],
    );
    changed(
        |w| w.values.retain(|(key, ..)| !key.starts_with("tokenizer")),
        &["no tokenizer", "which id the mask is"],
    );
}

#[test]
fn numbers_that_cannot_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let load = |w: &Writer| {
        w.write(&path);
        let device = Executor::CpuF32.shared();
        block_on(Model::load(device, &path)).map(|_| ())
    };
    let named = |name: &str| small().tensors.iter().position(|t| t.name == name).unwrap();
    for (name, place, bytes, part) in [
        (
            "blk.0.attn_q.weight",
            18,
            &[0, 0x7C][..],
            "numbers 32 and on have scale inf",
        ),
        (
            "blk.0.ffn_norm.weight",
            8,
            &[0, 0, 0xC0, 0x7F],
            "element 2 is NaN",
        ),
    ] {
        let mut w = small();
        w.tensors[named(name)].bytes[place..][..bytes.len()].copy_from_slice(bytes);
        refused(load(&w), "checkpoint", &[name, part]);
    }
    load(&small()).unwrap();
}
