//! Every shader in every specialisation that the library uses.

#[path = "../../../tests/common/catalogue.rs"]
mod catalogue;
#[path = "../../../tests/common/graphs.rs"]
mod graphs;

use catalogue::{catalogue, cooperative};
use mdlm_shader_checks::external::{SPIRV_VAL, TINT, spirv_bytes};
use mdlm_shader_checks::{check_limits, translate, translate_cooperative};

/// Collects what is wrong with each specialisation, so that one run shows all of it.
#[derive(Default)]
struct Report {
    passed: usize,
    problems: Vec<String>,
}

impl Report {
    fn note(&mut self, label: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(problem) => self.problems.push(format!("{label}\n{problem}")),
        }
    }

    fn finish(self, check: &str, expected: usize) {
        println!(
            "{check}: {} of {expected} specialisations pass",
            self.passed
        );
        assert!(
            self.problems.is_empty(),
            "{check}:\n{}",
            self.problems.join("\n")
        );
        assert_eq!(self.passed, expected);
    }
}

#[test]
fn every_specialisation_fits_every_device() {
    let mut report = Report::default();
    let all = catalogue();
    for (label, wgsl) in &all {
        report.note(label, check_limits(wgsl));
    }
    report.finish("core WebGPU limits", all.len());
}

#[test]
fn every_specialisation_translates() {
    let mut report = Report::default();
    let all = catalogue();
    for (label, wgsl) in &all {
        report.note(label, translate(wgsl).map(|_| ()));
    }
    report.finish("naga: validation, SPIR-V, MSL, HLSL", all.len());
}

#[test]
fn matrix_units_of_vulkan_and_metal_are_reached() {
    let mut report = Report::default();
    let all = cooperative();
    for (label, wgsl) in &all {
        report.note(label, translate_cooperative(wgsl).map(|_| ()));
    }
    report.finish("matrix units: validation, SPIR-V, MSL", all.len());
}

#[test]
fn vulkan_accepts_every_specialisation() {
    if !SPIRV_VAL.installed() {
        assert!(
            std::env::var_os("CI").is_none(),
            "spirv-val must be installed in CI"
        );
        println!("spirv-val is not installed: not checked with it");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut report = Report::default();
    let all = catalogue();
    for (label, wgsl) in &all {
        let result = translate(wgsl).and_then(|translation| {
            let bytes = spirv_bytes(&translation.spirv);
            SPIRV_VAL.check(scratch.path(), &bytes).unwrap()
        });
        report.note(label, result);
    }
    report.finish("spirv-val", all.len());
}

#[test]
fn chromium_accepts_every_specialisation() {
    if !TINT.installed() {
        println!("tint is not installed: not checked with it");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut report = Report::default();
    let all = catalogue();
    for (label, wgsl) in &all {
        let result = TINT.check(scratch.path(), wgsl.as_bytes()).unwrap();
        report.note(label, result);
    }
    report.finish("tint", all.len());
}
