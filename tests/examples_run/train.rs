//! `train` and `sample`: whole runs, continued, interrupted and sampled.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::{list, verify};
use mdlm::train::read_log;
use serde_json::Value;

use crate::common::Executor;
use crate::common::examples::{example, fails, ok, printed, with};
use crate::common::runs::{checkpoint, contents};

/// Two ranks print, log and write as one does, and go on alone.
#[test]
fn ranks_are_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let two = [
        "--steps",
        "6",
        "--save-every",
        "3",
        "--out",
        "run",
        "--ranks",
        "threads:2",
    ];
    let shared = ok(
        "train",
        folder,
        &with(&[&two[..], &["--set", "training.shard=true"]].concat()),
    );
    for part in ["2 ranks, each: ", "; unigram model", "--- sample 3 ---"] {
        assert_eq!(
            shared.stdout.matches(part).count(),
            1,
            "{part:?}: {}",
            shared.stdout
        );
    }
    assert!(
        shared.stderr.contains("rank 1 of 2, device: CPU twin"),
        "{}",
        shared.stderr
    );
    let again = ["--steps", "9", "--out", "run", "--resume"];
    let alone = ok("train", folder, &with(&again));
    assert!(!alone.stdout.contains("ranks, each"), "{}", alone.stdout);
    let rows = read_log(&folder.join("run/log.jsonl")).unwrap();
    assert_eq!(rows.len(), 9);
    // the same tokens a step, of two ranks or of one
    assert!(
        rows.iter()
            .all(|row| row.stats.tokens == row.stats.step * rows[0].stats.tokens)
    );
}

#[test]
fn a_dry_run_says_what_runs_take() {
    let dir = tempfile::tempdir().unwrap();
    let flags = with(&["--dry-run", "--memory", "0.5", "--out", "run"]);
    let text = ok("train", dir.path(), &flags).stdout;
    let largest = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    assert!(largest("this") > largest("nano") && largest("nano") > largest("mini"));
    assert_eq!((largest("small"), largest("medium")), (0, 0));
    assert!(text.contains("GFLOP/s"), "{text}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn train_then_resume_then_sample() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let out = folder.join("run");
    let first = ok(
        "train",
        folder,
        &with(&["--steps", "40", "--save-every", "20", "--out", "run"]),
    );
    let text = first.stdout;
    for part in [
        "steps = 40",
        "parameters",
        "held-out blocks of 24 tokens",
        "validation perplexity",
        "unigram model",
        "--- sample 3 ---",
        "loss curve: run/loss.svg",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(
        first.stderr.contains("device: CPU twin"),
        "{}",
        first.stderr
    );

    let saved = fs::read_to_string(out.join("config.toml")).unwrap();
    let resolved = TrainConfig::from_toml(&saved).unwrap();
    assert_eq!(
        (resolved.model.vocab_size, resolved.model.mask_index),
        (29, 28)
    );
    assert_eq!(resolved.optim.warmup, Some(2));
    assert!(text.contains(&saved), "the resolved settings are printed");
    assert!(
        fs::read_to_string(out.join("loss.svg"))
            .unwrap()
            .starts_with("<svg")
    );
    assert!(
        fs::read_to_string(out.join("samples.txt"))
            .unwrap()
            .contains("--- sample 1 ---")
    );
    for step in [20, 40] {
        verify(&checkpoint(&out, step)).unwrap();
        assert!(checkpoint(&out, step).join("ema.safetensors").is_file());
    }
    assert!(out.join("checkpoint-00000040/manifest.json").is_file());

    let log = fs::read_to_string(out.join("log.jsonl")).unwrap();
    for (i, line) in log.lines().enumerate() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["step"], i + 1);
        assert_eq!(row["tokens"], (i + 1) * 8 * 24);
        assert_eq!(row["skipped"], 0);
        for key in ["loss", "lr", "grad_norm"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{line}");
        }
        assert_eq!(row["val_ppl"].is_f64(), i == 39, "{line}");
    }
    let rows = read_log(&out.join("log.jsonl")).unwrap();
    assert_eq!(rows.len(), 40);
    let mean = |rows: &[mdlm::train::Row]| rows.iter().map(|r| r.stats.loss).sum::<f64>() / 10.0;
    let (begin, end) = (mean(&rows[..10]), mean(&rows[30..]));
    assert!(end < begin - 0.2, "the loss went from {begin} to {end}");

    // a complete run is left alone
    let before = contents(&out);
    let again = ok(
        "train",
        folder,
        &["--device", "cpu", "--resume", "--out", "run"],
    );
    assert_eq!(again.stdout, "run is complete at step 40\n");
    let all = with(&[
        "--steps",
        "40",
        "--save-every",
        "20",
        "--out",
        "run",
        "--resume",
    ]);
    ok("train", folder, &all);
    let resume = ["--device", "cpu", "--resume", "--out", "run"];
    for (flags, parts) in [
        (["--batch", "3"], ["training.batch = 3", "has 8"]),
        (["--seed", "7"], ["seed = 7", "has 1"]),
        (["--preset", "mini"], ["config model.", "has "]),
        (
            ["--tokenizer", "byte"],
            ["data.tokenizer = byte", "has char"],
        ),
        (["--set", "optim.lr=1"], ["optim.lr = 1", "has 0.01"]),
    ] {
        fails("train", folder, &[&resume[..], &flags].concat(), &parts);
    }
    // without --resume, a folder with checkpoints is not touched
    fails(
        "train",
        folder,
        &with(&["--out", "run"]),
        &["already holds checkpoints"],
    );
    assert!(contents(&out) == before);

    let longer = ["--steps", "60", "--save-every", "30"];
    ok("train", folder, &[&resume[..], &longer].concat());
    let steps: Vec<u64> = list(&out).unwrap().iter().map(|c| c.0).collect();
    assert_eq!(
        (steps, read_log(&out.join("log.jsonl")).unwrap().len()),
        (vec![20, 40, 60], 60)
    );

    samples_of(folder);
}

/// What `sample` makes of the trained run in `folder`.
fn samples_of(folder: &Path) {
    let sample = |more: &[&str]| {
        let flags = ["--device", "cpu", "--steps", "12", "--checkpoint", "run"];
        ok("sample", folder, &[&flags[..], more].concat()).stdout
    };
    let two = sample(&["--prompt", "an", "--count", "2", "--seed", "5"]);
    let parts: Vec<&str> = two.split("--- seed ").collect();
    assert_eq!(parts.len(), 3, "{two}");
    assert!(
        parts[1].starts_with("5 ---\nan") && parts[2].starts_with("6 ---\nan"),
        "{two}"
    );
    assert_eq!(
        two,
        sample(&["--prompt", "an", "--count", "2", "--seed", "5", "--watch"])
    );
    let one = sample(&["--prompt", "an", "--seed", "6"]);
    assert_eq!(one, format!("--- seed {}", parts[2]));
    assert_ne!(
        sample(&["--seed", "1"])[14..],
        sample(&["--seed", "2"])[14..]
    );
    let short = sample(&["--length", "9"]);
    assert!(short.lines().nth(1).unwrap().len() <= 8, "{short}");

    // longer than the model's 24, and several prompts at once
    let more = [
        "--prompt",
        "an",
        "--prompt",
        "em",
        "--length",
        "60",
        "--sampler",
        "threshold",
    ];
    let both = sample(&[&more[..], &["--set", "threshold=0.2", "--top-p", "0.9"]].concat());
    let begins: Vec<bool> = ["prompt 1 ---\nan", "prompt 2 ---\nem"]
        .map(|text| both.contains(text))
        .to_vec();
    assert_eq!(begins, [true, true], "{both}");

    let run = ["--device", "cpu", "--checkpoint", "run"];
    let gaps = [&run[..], &["an[MASK:3]a", "--sampler", "first-hitting"]].concat();
    let filled = ok("infill", folder, &gaps).stdout;
    let lines: Vec<&str> = filled.lines().collect();
    assert_eq!(lines.len(), 4, "{filled}");
    for (line, gaps) in lines.iter().zip([2, 1, 0, 0]) {
        assert_eq!(line.matches('_').count(), gaps, "{filled}");
        assert!(line.starts_with("an") && line.ends_with('a'), "{filled}");
    }
    let bad = [&run[..], &["an[MASK"]].concat();
    fails("infill", folder, &bad, &["template = [MASK"]);

    let refused = |more: &[&str], parts: &[&str]| {
        fails("sample", folder, &[&run[..], more].concat(), parts);
    };
    refused(&["--prompt", "Ann"], &["character 'A' at position 0"]);
    let parts = ["sampling.stride = 24", "1..24"];
    refused(&["--length", "25", "--set", "stride=24"], &parts);
    refused(
        &["--set", "sampler=ddpm"],
        &["sampling.sampler = ddpm", "ancestral", "remdm-loop"],
    );
    refused(
        &["--threshold", "0.5"],
        &["sampling.threshold = 0.5", "set sampling.sampler"],
    );
    refused(&["--length", "2", "--prompt", "emma"], &["canvas of 2"]);
    refused(&["--steps", "0"], &["sampling.steps = 0"]);
    let absent = ["--device", "cpu", "--checkpoint", "absent"];
    fails("sample", folder, &absent, &["error: cannot open absent"]);
    let folder_without = ["--device", "cpu", "--checkpoint", "."];
    fails("sample", folder, &folder_without, &["no whole checkpoint"]);

    // the software driver will do, and draws the same text
    let name = &Executor::Gpu.shared().info().name;
    let flags = [
        "--device",
        "gpu",
        "--steps",
        "12",
        "--checkpoint",
        "run",
        "--seed",
        "6",
    ];
    let gpu = ok(
        "sample",
        folder,
        &[&flags[..], &["--prompt", "an"]].concat(),
    );
    assert!(
        gpu.stderr.contains(&format!("device: {name}")),
        "{}",
        gpu.stderr
    );
    assert_eq!(gpu.stdout, one);
}

#[test]
fn train_on_a_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let name = &Executor::Gpu.shared().info().name;
    let short = ["--steps", "2", "--out", "run", "--set", "sampling.steps=2"];
    let mut flags = with(&short);
    flags[1] = "gpu";
    let printed = ok("train", dir.path(), &flags);
    assert!(
        printed.stderr.contains(&format!("device: {name}")),
        "{}",
        printed.stderr
    );
    verify(&checkpoint(&dir.path().join("run"), 2)).unwrap();
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let endless = with(&["--steps", "1000000", "--save-every", "0", "--out", "run"]);
    let mut command = example("train");
    command.args(&endless).current_dir(dir.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while read_log(&out.join("log.jsonl")).unwrap().len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(list(&out).unwrap().is_empty());
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let (success, printed) = printed(child.wait_with_output().unwrap());
    assert!(success);
    let stopped = "stopped; continue with --resume --out run";
    assert!(printed.stdout.contains(stopped), "{}", printed.stdout);
    let (step, path) = list(&out).unwrap().remove(0);
    verify(&path).unwrap();
    assert_eq!(read_log(&out.join("log.jsonl")).unwrap().len() as u64, step);

    let steps = (step + 2).to_string();
    let resume = [
        "--device", "cpu", "--resume", "--out", "run", "--steps", &steps,
    ];
    ok("train", dir.path(), &resume);
    verify(&checkpoint(&out, step + 2)).unwrap();
}
