//! Where settings come from, what is refused, and what `--help` says.

use std::fs;
use std::path::{Path, PathBuf};

use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::verify;

use crate::common::examples::{example, fails, ok};
use crate::common::runs::{checkpoint, repository_file};

#[test]
fn settings_come_from_file_set_and_flags_in_that_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = "seed = 3\n[training]\nsteps = 1\nbatch = 2\naccumulation = 2\nval_blocks = 1\n\
                  [model]\nhidden_size = 32\nn_blocks = 1\nlength = 16\n\
                  [sampling]\nsteps = 2\n\
                  [data]\ntrain = \"corpora/names.txt\"\ntokenizer = \"byte\"\n";
    fs::write(dir.path().join("my.toml"), config).unwrap();
    let flags = [
        "--device",
        "cpu",
        "--config",
        "my.toml",
        "--set",
        "training.batch=3",
        "--set",
        "training.accumulation=1",
        "--batch",
        "4",
        "--tokenizer",
        "char",
    ];
    ok("train", dir.path(), &flags);
    let saved = fs::read_to_string(dir.path().join("runs/my-1/config.toml"));
    let saved = TrainConfig::from_toml(&saved.unwrap()).unwrap();
    let training = &saved.training;
    assert_eq!(
        (training.batch, training.accumulation, training.steps),
        (4, 1, 1)
    );
    assert_eq!((saved.seed, saved.data.tokenizer.as_str()), (3, "char"));
    // the next run gets the next folder; --resume takes the newest
    ok("train", dir.path(), &flags);
    assert!(dir.path().join("runs/my-2/samples.txt").is_file());
    let again = ok("train", dir.path(), &[&flags[..], &["--resume"]].concat());
    assert_eq!(again.stdout, "runs/my-2 is complete at step 1\n");
    // with nothing to resume, --resume starts
    let fresh = [&flags[..], &["--resume", "--out", "fresh"]].concat();
    ok("train", dir.path(), &fresh);
    verify(&checkpoint(&dir.path().join("fresh"), 1)).unwrap();
}

#[test]
fn train_refuses_what_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    let cases: [(&[&str], &[&str]); 16] = [
        (
            &["--set", "optim.lrr=1"],
            &["optim.lrr = 1", "unknown key", "warmup"],
        ),
        (&["--set", "optim.lr"], &["optim.lr", "section.key=value"]),
        (
            &["--preset", "huge"],
            &["preset = huge", "nano, mini, tiny, small, medium"],
        ),
        (&["--batch", "0"], &["training.batch = 0"]),
        (&["--steps", "0"], &["training.steps = 0"]),
        (&["--length", "2"], &["model.length = 2"]),
        (&["--data", "empty.txt"], &["empty.txt: the file is empty"]),
        (&["--data", "absent.txt"], &["cannot open absent.txt"]),
        (
            &["--data", "no-*.txt"],
            &["no-*.txt: no file has a name like this"],
        ),
        (
            &["--data", "empty.txt", "--data", "absent.txt"],
            &["cannot open absent.txt"],
        ),
        (
            &["--set", "data.weights=[1]"],
            &["data.weights = [1.0]", "one for each of the 0"],
        ),
        (
            &["--tokenizer", "absent.json"],
            &["cannot open absent.json"],
        ),
        (&["--config", "absent.toml"], &["cannot open absent.toml"]),
        (
            &["--device", "no such device"],
            &["no GPU adapter", "found: ", "hint: install"],
        ),
        (&["--ranks", "threads:0"], &["ranks = threads:0", "or mpi"]),
        (&["--ranks", "2"], &["ranks = 2", "must be threads:N"]),
    ];
    for (flags, parts) in cases {
        let device: &[&str] = if flags[0] == "--device" {
            &[]
        } else {
            &["--device", "cpu"]
        };
        fails("train", dir.path(), &[device, flags].concat(), parts);
    }
    let left: Vec<PathBuf> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left, [empty], "a refused run wrote something");

    let mut command = example("train");
    let environment = command
        .env("MDLM_DEVICE", "no such device")
        .output()
        .unwrap();
    let text = String::from_utf8(environment.stderr).unwrap();
    assert!(
        text.contains("no GPU adapter for \"no such device\""),
        "{text}"
    );
}

#[test]
fn bundled_settings_are_valid() {
    let mut seen = 0;
    for entry in fs::read_dir(repository_file("examples/configs")).unwrap() {
        let path = entry.unwrap().path();
        let config = TrainConfig::from_toml(&fs::read_to_string(&path).unwrap());
        let config = config.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        config.validate().unwrap();
        config.data.validate().unwrap();
        let data = config.data;
        let template = Path::new(&repository_file(&data.chat_template)).join("chat_template.jinja");
        assert!(data.chat_template.is_empty() || template.is_file());
        let built_in = ["", "char", "byte"];
        for file in [data.train, data.valid, data.tokenizer] {
            let found = Path::new(&repository_file(&file)).is_file();
            // `runs/` is where examples put what they make, so a fresh clone has none of it.
            let made = file.starts_with("runs/");
            let known = found || made || built_in.contains(&file.as_str());
            assert!(known, "{file}");
        }
        seen += 1;
    }
    assert!(seen > 0);
}
#[test]
fn help_names_every_flag() {
    let here = Path::new(".");
    let help = |name: &str, arguments: &[&str], flags: &str| {
        let text = ok(name, here, &[arguments, &["--help"]].concat()).stdout;
        for flag in flags.split(' ') {
            assert!(
                text.contains(&format!("--{flag}")),
                "{name}: no --{flag} in {text}"
            );
        }
        assert!(text.contains("MDLM_DEVICE"), "{text}");
    };
    help(
        "train",
        &[],
        "config preset data tokenizer steps batch length seed out save-every resume set device",
    );
    help(
        "sample",
        &[],
        "checkpoint model weights mask shift block-size adapter prompt length count watch sampler steps seed temperature \
         top-k top-p threshold block guidance cache regex json-schema set device",
    );
    help(
        "infill",
        &[],
        "checkpoint sampler steps seed regex json-schema set device",
    );
    help("bench", &[], "device seconds");
    for what in ["step", "kernels"] {
        let flags = "hidden blocks heads cond length batch vocab mode device seconds";
        help("bench", &[what], flags);
    }
    help(
        "bench",
        &["compare"],
        "hidden batch vocab peers turns torch-flags",
    );
    let flags = "hidden blocks heads cond length batch vocab steps-per-token device seconds";
    help("bench", &["sample"], flags);
}

/// The commands at the end of an example's help.
fn shown(example: &str) -> Vec<String> {
    let help = ok(example, Path::new("."), &["--help"]).stdout;
    let commands = help.split("Examples:\n").nth(1);
    let commands = commands.unwrap_or_else(|| panic!("{example} shows no examples: {help}"));
    commands
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn help_ends_with_commands_that_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for example in [
        "train", "sample", "infill", "eval", "export", "inspect", "ablate", "bench", "instruct",
        "chat", "serve",
    ] {
        let commands = shown(example);
        assert_eq!(commands.len(), 3, "{example}: {commands:?}");
        for command in commands {
            assert!(command.contains(example), "{command}");
            // those that need nothing but this repository, and take seconds
            if !["sample", "infill", "inspect", "eval"].contains(&example)
                || command.contains("LLaDA")
            {
                continue;
            }
            let mut words = Vec::new();
            for (i, part) in command.split('"').enumerate() {
                match i % 2 {
                    0 => words.extend(part.split_whitespace().skip(usize::from(i == 0))),
                    _ => words.push(part),
                }
            }
            if example != "inspect" {
                words.extend(["--device", "cpu"]);
            }
            ok(example, root, &words);
        }
    }
}
