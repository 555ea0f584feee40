//! Names that stand for many files.

use std::path::{Path, PathBuf};

use super::documents::Format;
use crate::error::{Error, Result};

/// Whether a name stands for shards: a folder, or a pattern that is no file.
pub(super) fn is_many(name: &Path) -> bool {
    name.is_dir() || !name.exists() && name.to_string_lossy().contains(['*', '?', '['])
}

/// The files that a name stands for, by name: a file, those in a folder, or those of a pattern.
pub(super) fn files(name: &Path) -> Result<Vec<PathBuf>> {
    if !is_many(name) {
        return Ok(vec![name.to_owned()]);
    }
    let mut paths = match name.is_dir() {
        true => inside(name)?,
        false => matching(name)?,
    };
    paths.sort();
    match paths.is_empty() {
        true if name.is_dir() => Err(Error::corpus(name, "the folder holds no files")),
        true => Err(Error::corpus(name, "no file has a name like this")),
        false => alike(paths),
    }
}

/// Refuses files whose documents lie otherwise than those of the first.
fn alike(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut forms = paths.iter().map(|path| (path, Format::of(path)));
    if let Some((first, form)) = forms.next()
        && let Some((other, _)) = forms.find(|(_, other)| *other != form)
    {
        let problem = format!(
            "its documents lie otherwise than those of {}: shards of a source are of one form, so name it as a source of \
             its own, or take a pattern such as *.jsonl",
            first.display()
        );
        return Err(Error::corpus(other, problem));
    }
    Ok(paths)
}

/// The files of a folder but hidden ones.
fn inside(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let entry = entry.map_err(Error::io(folder, "list"))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            let problem =
                "is a folder inside of a source: name it as a source of its own, or take a pattern";
            return Err(Error::corpus(&path, problem));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The files of a pattern but hidden ones.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::default()
    };
    let found = glob::glob_with(&pattern.to_string_lossy(), options)
        .map_err(|e| Error::corpus(pattern, format!("not a pattern of names: {e}")))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|e| {
            let at = e.path().to_owned();
            Error::io(&at, "list")(e.into())
        })?;
        if path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &Path, end: &str, part: &str) {
        match files(name) {
            Err(Error::Corpus { path, problem }) => {
                assert!(path.ends_with(end), "{}: {problem}", path.display());
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_folders_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in [
            "text/b.txt",
            "text/a.txt.gz",
            "text/.hidden.jsonl",
            "bare/.hidden",
            "more/a.jsonl",
            "more/b/c.jsonl",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "x").unwrap();
        }
        let both = [at("text/a.txt.gz"), at("text/b.txt")];
        assert_eq!(files(&at("text")).unwrap(), both);
        assert_eq!(files(&at("t*/*")).unwrap(), both);
        assert_eq!(files(&at("text/[ab].t*")).unwrap(), both);
        // of folders, patterns take none
        assert_eq!(files(&at("more/*")).unwrap(), [at("more/a.jsonl")]);
        // a file of that name is itself, and one that is missing is for its reader to find
        std::fs::write(at("w[1].txt"), "x").unwrap();
        assert_eq!(files(&at("w[1].txt")).unwrap(), [at("w[1].txt")]);
        assert_eq!(files(&at("absent")).unwrap(), [at("absent")]);
        refused(&at("bare"), "bare", "holds no files");
        refused(
            &at("no-*.jsonl"),
            "no-*.jsonl",
            "no file has a name like this",
        );
        refused(&at("a[.jsonl"), "a[.jsonl", "not a pattern");
        refused(&at("more"), "b", "a folder inside");
        refused(&at("[mt]*/*.*"), "a.txt.gz", "are of one form");
    }
}
