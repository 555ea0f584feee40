//! Programs in C, compiled with the system's compiler and linked with the library: the example, and one that does what
//! it should not.

#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a test that unwraps still says what failed and where

use std::path::{Path, PathBuf};
use std::process::Command;

use mdlm::blocking::wait;
use mdlm::{Canvas, Device, Model, SampleConfig};

const TEMPLATE: &str = "Lily had a [MASK:3] and she was [MASK:2].";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model() -> PathBuf {
    folder().join("../web/model/mdlm")
}

/// Where Cargo has put the libraries: beside this program.
fn libraries() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}

/// Compiles a program with these arguments of the linker and runs it; what it prints.
fn run(source: &str, linked: &[&str], arguments: &[&str]) -> Result<String, String> {
    let out = tempfile::tempdir().unwrap();
    let program = out.path().join("program");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-o"])
        .arg(&program)
        .arg(folder().join(source))
        .arg("-I")
        .arg(folder().join("include"))
        .arg("-L")
        .arg(libraries())
        .args(linked)
        .output()
        .expect("no C compiler `cc`");
    let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
    assert!(compiled.status.success(), "{said}");
    let ran = Command::new(&program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries())
        .env("DYLD_LIBRARY_PATH", libraries())
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    match ran.status.success() {
        true => Ok(String::from_utf8(ran.stdout).unwrap()),
        false => Err(format!("{}: {said}", ran.status)),
    }
}

/// What the library itself makes of the template: every text on the way, and the tokens.
fn expected(config: &SampleConfig) -> String {
    let mut model = wait(Model::load(&Device::cpu(), &model())).unwrap();
    let tokenizer = model.tokenizer().unwrap().clone();
    let canvas = Canvas::parse(TEMPLATE, &tokenizer).unwrap();
    let canvas = canvas.framed(model.frame());
    let mut text = format!(
        "{} parameters, {} tokens, mask {}\n",
        model.info().parameters,
        model.vocab_size(),
        model.mask_index()
    );
    let mut sampler = model.sampler(canvas, config).unwrap();
    while let Some(report) = wait(sampler.step()).unwrap() {
        if !report.revealed.is_empty() {
            let shown = sampler.canvas().text(&tokenizer);
            text += &format!("{} masked: {shown}\n", report.masked);
        }
    }
    let tokens = sampler.canvas().tokens(tokenizer.mask_index());
    text += "tokens:";
    for token in tokens {
        text += &format!(" {token}");
    }
    text + "\n"
}

#[test]
fn the_example_fills_as_the_library_does() {
    let model = model();
    let model = model.to_str().unwrap();
    let linked = ["-lmdlm_capi"];
    let config = SampleConfig {
        seed: 7,
        steps: 12,
        temperature: 0.8,
        ..SampleConfig::default()
    };
    let settings = "seed=7\nsteps=12\ntemperature=0.8";
    let arguments = [model, "cpu", TEMPLATE, settings];
    let filled = run("examples/fill.c", &linked, &arguments).unwrap();
    assert_eq!(filled, expected(&config));
    assert_ne!(filled, expected(&SampleConfig::default()));

    let absent = ["no/such/folder", "cpu", TEMPLATE];
    let error = run("examples/fill.c", &linked, &absent).unwrap_err();
    assert!(error.contains("error (io)"), "{error}");
    assert!(error.contains("no/such/folder"), "{error}");
}

#[test]
fn misuse_is_an_error() {
    let model = model();
    // statically on Linux, whose system libraries are known here
    let linked: &[&str] = match cfg!(target_os = "linux") {
        true => &["-l:libmdlm_capi.a", "-lgcc_s", "-lm", "-ldl", "-lpthread"],
        false => &["-lmdlm_capi", "-lpthread"],
    };
    let said = run("tests/misuse.c", linked, &[model.to_str().unwrap()]).unwrap();
    assert_eq!(said, "all of it was refused\n");
}
