//! `bench`: one JSON object a line.

use std::path::Path;

use serde_json::Value;

use crate::common::examples::{fails, ok};

#[test]
fn bench_prints_a_line_of_json() {
    let here = Path::new(".");
    let keys = [
        "ahead_median_ms",
        "device",
        "dispatches",
        "gbps",
        "gflops",
        "host_ms",
        "least_bytes",
        "max_ms",
        "median_ms",
        "min_ms",
        "moved_bytes",
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
    for (flag, part) in [("--vocab", "model.vocab_size = 0"), ("--batch", "0 x 128")] {
        fails(
            "bench",
            here,
            &["step", "--device", "cpu", flag, "0"],
            &[part],
        );
    }
}

#[test]
fn a_corpus_is_made_up_and_read() {
    let flags = [
        "corpus",
        "--megabytes",
        "1",
        "--shards",
        "2",
        "--length",
        "32",
    ];
    let text = ok("bench", Path::new("."), &flags).stdout;
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["name"], &line["files"]),
        (&"corpus".into(), &4.into())
    );
    for key in [
        "blocks",
        "tokenizing_s",
        "megabytes_per_s",
        "opening_s",
        "sequence_us",
    ] {
        assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
    }
    let there = cfg!(target_os = "linux");
    assert_eq!(line["peak_resident_bytes"].is_u64(), there, "{line}");
}

#[test]
fn kernels_have_a_line_each() {
    let here = Path::new(".");
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
        "attention_and_backward",
        "cached_attention",
        "norm",
        "rotary",
        "silu",
        "gated_residual_and_backward",
        "embedding",
        "embedding_and_backward",
        "head_loss_subs",
        "head_loss_d3pm",
        "head_loss_sedd",
        "categorical",
        "categorical_top_p",
        "grad_norm_and_adamw",
    ] {
        assert!(
            names.iter().any(|n| n == name),
            "{name} is not in {names:?}"
        );
    }
}

#[test]
fn samplers_are_compared_with_the_reference() {
    let here = Path::new(".");
    let flags = "sample --device cpu --seconds 0 --hidden 32 --blocks 1 --heads 2 --length 8 --vocab 17 \
                 --batch 3";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let text = ok("bench", here, &flags).stdout;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let references = ["reference", "reference-cached", "reference-ar"];
    let samplers = [
        "ancestral",
        "first-hitting",
        "first-hitting-2",
        "confidence",
        "threshold",
        "entropy-bound",
        "remdm-cap",
        "left-to-right",
    ];
    let mut expected: Vec<(&str, u64)> = references.map(|name| (name, 1)).to_vec();
    expected.extend(samplers.map(|name| (name, 1)));
    expected.extend(samplers.map(|name| (name, 3)));
    let found = |line: &Value| line["name"].as_str().unwrap().to_owned();
    let found: Vec<(String, u64)> = lines
        .iter()
        .map(|line| (found(line), line["batch"].as_u64().unwrap()))
        .collect();
    let expected: Vec<(String, u64)> = expected.iter().map(|&(n, b)| (n.to_owned(), b)).collect();
    assert_eq!(found, expected);
    for line in &lines {
        assert!(line["shape"].is_string() && line["device"].is_string());
        assert_eq!(line["steps"], 16);
        let recurrent = ["left-to-right", "reference-ar"].contains(&line["name"].as_str().unwrap());
        for key in [
            "max_ms",
            "median_ms",
            "min_ms",
            "network_calls",
            "ratio",
            "ratio_cached",
            "ratio_network",
            "tokens_per_s",
        ] {
            let absent = recurrent && ["ratio_cached", "ratio_network"].contains(&key);
            let value = line[key].as_f64();
            assert_eq!(value.is_none(), absent, "{key}: {line}");
            assert!(value.is_none_or(|x| x > 0.0 && x.is_finite()), "{line}");
        }
    }
    let line = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(line("reference")["ratio"].as_f64(), Some(1.0));
    // 16 steps and the removal of what noise is left; a token in a call, and two
    for (name, calls) in [
        ("reference", 17),
        ("reference-ar", 7),
        ("first-hitting", 8),
        ("first-hitting-2", 4),
        ("left-to-right", 7),
    ] {
        assert_eq!(line(name)["network_calls"], calls, "{name}");
    }
    assert!(line("ancestral")["network_calls"].as_u64().unwrap() <= 8);
    let one = [&flags[..flags.len() - 1], &["1"]].concat();
    assert_eq!(ok("bench", here, &one).stdout.lines().count(), 11);
    let none = [&flags[..flags.len() - 1], &["0"]].concat();
    fails("bench", here, &none, &["--batch must be at least 1"]);
}

/// Ranks send no more than they must, and the model of scaling is one of slower links being slower.
#[test]
fn bench_shares_a_step() {
    let printed = ok(
        "bench",
        Path::new("."),
        &["ranks", "--turns", "1", "--batch", "2"],
    );
    let lines: Vec<Value> = printed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    let (one, two) = (&lines[0], &lines[2]);
    assert_eq!(number(one, "sent_bytes_a_step"), 0.0);
    let extra = number(two, "sent_bytes_a_step") - number(two, "least_bytes_a_step");
    assert!((0.0..64.0).contains(&extra), "{extra}");
    assert!(
        lines[..3]
            .iter()
            .all(|line| number(line, "median_ms") > 0.0)
    );
    let mut slower = 0.0;
    for line in &lines[4..7] {
        let speed_up: Vec<f64> = line["speed_up"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        let ranks: Vec<f64> = line["ranks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        assert_eq!(speed_up[0], 1.0);
        assert!(speed_up.iter().zip(&ranks).all(|(s, n)| s <= n));
        assert!(speed_up[6] > slower, "{line}");
        slower = speed_up[6];
    }
}
