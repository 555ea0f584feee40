//! The repository's files and the code in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no text of ours.
const SKIPPED: [&str; 8] = [
    ".git",
    "target",
    "runs",
    "corpora",
    "golden",
    "golden_llm",
    "cases",
    "fuzz",
];

pub struct File {
    pub path: PathBuf,
    pub text: String,
}

impl File {
    /// Path below the root, with `/`.
    pub fn name(&self) -> String {
        let path = self.path.strip_prefix(root()).unwrap();
        path.to_string_lossy().replace('\\', "/")
    }

    pub fn at(&self, line: usize, problem: &str) -> String {
        format!("{}:{line}: {problem}", self.name())
    }

    /// The Rust code with comments and test modules blanked, so that line numbers stay.
    pub fn code(&self) -> String {
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

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose extension is one of `extensions`.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<File> {
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

pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}
