//! The examples of this profile, run as a user runs them.

use std::path::Path;
use std::process::{Command, Output};

/// An example beside this test's executable.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let path = profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing: build it with cargo build --examples, in this profile",
        path.display()
    );
    let mut command = Command::new(path);
    command.env_remove("MDLM_DEVICE");
    command
}

/// What an example has printed.
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
}

pub fn printed(output: Output) -> (bool, Printed) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let printed = Printed {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    (output.status.success(), printed)
}

/// Runs an example in a folder; it must succeed.
pub fn ok(name: &str, folder: &Path, arguments: &[&str]) -> Printed {
    let mut command = example(name);
    let output = command.args(arguments).current_dir(folder).output();
    let (success, printed) = printed(output.unwrap());
    assert!(success, "{name} {arguments:?}: {}", printed.stderr);
    printed
}

/// Runs an example that must fail with these words in its error.
pub fn fails(name: &str, folder: &Path, arguments: &[&str], parts: &[&str]) {
    let mut command = example(name);
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let (_, printed) = printed(output);
    let error = printed.stderr.lines().find(|line| line.contains("error: "));
    let error = error.unwrap_or_else(|| panic!("no error line: {}", printed.stderr));
    for part in parts {
        assert!(printed.stderr.contains(part), "{part:?} is not in: {error}");
    }
    assert!(!printed.stderr.contains("panicked"), "{}", printed.stderr);
}

/// Flags of the smallest run on names.
pub const NAMES: [&str; 20] = [
    "--device",
    "cpu",
    "--data",
    "corpora/names.txt",
    "--tokenizer",
    "char",
    "--batch",
    "8",
    "--length",
    "24",
    "--set",
    "model.hidden_size=32",
    "--set",
    "model.n_blocks=1",
    "--set",
    "optim.recipe=reference",
    "--set",
    "optim.lr=1e-2",
    "--set",
    "training.val_blocks=16",
];

pub fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&NAMES[..], more].concat()
}
