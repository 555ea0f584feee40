//! `inspect`, `sample` and `infill` with models of other programs.

use std::path::Path;

use crate::common::examples::{fails, ok};

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
