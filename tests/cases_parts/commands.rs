//! What the commands leave alone, and what they refuse.

use std::fs;
use std::path::Path;

use crate::case;
use crate::common::examples::{example, fails, ok, printed};
use crate::common::models::{small, write};
use crate::common::runs::contents;

/// A folder with a model of four letters in `model`.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("model")).unwrap();
    write(&dir.path().join("model"), &small(16), None);
    dir
}

fn export(out: &str) -> [&str; 6] {
    ["--device", "cpu", "--checkpoint", "model", "--out", out]
}

fn hidden(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn export_takes_any_name_and_replaces_what_it_wrote() {
    let dir = workplace();
    for out in ["bare", "bare/", "deep/er", "./bare", "bare"] {
        ok("export", dir.path(), &export(out));
        assert!(dir.path().join(out).join("config.json").is_file(), "{out}");
        assert!(hidden(dir.path()).is_empty());
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    ok("export", dir.path(), &export("empty"));
}

#[test]
fn export_leaves_everything_else_as_it_is() {
    let dir = workplace();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("mine")).unwrap();
    fs::copy(
        case("export-over-files/thesis.txt"),
        path("mine/thesis.txt"),
    )
    .unwrap();
    fs::write(path("file"), "x").unwrap();
    // a run, and a model from elsewhere
    fs::create_dir_all(path("run/checkpoint-00000002")).unwrap();
    fs::write(path("run/checkpoint-00000002/manifest.json"), "{}").unwrap();
    fs::create_dir(path("theirs")).unwrap();
    fs::write(path("theirs/config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    fs::write(path("theirs/model.safetensors"), "weights").unwrap();
    // what an earlier export was not
    fs::create_dir_all(path("exported")).unwrap();
    ok("export", dir.path(), &export("exported"));
    fs::write(path("exported/notes.txt"), "mine").unwrap();
    // a leftover's name that somebody took
    fs::create_dir(path(".new.old")).unwrap();
    fs::write(path(".new.old/thesis.txt"), "mine").unwrap();
    let before = contents(dir.path());
    for (out, parts) in [
        ("mine", &["mine", "thesis.txt", "another name"][..]),
        ("file", &["file", "no folder"]),
        ("run", &["run", "checkpoint-00000002"]),
        ("run/checkpoint-00000002", &["is a checkpoint"]),
        ("run/checkpoint-00000002/new", &["is a checkpoint"]),
        ("theirs", &["theirs", "not exported from here"]),
        ("exported", &["notes.txt"]),
        ("model", &["where the model is read from"]),
        (".", &["out"]),
        ("mine/..", &["out"]),
        ("new", &[".new.old", "thesis.txt"]),
        ("file/inside", &["file"]),
    ] {
        fails("export", dir.path(), &export(out), parts);
        assert!(before == contents(dir.path()), "{out}");
    }
}

#[test]
fn a_run_leaves_foreign_folders_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("t.txt");
    fs::write(&text, "the cat sat on the mat. ".repeat(40)).unwrap();
    let train = |more: &[&'static str]| {
        let flags = "--device cpu --data t.txt --tokenizer char --length 8 --batch 2 --steps 2 \
                     --set model.hidden_size=32 --set model.n_blocks=1 --out mine";
        flags
            .split_whitespace()
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    for name in ["config.toml", "samples.txt", "log.jsonl"] {
        let mine = dir.path().join("mine");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join(name), "# mine\n").unwrap();
        fails("train", dir.path(), &train(&[]), &["mine", name]);
        assert_eq!(fs::read_to_string(mine.join(name)).unwrap(), "# mine\n");
        fs::remove_dir_all(mine).unwrap();
    }
    // not even with a configuration as runs write it, or through a link
    ok("train", dir.path(), &train(&[]));
    let copied = dir.path().join("copied");
    fs::create_dir(&copied).unwrap();
    fs::copy(
        dir.path().join("mine/config.toml"),
        copied.join("config.toml"),
    )
    .unwrap();
    fs::write(copied.join("samples.txt"), "# mine\n").unwrap();
    let into = |out: &'static str| {
        let mut flags = train(&[]);
        let last = flags.len() - 1;
        flags[last] = out;
        flags
    };
    fails(
        "train",
        dir.path(),
        &into("copied"),
        &["copied", "samples.txt"],
    );
    #[cfg(unix)]
    {
        fs::create_dir(dir.path().join("linked")).unwrap();
        let link = dir.path().join("linked/.log.jsonl.partial");
        std::os::unix::fs::symlink("../copied/samples.txt", link).unwrap();
        fails(
            "train",
            dir.path(),
            &into("linked"),
            &[".log.jsonl.partial"],
        );
        assert_eq!(
            fs::read_to_string(copied.join("samples.txt")).unwrap(),
            "# mine\n"
        );
    }
    // a checkpoint is no folder for a run
    let whole = contents(&dir.path().join("mine"));
    let mut flags = into("mine/checkpoint-00000002");
    flags.push("--resume");
    fails("train", dir.path(), &flags, &["is a checkpoint"]);
    assert!(whole == contents(&dir.path().join("mine")));
    fs::remove_dir_all(dir.path().join("mine")).unwrap();
    ok("train", dir.path(), &train(&[]));
    let before = contents(dir.path());
    fails(
        "train",
        dir.path(),
        &train(&[]),
        &["already holds checkpoints"],
    );
    assert!(before == contents(dir.path()));
}

/// Runs an example that must refuse its flags, in words of its own or of the flags' parser.
fn refuses(name: &str, folder: &Path, flags: &str, parts: &[&str]) {
    let mut command = example(name);
    command.args(flags.split_whitespace()).current_dir(folder);
    let (success, printed) = printed(command.output().unwrap());
    assert!(!success, "{name} {flags}");
    for part in parts {
        assert!(
            printed.stderr.contains(part),
            "{part:?} is not in: {}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("panicked"), "{}", printed.stderr);
}

#[test]
fn counts_and_sizes_have_ends() {
    let dir = workplace();
    fs::write(dir.path().join("t.lines"), "abcde\n".repeat(40)).unwrap();
    let huge = u64::MAX.to_string();
    let model = "--device cpu --checkpoint model";
    for (name, flags, parts) in [
        ("sample", "--length 0", &["length = 0", "1..=1048576"][..]),
        ("sample", "--length 1048577", &["length = 1048577"]),
        ("sample", &format!("--length {huge}"), &["length = "]),
        ("sample", "--count 0", &["--count"]),
        (
            "sample",
            &format!("--count {huge}"),
            &["sampling.seed of the last sample"],
        ),
        (
            "sample",
            "--count 2 --seed 9223372036854775807",
            &["sampling.seed of the last"],
        ),
        (
            "sample",
            &format!("--seed {huge}"),
            &["sampling.seed", "must be in 0..="],
        ),
        ("sample", "--steps 0", &["sampling.steps = 0"]),
        ("sample", "--steps 16777217", &["sampling.steps = 16777217"]),
        (
            "sample",
            "--temperature NaN",
            &["sampling.temperature = NaN", "[0.01, 100]"],
        ),
        (
            "sample",
            "--set top_k=4294967296",
            &["sampling.top_k", "up to 4294967295"],
        ),
        (
            "sample",
            "--prompt aaaaaaaaaaaaaaaaa",
            &["18 tokens", "canvas of 16"],
        ),
        ("infill", "abc", &["no [MASK] to fill"]),
        ("infill", "a[MASK:65537]", &["65536"]),
        ("eval", "--data t.lines --batch 0", &["batch = 0"]),
        (
            "eval",
            "--data t.lines --samples 0",
            &["samples = 0", "1..=65536"],
        ),
        (
            "eval",
            &format!("--data t.lines --samples {huge}"),
            &["samples = "],
        ),
        ("eval", "--data t.lines --T 1048577", &["T = 1048577"]),
        (
            "eval",
            "--data t.lines --field body",
            &["data.field = body", "JSON lines"],
        ),
        (
            "eval",
            "--data t.lines --top-k 3",
            &["nothing is sampled without --generate"],
        ),
        ("eval", "--generate 0", &["--generate"]),
        ("eval", "--generate 2 --judge model --blocks 3", &["--data"]),
        ("eval", "--data t.lines --judge model", &["--generate"]),
        (
            "eval",
            "--data t.lines --no-wrap --no-eos",
            &["ends with EOS"],
        ),
    ] {
        refuses(name, dir.path(), &format!("{model} {flags}"), parts);
    }
    let train = "--device cpu --data t.lines --tokenizer char --steps 1";
    for (flags, parts) in [
        ("--length 2", &["model.length = 2"][..]),
        ("--length 65537", &["model.length = 65537"]),
        ("--batch 0", &["training.batch = 0"]),
        ("--batch 65537", &["training.batch = 65537"]),
        (
            "--set training.accumulation=16384 --batch 65536",
            &["training.accumulation", "tokens a step"],
        ),
        (
            "--seed 9223372036854775808",
            &["seed = 9223372036854775808"],
        ),
        (
            "--set seed=9223372036854775808",
            &["seed = 9223372036854775808", "must be in"],
        ),
        (
            "--set training.batch=1.5",
            &["training.batch = 1.5", "expected a whole number"],
        ),
        ("--set noise.power=3", &["noise.power = 3", "polynomial"]),
        (
            "--set optim.min_lr=1e-5 --set optim.schedule=constant",
            &["optim.min_lr", "cosine"],
        ),
        (
            "--set noise.type=linear --set noise.sigma_max=1e9",
            &["noise.sigma_max", "at most 100"],
        ),
        ("--set optim.lr=1e300", &["optim.lr", "single precision"]),
        ("--set optim.eps=1e-60", &["optim.eps", "single precision"]),
        (
            "--set seed=010x",
            &["seed = 010x", "expected a whole number"],
        ),
        ("--set data.eos_token=x", &["tokenizer.json"]),
    ] {
        refuses("train", dir.path(), &format!("{train} {flags}"), parts);
    }
    refuses(
        "train",
        dir.path(),
        "--device cpu --data t.lines --tokenizer chars",
        &["data.tokenizer = chars", "neither char, byte nor text8"],
    );
    // the ends themselves
    let flags = "--seed 9223372036854775807 --length 1";
    let all = format!("{model} {flags}");
    ok(
        "sample",
        dir.path(),
        &all.split_whitespace().collect::<Vec<_>>(),
    );
    let flags = "--data t.lines --samples 1 --batch 18446744073709551615 --T 1 --blocks 1 --json";
    let all = format!("{model} {flags}");
    let one = ok(
        "eval",
        dir.path(),
        &all.split_whitespace().collect::<Vec<_>>(),
    );
    let one: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    for key in ["std_err", "ppl_low", "ppl_high"] {
        assert!(one[key].is_null(), "{one}");
    }
}
