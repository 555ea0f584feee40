//! The header, which C programs include, against the code that it was made of.

#![allow(clippy::unwrap_used)] // a test that unwraps still says what failed and where

use std::fs;
use std::path::Path;

/// Set, the header is written and not compared.
const WRITE: &str = "MDLM_WRITE_HEADER";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_what_the_code_says() {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap();
    let made = cbindgen::Builder::new()
        .with_crate(folder())
        .with_config(config)
        .generate()
        .unwrap();
    let mut text = Vec::new();
    made.write(&mut text);
    let path = folder().join("include/mdlm.h");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap();
    assert!(
        there.replace('\r', "") == String::from_utf8(text).unwrap(),
        "include/mdlm.h is not what cbindgen makes: {WRITE}=1 cargo test --release -p mdlm-capi --test header"
    );
}

#[test]
fn every_function_is_guarded_against_panics() {
    let code = fs::read_to_string(folder().join("src/lib.rs")).unwrap();
    let functions: Vec<&str> = code.split("#[unsafe(no_mangle)]").skip(1).collect();
    assert!(functions.len() > 20);
    for function in functions {
        let name = function.split('(').next().unwrap();
        let body = function.split_once(" {\n").unwrap().1;
        let body = body.split("\n}").next().unwrap();
        // a constant, and what hands over to a function that is guarded
        let harmless = ["concat!(", "free("];
        let guarded = body
            .lines()
            .find(|line| !line.trim().starts_with("let room"));
        let begins = guarded.unwrap().trim();
        assert!(
            begins.starts_with("guard(") || harmless.iter().any(|call| begins.starts_with(call)),
            "{name} begins with {begins}"
        );
    }
}
