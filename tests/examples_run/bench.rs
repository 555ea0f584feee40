//! `bench`: one JSON object a line.

use std::path::Path;

use serde_json::Value;

use crate::common::examples::{fails, ok};

#[test]
fn bench_prints_a_line_of_json() {
    let here = Path::new(".");
    let keys = [
        "device",
        "dispatches",
        "gbps",
        "gflops",
        "host_ms",
        "max_ms",
        "median_ms",
        "min_ms",
        "name",
        "params",
        "peak_bytes",
        "peak_fraction",
        "shape",
        "tokens_per_s",
    ];
    for (mode, name) in [("train", "train_step"), ("forward", "forward")] {
        // the shape that counts for the number of parameters is the default one
        let flags = [
            "step",
            "--device",
            "cpu",
            "--seconds",
            "0.01",
            "--batch",
            "2",
            "--length",
            "16",
            "--mode",
            mode,
        ];
        let text = ok("bench", here, &flags).stdout;
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        let found: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(found, keys);
        assert_eq!(
            (&line["name"], &line["params"]),
            (&name.into(), &4_075_548.into())
        );
        for key in ["gflops", "median_ms", "peak_fraction", "tokens_per_s"] {
            assert!(line[key].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    let tiny = [
        "kernels",
        "--device",
        "cpu",
        "--seconds",
        "0",
        "--hidden",
        "32",
        "--heads",
        "2",
        "--blocks",
        "1",
        "--length",
        "16",
        "--batch",
        "2",
    ];
    let text = ok("bench", here, &tiny).stdout;
    let mut names: Vec<String> = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in [
            "shape",
            "device",
            "median_ms",
            "min_ms",
            "max_ms",
            "gflops",
            "gbps",
        ] {
            assert!(!line[key].is_null(), "{line}");
        }
        assert!(line["peak_fraction"].as_f64().unwrap() > 0.0, "{line}");
        names.push(line["name"].as_str().unwrap().to_owned());
    }
    for name in [
        "multiply_add",
        "copy",
        "matmul_nt",
        "matmul_nn",
        "matmul_tn",
        "attention",
    ] {
        assert!(
            names.iter().any(|n| n == name),
            "{name} is not in {names:?}"
        );
    }
    for (flag, part) in [("--vocab", "model.vocab_size = 0"), ("--batch", "0 x 128")] {
        fails(
            "bench",
            here,
            &["step", "--device", "cpu", flag, "0"],
            &[part],
        );
    }
}
