//! `instruct`: pairs of prompts and stories, training on them, and what the bundled model makes of prompts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::examples::{fails, ok};
use crate::common::runs::repository_file;

/// The rows of a file of JSON lines.
fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Stories as `instruct` takes them apart.
const STORIES: [&str; 8] = [
    // a title, and a question inside of a sentence, end none
    "Mr. Fox saw a big red ball. \"Is it yours?\" asked Tim. It was.\nHe said, \"Yes! It is mine.\" They were very happy.",
    // a line ends a sentence
    "Lily had a cat named Max\nMax ran. Max sat. Max ate. Lily went home with Max.",
    "A small dog sat in the sun. It ran. It ate. The dog went to bed.",
    "One day, it was very hot. It ran. It ate. \"We love you,\" they said.",
    // too few sentences; a gap of its own; a first sentence of two words; too long
    "The cat sat down. Then it went home.",
    "The cat sat down. It ran... and ran. It ate. Then it went home.",
    "Hello, Tim. It ran. It ate. Then it went home.",
    "The cat sat down. It ran. It ate. It sat on the mat, ate a fish, saw a bird, ran up a tree, fell, and went home to rest. The sun was hot. The dog was sad. The bird was glad. Tim saw them and said, \"Hello!\" to all.",
];

fn write_stories(path: &Path, stories: &[&str]) {
    fs::write(path, stories.join("\n<|endoftext|>\n")).unwrap();
}

/// Writes the pairs of [`STORIES`] into `pairs`.
fn pairs(folder: &Path) {
    write_stories(&folder.join("stories.txt"), &STORIES);
    let files = ["--stories", "stories.txt", "--held-out", "stories.txt"];
    let length = ["--length", "72", "--out", "pairs"];
    let printed = ok(
        "instruct",
        folder,
        &[&["pairs"], &files[..], &length].concat(),
    );
    assert!(
        printed.stdout.contains("4 pairs in pairs/train.jsonl"),
        "{}",
        printed.stdout
    );
}

#[test]
fn prompts_are_first_and_last_sentences() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path());
    let held_out = rows(&dir.path().join("pairs/valid.jsonl"));
    let prompts = [
        "Mr. Fox saw a big red ball. ... They were very happy.",
        "Lily had a cat named Max ... Lily went home with Max.",
        "A small dog sat in the sun.",
        "... \"We love you,\" they said.",
    ];
    assert_eq!(held_out.len(), prompts.len());
    for (i, (row, prompt)) in held_out.iter().zip(prompts).enumerate() {
        assert_eq!(*row, json!({"prompt": prompt, "response": STORIES[i]}));
    }
    let none = ["pairs", "--stories", "absent.txt"];
    fails("instruct", dir.path(), &none, &["absent.txt"]);
}

#[test]
fn what_is_held_out_is_not_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    ok("instruct", dir.path(), &["pairs", "--out", "pairs"]);
    let [train, held_out] = ["train", "valid"].map(|name| {
        let rows = rows(&dir.path().join(format!("pairs/{name}.jsonl")));
        let text = |row: &Value| row["response"].as_str().unwrap().to_owned();
        rows.iter().map(text).collect::<BTreeSet<_>>()
    });
    assert!(train.len() > 20_000 && held_out.len() > 500);
    assert!(train.is_disjoint(&held_out));
}

#[test]
fn a_run_on_conversations_chats() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    pairs(folder);
    let config = fs::read_to_string(repository_file("examples/configs/instruct.toml")).unwrap();
    fs::write(folder.join("instruct.toml"), config).unwrap();
    let small = [
        "data.train=pairs/train.jsonl",
        "data.valid=pairs/valid.jsonl",
        "model.hidden_size=16",
        "model.n_heads=1",
        "model.length=72",
        "training.steps=1",
        "training.batch=2",
        "optim.warmup=1",
        "sampling.temperature=0",
    ];
    let mut flags = vec![
        "--device",
        "cpu",
        "--config",
        "instruct.toml",
        "--out",
        "run",
    ];
    flags.extend(small.iter().flat_map(|set| ["--set", set]));
    ok("train", folder, &flags);
    let template = fs::read(repository_file("examples/instruct/chat_template.jinja")).unwrap();
    let kept = |path: &str| fs::read(folder.join(path).join("chat_template.jinja")).unwrap();
    assert_eq!(kept("run/checkpoint-00000001"), template);

    // the template goes with the model, and a model with one is replaced like any other
    let card = ["--card", "pairs", "--licence", "none", "--command", "train"];
    let export = ["--device", "cpu", "--checkpoint", "run", "--out", "model"];
    for _ in 0..2 {
        ok("export", folder, &[&export[..], &card].concat());
        assert_eq!(kept("model"), template);
    }
    let score = [
        "score",
        "--device",
        "cpu",
        "--checkpoint",
        "model",
        "--beside",
        "run",
        "--count",
        "2",
        "--show",
        "1",
        "--stories",
        "stories.txt",
        "--card",
        "model/card.json",
    ];
    let printed = ok("instruct", folder, &score);
    assert!(
        !printed.stderr.contains("no chat template"),
        "{}",
        printed.stderr
    );
    for part in [
        "2 held-out prompts",
        "run, told the same",
        "run, told nothing",
        "--- Mr. Fox",
    ] {
        assert!(printed.stdout.contains(part), "{part}: {}", printed.stdout);
    }
    let card: Value =
        serde_json::from_slice(&fs::read(folder.join("model/card.json")).unwrap()).unwrap();
    assert_eq!(card["instructions"]["prompts"], 2);
    assert_eq!(card["instructions"]["answers"].as_array().unwrap().len(), 1);
    assert_eq!(card["licence"], "none");
    // the same weights, told the same, are as good
    assert_eq!(
        card["instructions"]["tuned"],
        card["instructions"]["untuned"]
    );
    let page = repository_file("web/model/mdlm");
    let without = ["score", "--device", "cpu", "--checkpoint", &page];
    fails("instruct", folder, &without, &["no chat template"]);
}
