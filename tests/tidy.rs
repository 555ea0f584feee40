//! The repository's own rules: layers, sizes, words that must not appear, links that must lead somewhere.

#![allow(clippy::unwrap_used)] // a test that unwraps still says what failed and where

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of `src/`; each uses its own layer and those above it.
const LAYERS: [&[&str]; 11] = [
    &["error", "config", "progress", "rng", "blocking"],
    &["io"],
    &["data"],
    &["device", "gpu", "cpu"],
    &["graph"],
    &["ops"],
    &["model"],
    &["diffusion"],
    &["sample"],
    &["eval", "train"],
    &["web"],
];

/// Folders that hold no text of ours.
const SKIPPED: [&str; 6] = [".git", "target", "runs", "corpora", "golden", "cases"];
const TEXT: [&str; 9] = ["rs", "wgsl", "toml", "md", "html", "css", "js", "sh", "yml"];
const MAX_LINES: usize = 500;

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// Path below the root, with `/`.
    fn name(&self) -> String {
        let path = self.path.strip_prefix(root()).unwrap();
        path.to_string_lossy().replace('\\', "/")
    }

    fn at(&self, line: usize, problem: &str) -> String {
        format!("{}:{line}: {problem}", self.name())
    }

    /// The Rust code with comments and test modules blanked, so that line numbers stay.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut previous = "";
        let mut in_tests = false;
        for line in self.text.lines() {
            // Formatted code closes a module of the top level with a lone brace.
            in_tests |=
                previous == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{');
            let comment = line.trim_start().starts_with("//");
            if !in_tests && !comment {
                code.push_str(line.split(" // ").next().unwrap_or_default());
            }
            code.push('\n');
            in_tests &= line != "}";
            previous = line;
        }
        code
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose extension is one of `extensions`.
fn files(folder: &str, extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !SKIPPED.contains(&&*name) {
                    folders.push(path);
                }
            } else if extensions.contains(&&*extension) || path.ends_with(".ci/run") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "nothing to check in {folder}");
    found
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The first names of all paths that begin with `crate::`, groups in braces included, with their lines.
fn crate_names(code: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    for (offset, prefix) in code.match_indices("crate::") {
        let rest = &code[offset + prefix.len()..];
        let firsts = match rest.strip_prefix('{') {
            Some(group) => group_names(group),
            None => words(rest).take(1).collect(),
        };
        names.extend(firsts.into_iter().map(|name| (line_of(code, offset), name)));
    }
    names
}

/// `a, c` of `a::b, c::{d, e}}`.
fn group_names(group: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expected = true;
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && !c.is_whitespace() => {
                names.extend(words(&group[offset..]).next());
                expected = false;
            }
            _ => {}
        }
    }
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn modules_use_only_the_layers_before_them() {
    let mut problems = Vec::new();
    for file in files("src", &["rs"]) {
        let name = file.name();
        let module = words(&name["src/".len()..]).next().unwrap();
        if name == "src/lib.rs" {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{name}: its module has no layer"));
        let code = file.code();
        for (line, used) in crate_names(&code) {
            if layer(used).is_some_and(|used| used > own) {
                problems.push(file.at(line, &format!("{module} must not use {used}")));
            }
            if used.starts_with(char::is_uppercase) && !["Error", "Result"].contains(&used) {
                problems.push(file.at(line, &format!("name the module of {used}, not the root")));
            }
        }
        for (offset, _) in code.match_indices("super::super") {
            problems.push(file.at(line_of(&code, offset), "write this path from crate::"));
        }
    }
    report(problems);
}

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
            if words(&code).any(|word| word == "unsafe") && name != "src/cpu/gemm.rs" {
                problems.push(file.at(index + 1, "unsafe code"));
            }
            if line.contains(".unwrap()") && name.starts_with("src/") {
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
    let sources: String = files("src", &["rs"]).iter().map(File::code).collect();
    let mut problems = Vec::new();
    for file in files("shaders", &["wgsl"]) {
        let name = file.name();
        let stem = name["shaders/".len()..].trim_end_matches(".wgsl");
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
