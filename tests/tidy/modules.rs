//! Which source file of the two crates uses which others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::paths::{Written, paths};
use super::text::{File, files};

/// Names from the root to a module or an item.
pub type Place = Vec<String>;

/// The files of both crates by the modules that they are.
pub struct Modules {
    pub files: Vec<File>,
    codes: Vec<String>,
    places: Vec<Place>,
    /// Places of what a file's `use` lines name, by those names.
    imports: Vec<BTreeMap<String, Place>>,
}

impl Modules {
    pub fn read() -> Self {
        let mut all = files("src", &["rs"]);
        // the engine's modules are seen by the library under the same names
        let engine = files("engine/src", &["rs"]).into_iter();
        all.extend(engine.filter(|file| !file.name().ends_with("/lib.rs")));
        Self::of(all)
    }

    fn of(files: Vec<File>) -> Self {
        let place = |file: &File| {
            let name = file.name();
            let module = name
                .trim_start_matches("engine/")
                .trim_start_matches("src/");
            let module = module.trim_end_matches(".rs");
            let mut names: Place = module.split('/').map(str::to_owned).collect();
            names.pop_if(|last| *last == "mod" || *last == "lib");
            names
        };
        let places = files.iter().map(place).collect();
        let codes = files.iter().map(File::code).collect();
        let mut modules = Self {
            files,
            codes,
            places,
            imports: Vec::new(),
        };
        modules.imports = vec![BTreeMap::new(); modules.files.len()];
        for file in 0..modules.files.len() {
            let imports = modules.paths(file).filter_map(|path| {
                let alias = path.alias?;
                Some((alias.to_owned(), modules.place(file, &path)?))
            });
            modules.imports[file] = imports.collect();
        }
        modules
    }

    /// The module that a file is.
    pub fn module(&self, file: usize) -> &[String] {
        &self.places[file]
    }

    /// Paths of a file as they are written.
    pub fn paths(&self, file: usize) -> impl Iterator<Item = Written<'_>> {
        paths(&self.codes[file]).into_iter()
    }

    /// Where a path of a file leads, from the root; `None` if that is in another crate. Of a module in braces, only
    /// what begins with `crate` is understood.
    pub fn place(&self, file: usize, path: &Written<'_>) -> Option<Place> {
        let mut names = path.names.iter().map(|&name| name.to_owned()).peekable();
        let first = names.next()?;
        let mut place = self.places[file].clone();
        match &*first {
            "crate" => place.clear(),
            "self" => {}
            "super" => {
                place.pop()?;
                while names.next_if(|name| *name == "super").is_some() {
                    place.pop()?;
                }
            }
            // a name that a `use` line has brought, or a module below this one
            _ => match self.imports[file].get(&first) {
                Some(imported) if path.alias.is_none() => place.clone_from(imported),
                _ => {
                    place.push(first);
                    self.file(&place)?;
                }
            },
        }
        place.extend(names);
        Some(place)
    }

    /// The file that is a module.
    fn file(&self, module: &[String]) -> Option<usize> {
        self.places.iter().position(|place| place == module)
    }

    fn is_parent(&self, file: usize) -> bool {
        let path = &self.files[file].path;
        path.ends_with("mod.rs") || path.ends_with("lib.rs")
    }

    /// The file that defines what is at a place: not the `mod.rs` that only names it for others.
    fn definition(&self, place: &[String]) -> Option<usize> {
        // The last name first as an item's: a function may have the name of a module beside it.
        if let Some((_, parent)) = place.split_last()
            && let Some(other) = self.renamed(place, parent.len())
        {
            return self.definition(&other);
        }
        let mut lengths = (0..=place.len()).rev();
        let length = lengths.find(|&length| self.file(&place[..length]).is_some())?;
        match self.renamed(place, length) {
            Some(other) => self.definition(&other),
            None => self.file(&place[..length]),
        }
    }

    /// A place in a module of that many names, if its `mod.rs` has it from elsewhere.
    fn renamed(&self, place: &[String], module: usize) -> Option<Place> {
        let file = self.file(&place[..module])?;
        let other = self.imports[file].get(place.get(module)?)?;
        self.is_parent(file)
            .then(|| [other, &place[module + 1..]].concat())
    }

    /// The files that a file uses, each with the first line that does. That a `mod.rs` shows the items of its
    /// children is no use of them.
    fn uses(&self, file: usize) -> BTreeMap<usize, usize> {
        let mut used = BTreeMap::new();
        for path in self.paths(file) {
            let Some(place) = self.place(file, &path) else {
                continue;
            };
            let shown = path.exported && self.is_parent(file);
            if shown && place.starts_with(self.module(file)) {
                continue;
            }
            let other = self.definition(&place).filter(|&other| other != file);
            if let Some(other) = other {
                used.entry(other).or_insert(path.line);
            }
        }
        used
    }

    /// The shortest circle through each file that is in one, from its first file on, with the lines that lead to the
    /// next.
    pub fn circles(&self) -> BTreeSet<Vec<(usize, usize)>> {
        let uses: Vec<_> = (0..self.files.len()).map(|file| self.uses(file)).collect();
        let circle = |file: usize| {
            let mut ways = VecDeque::from([vec![file]]);
            let mut seen = BTreeSet::new();
            while let Some(way) = ways.pop_front() {
                for &next in uses[*way.last()?].keys() {
                    if next == file {
                        return Some(way);
                    }
                    if seen.insert(next) {
                        ways.push_back([&way[..], &[next]].concat());
                    }
                }
            }
            None
        };
        let circles = (0..self.files.len()).filter_map(circle);
        circles
            .map(|mut circle| {
                let first = (0..circle.len()).min_by_key(|&i| circle[i]).unwrap_or(0);
                circle.rotate_left(first);
                let next = circle.iter().cycle().skip(1);
                let line = |(&file, next): (&usize, _)| (file, uses[file][next]);
                circle.iter().zip(next).map(line).collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::text::root;

    /// The circles of files, as `file:line` and the next.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let file = |&(name, text): &(&str, &str)| File {
            path: root().join("src").join(name),
            text: text.to_owned(),
        };
        let modules = Modules::of(files.iter().map(file).collect());
        let step = |&(file, line): &(usize, usize)| format!("{}:{line}", files[file].0);
        let chain = |circle: Vec<_>| circle.iter().map(step).collect::<Vec<_>>().join(" ");
        modules.circles().into_iter().map(chain).collect()
    }

    #[test]
    fn circles_are_seen_through_what_a_module_shows() {
        let one = ("a/one.rs", "use super::Base;\nuse crate::a::two;\n");
        let two = ("a/two.rs", "pub fn two() -> super::One {}\n");
        let shown = "mod one;\nmod two;\npub use one::One;\npub use two::two;\npub struct Base;\n";
        assert_eq!(
            circles(&[("a/mod.rs", shown), one, two]),
            ["a/one.rs:2 a/two.rs:1"]
        );
        let none = ("a/two.rs", "pub fn two() -> super::Base {}\n");
        assert!(circles(&[("a/mod.rs", shown), one, none]).is_empty());
        let used = format!("{shown}fn f() {{\n    two::two();\n}}\n");
        assert_eq!(
            circles(&[("a/mod.rs", &used), one, none]),
            ["a/mod.rs:7 a/two.rs:1"]
        );
    }

    #[test]
    fn tests_and_comments_make_no_circle() {
        let tested =
            "/// As [`super::b::B`].\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n";
        assert!(circles(&[("a.rs", tested), ("b.rs", "use crate::a::A;\n")]).is_empty());
        let through = [
            ("a.rs", "use crate::{b::{self, B}, c};\n"),
            ("b.rs", "use super::c::{C, D as E};\n"),
            ("c.rs", "fn c(a: &crate::a::A) {}\n"),
        ];
        let both = ["a.rs:1 b.rs:1 c.rs:1", "a.rs:1 c.rs:1"];
        assert_eq!(circles(&through), both);
    }
}
