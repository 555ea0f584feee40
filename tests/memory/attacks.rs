//! Files written to harm whoever reads them: each is refused, within the memory of its bytes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mdlm::model::Model;
use pollster::block_on;
use serde_json::{Value, json};

use crate::alone;
use crate::common::Executor;
use crate::common::models::{published, small, tokenizer, write};
use crate::common::runs::refused;
use crate::heap::peak;
use crate::mutants::{ROOM, TYPED};

/// A tensor file: its header's length as it says, the header, bytes behind it.
fn tensors(length: u64, header: &str, data: usize) -> Vec<u8> {
    [
        &length.to_le_bytes()[..],
        header.as_bytes(),
        &vec![0; data][..],
    ]
    .concat()
}

/// As [`tensors`] with the right length.
fn header(header: &str, data: usize) -> Vec<u8> {
    tensors(header.len() as u64, header, data)
}

fn entry(dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// Headers of tensor files, with what must be said of them.
fn tensor_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let f32s = |from, to| entry("F32", "[2]", from, to);
    let pair = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let one = |text: String| format!(r#"{{"a":{text}}}"#);
    let many = |n: usize| {
        let tensor = |i: usize| format!(r#""{i:06}":{}"#, entry("F32", "[0]", 0, 0));
        let listed: Vec<String> = (0..n).map(tensor).collect();
        format!("{{{}}}", listed.join(","))
    };
    let metadata = |n: usize| {
        let listed: Vec<String> = (0..n).map(|i| format!(r#""{i:06}":"""#)).collect();
        format!(r#"{{"__metadata__":{{{}}}}}"#, listed.join(","))
    };
    let extents = |n: usize| format!("[{}1]", "1,".repeat(n));
    let not_text = [b"{\"a\xFF\":".to_vec(), f32s(0, 8).into(), b"}".to_vec()].concat();
    let not_text = [
        &(not_text.len() as u64).to_le_bytes()[..],
        &not_text,
        &[0; 8],
    ]
    .concat();
    vec![
        ("an empty header", tensors(0, "", 0), "bad header"),
        ("2^63", tensors(1 << 63, "{}", 0), "truncated"),
        ("all ones", tensors(u64::MAX, "{}", 0), "truncated"),
        ("10^8 + 1", tensors(100_000_001, "{}", 0), "truncated"),
        (
            "a large header",
            tensors(3 << 20, &" ".repeat(3 << 20), 0),
            "at most",
        ),
        (
            "an overlap",
            header(&pair(f32s(0, 8), f32s(4, 12)), 12),
            "cannot be",
        ),
        (
            "the same bytes twice",
            header(&pair(f32s(0, 8), f32s(0, 8)), 8),
            "cannot be",
        ),
        (
            "a hole",
            header(&pair(f32s(0, 8), f32s(12, 20)), 20),
            "cannot be",
        ),
        ("a hole before", header(&one(f32s(4, 12)), 12), "cannot be"),
        ("bytes behind", header(&one(f32s(0, 8)), 9), "too long"),
        ("backwards", header(&one(f32s(8, 0)), 8), "cannot be"),
        (
            "an overflow",
            header(&one(entry("F32", "[4294967296,4294967296]", 0, 0)), 0),
            "cannot be",
        ),
        (
            "an overflow of bits",
            header(&one(entry("F64", "[2305843009213693952]", 0, 0)), 0),
            "cannot be",
        ),
        (
            "ends beyond all bytes",
            header(&one(entry("U8", "[1152921504606846976]", 0, 1 << 60)), 0),
            "truncated",
        ),
        (
            "another type",
            header(&one(entry("F16", "[2]", 0, 8)), 8),
            "cannot be",
        ),
        (
            "an unknown type",
            header(&one(entry("F33", "[2]", 0, 8)), 8),
            "bad header",
        ),
        (
            "negative",
            header(
                r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
                4,
            ),
            "bad header",
        ),
        (
            "fractions",
            header(
                r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}}"#,
                6,
            ),
            "bad header",
        ),
        (
            "a name twice",
            header(&format!(r#"{{"a":{0},"a":{0}}}"#, f32s(0, 8)), 8),
            "twice",
        ),
        ("not text", not_text, "bad header"),
        ("deep", header(&"[".repeat(1 << 20), 0), "bad header"),
        (
            "deep in a tensor",
            header(&format!(r#"{{"a":{}"#, "{\"a\":".repeat(1 << 17)), 0),
            "bad header",
        ),
        ("a list", header("[]", 0), "bad header"),
        (
            "as many tensors as there may be",
            header(&many(15_000), 0),
            "unexpected",
        ),
        ("a million tensors", header(&many(1_000_000), 0), "at most"),
        (
            "as many extents as there may be",
            header(&one(entry("F32", &extents(500_000), 0, 4)), 4),
            "",
        ),
        (
            "as much said as there may be",
            header(&metadata(80_000), 0),
            "missing",
        ),
    ]
}

/// Loads what was made of a folder, which must be refused in time and memory.
fn check(dir: &Path, name: &str, part: &str) {
    let begin = Instant::now();
    let load = || block_on(Model::load(Executor::CpuF32.shared(), dir));
    let (result, held) = peak(load);
    let Err(error) = result else {
        panic!("{name}: accepted")
    };
    assert!(
        TYPED.contains(&error.code()) && error.to_string().contains(part),
        "{name}: {error}"
    );
    let files = fs::read_dir(dir)
        .unwrap()
        .filter_map(|e| e.ok()?.metadata().ok());
    let size: u64 = files.filter(|m| m.is_file()).map(|m| m.len()).sum();
    let beyond = held.saturating_sub(size as usize);
    println!("{name}: {} KiB beyond the files'", beyond >> 10);
    assert!(beyond < ROOM, "{name}: {held} bytes for {size}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{name}");
}

#[test]
fn tensor_files_that_are_attacks() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    let path = dir.path().join("model.safetensors");
    for (name, bytes, part) in tensor_files() {
        fs::write(&path, bytes).unwrap();
        check(dir.path(), name, part);
    }
}

#[test]
fn descriptions_that_are_attacks() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let reset = || write(dir.path(), &small(16), None);
    let config = |change: &dyn Fn(&mut Value)| {
        reset();
        let mut json = published(&small(16));
        change(&mut json);
        fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    };
    for (key, value) in [
        ("n_blocks", json!(1 << 10)),
        ("n_blocks", json!(u32::MAX)),
        ("n_blocks", json!(u64::MAX)),
        ("n_blocks", json!(-1)),
        ("hidden_dim", json!(1 << 14)),
        ("vocab_size", json!(1 << 20)),
        ("vocab_size", json!(1e300)),
        ("model_length", json!(u64::MAX)),
        ("n_heads", json!([1])),
    ] {
        config(&|c| c[key] = value.clone());
        check(dir.path(), &format!("{key} = {value}"), "");
    }
    config(&|c| c["mask_index"] = json!(7));
    check(dir.path(), "a mask that is no token", "");
    reset();
    let raw = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    raw("config.json", &"[".repeat(1 << 20));
    check(dir.path(), "a deep config", "config.json");

    reset();
    let word_level = |vocab: &str| {
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"decoder":null,"model":{{"type":"WordLevel","vocab":{{{vocab}}},"unk_token":"a"}}}}"#
        )
    };
    for (name, text) in [
        ("a deep tokenizer", "[".repeat(1 << 20)),
        ("an id of 32 bits", word_level(r#""a":0,"b":4294967295"#)),
        ("an id of 33 bits", word_level(r#""a":0,"b":4294967296"#)),
        ("an id that is no number", word_level(r#""a":0,"b":-1"#)),
        (
            "an own tokenizer with everything in it",
            String::from_utf8(tokenizer().to_json())
                .unwrap()
                .replace('a', &"z".repeat(1 << 20)),
        ),
    ] {
        raw("tokenizer.json", &text);
        check(dir.path(), name, "");
    }
}

#[test]
#[cfg(unix)]
fn files_that_are_none() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let path = dir.path().join(name);
        let replaced = |make: &dyn Fn()| {
            write(dir.path(), &small(16), None);
            fs::remove_file(&path).unwrap();
            make();
        };
        let link = |to: &str| std::os::unix::fs::symlink(to, &path).unwrap();
        replaced(&|| fs::create_dir(&path).unwrap());
        // without a configuration it is no published model, but a run's folder
        let part = if name == "config.json" { "" } else { name };
        check(dir.path(), &format!("{name} is a folder"), part);
        fs::remove_dir(&path).unwrap();
        for (what, to) in [("itself", name), ("a device", "/dev/zero")] {
            replaced(&|| link(to));
            check(dir.path(), &format!("{name} is a link to {what}"), part);
            fs::remove_file(&path).unwrap();
        }
        replaced(&|| {
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            )
        });
        check(dir.path(), &format!("{name} is a pipe"), part);
        fs::remove_file(&path).unwrap();
    }
    write(dir.path(), &small(16), None);
    let gguf = dir.path().join("model.gguf");
    std::os::unix::fs::symlink("/dev/zero", &gguf).unwrap();
    let load = block_on(Model::load(Executor::CpuF32.shared(), &gguf));
    refused(load.map(|_| ()), "io", &["model.gguf"]);
}
