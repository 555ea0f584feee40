//! The repository's own rules: layers, circles, sizes, words that must not appear, links that must lead somewhere.

#![allow(clippy::unwrap_used)] // a test that unwraps still says what failed and where

mod tidy {
    pub mod modules;
    pub mod paths;
    pub mod text;
}

use tidy::modules::Modules;
use tidy::text::{File, files, root, words};

/// Modules of `src/`; each uses its own layer and those above it.
const LAYERS: [&str; 24] = [
    "error",
    "blocking",
    "progress",
    "ranks",
    "rng",
    "process",
    "rules",
    "constraint",
    "config",
    "io",
    "data",
    "program",
    "gpu",
    "cpu",
    "device",
    "graph",
    "ops",
    "model",
    "objective",
    "sample",
    "eval",
    "train",
    "web",
    "lib",
];

const TEXT: [&str; 12] = [
    "rs", "wgsl", "toml", "md", "html", "css", "js", "ts", "c", "h", "sh", "yml",
];
const MAX_LINES: usize = 500;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn modules_use_only_the_layers_before_them() {
    let modules = Modules::read();
    let mut problems = Vec::new();
    for (index, file) in modules.files.iter().enumerate() {
        let Some(module) = modules.module(index).first() else {
            continue;
        };
        let own =
            layer(module).unwrap_or_else(|| panic!("{}: its module has no layer", file.name()));
        for path in modules.paths(index) {
            // other paths begin with a name that one of these has brought
            if !["crate", "super"].contains(&path.names[0]) {
                continue;
            }
            let used = modules.place(index, &path).unwrap();
            let Some(first) = used.first() else {
                continue;
            };
            if layer(first).is_some_and(|used| used > own) {
                problems.push(file.at(path.line, &format!("{module} must not use {first}")));
            }
            if first.starts_with(char::is_uppercase) && !["Error", "Result"].contains(&&**first) {
                let problem = format!("name the module of {first}, not the root");
                problems.push(file.at(path.line, &problem));
            }
            if path.names.starts_with(&["super", "super"]) {
                problems.push(file.at(path.line, "write this path from crate::"));
            }
        }
    }
    report(problems);
}

#[test]
fn files_use_each_other_in_one_direction() {
    let modules = Modules::read();
    let name = |file: usize| modules.files[file].name();
    let chain = |circle: Vec<(usize, usize)>| {
        let steps = circle
            .iter()
            .map(|&(file, line)| format!("{}:{line} -> ", name(file)));
        steps.chain([name(circle[0].0)]).collect()
    };
    report(modules.circles().into_iter().map(chain).collect());
}

/// Files that call what cannot be called safely: the `gemm` crate, what wgpu wants for its experimental feature, and Vulkan in checks that are not published; and those
/// that C calls, with pointers that are followed in one place.
const UNSAFE: [&str; 5] = [
    "engine/src/cpu/gemm.rs",
    "engine/src/gpu/cooperative.rs",
    "checks/kernels/src/vulkan.rs",
    "capi/src/lib.rs",
    "capi/src/border.rs",
];

#[test]
fn code_is_short_and_safe() {
    let mut problems = Vec::new();
    for file in files("", &["rs", "wgsl"]) {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            problems.push(file.at(lines, &format!("more than {MAX_LINES} lines")));
        }
        let name = file.name();
        if !name.ends_with(".rs") || name.starts_with("tests/") || name.contains("/tests/") {
            continue;
        }
        for (index, line) in file.code().lines().enumerate() {
            // flags and policies of browsers have the word in the middle
            let code = line.replace("-unsafe-", "-");
            if words(&code).any(|word| word == "unsafe") && !UNSAFE.contains(&&*name) {
                problems.push(file.at(index + 1, "unsafe code"));
            }
            if line.contains(".unwrap()")
                && (name.starts_with("src/") || name.starts_with("engine/src/"))
            {
                problems.push(file.at(index + 1, "unwrap in the library"));
            }
        }
    }
    report(problems);
}

#[test]
fn text_is_clean() {
    // Machine paths, registry hosts, loose ends; spelled so that this file does not hold them.
    let banned =
        "/r+oot/ /h+ome/ /w+ork/ c+rates.io d+ebian.org n+pmjs. p+ypi. T+ODO F+IXME #[i+gnore";
    let banned = banned.replace('+', "");
    let mut problems = Vec::new();
    for file in files("", &TEXT) {
        for (index, line) in file.text.lines().enumerate() {
            if line.contains('\t') || line.ends_with(' ') {
                problems.push(file.at(index + 1, "a tab, or a space at the end"));
            }
            for word in banned.split(' ').filter(|word| line.contains(word)) {
                problems.push(file.at(index + 1, &format!("contains {word}")));
            }
        }
    }
    report(problems);
}

#[test]
fn shaders_are_used_and_described() {
    let sources: String = files("engine/src", &["rs"])
        .iter()
        .map(File::code)
        .collect();
    let mut problems = Vec::new();
    for file in files("engine/shaders", &["wgsl"]) {
        let name = file.name();
        let stem = name["engine/shaders/".len()..].trim_end_matches(".wgsl");
        if !sources.contains(&format!("\"{stem}\"")) {
            problems.push(file.at(1, "not used in src"));
        }
        if !file.text.starts_with("// ") {
            problems.push(file.at(1, "does not begin with a comment"));
        }
    }
    report(problems);
}

#[test]
fn links_lead_somewhere() {
    assert!(root().join("README.md").exists(), "there is no README.md");
    let mut problems = Vec::new();
    for file in files("", &["md"]) {
        let folder = file.path.parent().unwrap();
        for (index, line) in file.text.lines().enumerate() {
            let links = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            for link in links {
                let path = link.split('#').next().unwrap_or_default();
                if !link.contains("://") && !path.is_empty() && !folder.join(path).exists() {
                    problems.push(file.at(index + 1, &format!("{path} does not exist")));
                }
            }
        }
    }
    report(problems);
}
