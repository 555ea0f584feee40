//! `inspect`, `sample` and `infill` with models of other programs.

use std::path::Path;

use crate::common::examples::{fails, ok};
use crate::common::gguf::{converted, q8_0};

fn folder(name: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_llm");
    tests.join(name).display().to_string()
}

#[test]
fn a_model_is_described_before_it_is_loaded() {
    let here = Path::new(".");
    let dream = ok("inspect", here, &["--checkpoint", &folder("dream")]).stdout;
    for part in [
        "Dream",
        "304 rows, 286 ids",
        "284",
        "the token behind it",
        "dream-entropy",
        "bf16",
    ] {
        assert!(dream.contains(part), "no {part:?} in {dream}");
    }
    let told = ["--mask", "282", "--shift", "false", "--length", "9"];
    let dream = folder("dream");
    let flags = [&["--checkpoint", &dream][..], &told].concat();
    let told = ok("inspect", here, &flags).stdout;
    for part in [
        "mask             282",
        "its own token",
        "a canvas of 9 tokens",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/model/mdlm");
    let own = own.display().to_string();
    let text = ok("inspect", here, &["--checkpoint", &own]).stdout;
    assert!(text.contains("ancestral, 128 steps"), "{text}");
    fails(
        "inspect",
        here,
        &["--checkpoint", &own, "--mask", "1"],
        &["models of other programs"],
    );
}

#[test]
fn text_of_published_models() {
    let here = Path::new(".");
    for name in [
        "llada",
        "llada_gqa",
        "dream",
        "qwen3_a2d",
        "modernbert",
        "bert",
    ] {
        let folder = folder(name);
        let run = ["--device", "cpu", "--checkpoint", &folder];
        let sample = |more: &[&str]| ok("sample", here, &[&run[..], more].concat()).stdout;
        let half = sample(&["--length", "12", "--weights", "bf16", "--seed", "3"]);
        assert!(half.starts_with("--- seed 3 ---\n"), "{half}");
        let guided = [
            "--prompt",
            "the cat",
            "--length",
            "16",
            "--block",
            "4",
            "--steps",
            "2",
            "--guidance",
            "1",
        ];
        sample(
            &[
                &guided[..],
                &["--sampler", "confidence", "--temperature", "0"],
            ]
            .concat(),
        );
        let filled = ok("infill", here, &[&run[..], &["the [MASK:3] cat"]].concat()).stdout;
        assert!(
            filled.lines().last().unwrap().contains("cat"),
            "{name}: {filled}"
        );
    }
}

/// Conversations in a file.
fn conversations(dir: &Path) -> String {
    let row = |ask: &str, say: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "{ask}"}}, {{"role": "assistant", "content": "{say}"}}]}}"#
        )
    };
    let rows = [row("the cat", "sat on the mat"), row("the mat", "to be")];
    let path = dir.join("chats.jsonl");
    std::fs::write(&path, rows.join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn published_models_are_tuned_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (here, data, base) = (dir.path(), conversations(dir.path()), folder("qwen3_a2d"));
    let train = |more: &[&str]| {
        let run = ["--device", "cpu", "--init", &base, "--data", &data];
        let sizes = [
            "--set",
            "data.messages_field=messages",
            "--length",
            "40",
            "--batch",
            "2",
        ];
        ok("train", here, &[&run[..], &sizes, more].concat()).stdout
    };
    let adapters = ["--set", "lora.rank=4", "--set", "base.weights=q8"];
    let text = train(&[&adapters[..], &["--steps", "3", "--out", "low"]].concat());
    for part in ["of them trained", "--- sample 3 ---", "assistant"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let text = ok(
        "train",
        here,
        &[
            "--device", "cpu", "--resume", "--out", "low", "--steps", "4",
        ],
    );
    assert!(
        text.stdout.contains("saved low/checkpoint-00000004"),
        "{}",
        text.stdout
    );
    train(&["--steps", "2", "--out", "all"]);

    let write = |run: &str, to: &str| ok("export", here, &["--checkpoint", run, "--out", to]);
    write("low", "adapters");
    write("all", "model");
    fails(
        "export",
        here,
        &["--checkpoint", "all", "--out", "model"],
        &["model", "is there already", "another name"],
    );
    let says = |flags: &[&str]| {
        let run = [
            "--device",
            "cpu",
            "--prompt",
            "the cat",
            "--length",
            "24",
            "--temperature",
            "0",
        ];
        ok("sample", here, &[&run[..], flags].concat()).stdout
    };
    let q8 = ["--weights", "q8"];
    let run = says(&[&["--checkpoint", "low"], &q8[..]].concat());
    let file = says(&[&["--checkpoint", &base, "--adapter", "adapters"], &q8[..]].concat());
    assert_eq!(run, file, "a run and its exported adapters");
    assert_eq!(
        says(&["--checkpoint", "all"]),
        says(&["--checkpoint", "model"])
    );
    fails(
        "train",
        here,
        &[
            "--device",
            "cpu",
            "--init",
            &base,
            "--data",
            &data,
            "--set",
            "lora.rank=4",
            "--set",
            "lora.targets=[\"wq\"]",
            "--set",
            "data.messages_field=messages",
        ],
        &["lora.targets = wq", "no projection"],
    );
}

#[test]
fn text_of_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dream.gguf");
    let w = converted(Path::new(&folder("dream")), "dream", q8_0);
    w.write(&file);
    let checkpoint = ["--checkpoint", "dream.gguf"];
    let told = ok("inspect", dir.path(), &checkpoint).stdout;
    for part in ["Dream", "304 rows, 286 ids", "the token behind it"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    // of the file's 8 bits, and of f32
    let mib = |name: &str| {
        let row = told.lines().find_map(|line| line.strip_prefix(name));
        let alone = row.unwrap().split_whitespace().next();
        alone.unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(mib("as in the file"), mib("q8"));
    assert!(mib("q8") < 0.4 * mib("f32"), "{told}");
    let run = [&checkpoint[..], &["--device", "cpu"]].concat();
    let sample = [&run[..], &["--length", "12", "--seed", "3"]].concat();
    let text = ok("sample", dir.path(), &sample).stdout;
    assert!(text.starts_with("--- seed 3 ---\n"), "{text}");
    let filled = ok(
        "infill",
        dir.path(),
        &[&run[..], &["the [MASK:3] cat"]].concat(),
    )
    .stdout;
    assert!(filled.lines().last().unwrap().contains("cat"), "{filled}");
    let flags = [&checkpoint[..], &["--model-type", "a2d-qwen3"]].concat();
    fails(
        "inspect",
        dir.path(),
        &flags,
        &["dream.gguf", "not as a2d-qwen3"],
    );
}
