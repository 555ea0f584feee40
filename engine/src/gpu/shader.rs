//! WGSL text: includes, conditional lines and constants.
//!
//! A shader file uses three comment directives, so that editors still read it as WGSL:
//! `//#include name` (a file of `shaders/lib`), `//#params` and `//#scalars` (the structs of the kernel's
//! parameters and of the step's scalars), `//#counter` (a function that reads the scalar that counts rows), `//#if FLAG` ... `//#else` ... `//#endif`,
//! `//#unroll i COUNT` before a `for` loop over `i` and `//#end` behind it (its body is repeated with
//! numbers for `i`, up to 32 times: then arrays in registers have constant indices, which bounds checks leave alone),
//! and module-scope `const NAME: u32 = default;` and `alias Name = f32;` lines whose values a [`Source`] may replace.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::program::{Declared, Scalars};

/// A file of `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Path below `shaders/` without `.wgsl`, such as `lib/math`.
    pub name: &'static str,
    /// Its WGSL, the directives not yet carried out.
    pub text: &'static str,
}

/// The text of `shaders/<name>.wgsl`.
#[macro_export]
#[doc(hidden)]
macro_rules! shader {
    ($name:literal) => {
        $crate::gpu::Shader {
            name: $name,
            text: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/shaders/",
                $name,
                ".wgsl"
            )),
        }
    };
}

const LIBRARY: [Shader; 12] = [
    shader!("lib/activation"),
    shader!("lib/at_rest"),
    shader!("lib/bf16"),
    shader!("lib/epilogue"),
    shader!("lib/grid"),
    shader!("lib/math"),
    shader!("lib/operands"),
    shader!("lib/reduce"),
    shader!("lib/sight"),
    shader!("lib/step"),
    shader!("lib/threefry"),
    shader!("lib/tile"),
];

/// Loops of more rounds stay loops: arrays of so many vectors do not fit registers, and compilers take minutes.
const MOST_UNROLLED: u32 = 32;

/// How `lib/step` declares the scalars.
const NOW: &str = "var<uniform> now";

/// A shader with an entry point, flags and constants: what a pipeline is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The file with the entry point.
    pub shader: Shader,
    /// Name of the `@compute` function.
    pub entry: &'static str,
    /// Flags that are on, for `//#if`.
    pub flags: Vec<&'static str>,
    /// Values that replace the defaults of `const NAME: u32` lines.
    pub consts: Vec<(&'static str, u32)>,
    /// Names of the `alias NAME = f32;` lines that stand for f16.
    pub halves: Vec<&'static str>,
    /// WGSL that takes the place of `//#params`; empty without parameters.
    pub params: &'static str,
    /// The scalar that `counted()` reads; `None`: there is no such function.
    pub counter: Option<Declared>,
    /// The scalars of the program that it is part of.
    pub scalars: Scalars,
}

impl Source {
    /// A shader as it stands, entered at `main`.
    pub fn new(shader: Shader) -> Self {
        Self {
            shader,
            entry: "main",
            flags: Vec::new(),
            consts: Vec::new(),
            halves: Vec::new(),
            params: "",
            counter: None,
            scalars: Scalars::default(),
        }
    }

    /// Enters at another function than `main`.
    pub fn entry(mut self, entry: &'static str) -> Self {
        self.entry = entry;
        self
    }

    /// Turns a flag on, or leaves it off.
    pub fn flag(mut self, flag: &'static str, on: bool) -> Self {
        if on {
            self.flags.push(flag);
        }
        self
    }

    /// Replaces the default of a constant, see [`Source::consts`].
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.consts.push((name, value));
        self
    }

    /// Lets the numbers of an `alias NAME = f32;` line be f16, or leaves them f32.
    pub fn half(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.halves.push(name);
        }
        self
    }

    /// The source as part of a program with these scalars, if it reads any.
    pub(crate) fn with_scalars(mut self, scalars: &Scalars) -> Self {
        if self.expand().is_ok_and(|text| text.contains(NOW)) {
            self.scalars = scalars.clone();
        }
        self
    }

    /// Shader, entry point, flags and constants, for labels and messages.
    pub fn label(&self) -> String {
        let mut label = format!("{}:{}", self.shader.name, self.entry);
        for flag in &self.flags {
            let _ = write!(label, " {flag}");
        }
        for (name, value) in &self.consts {
            let _ = write!(label, " {name}={value}");
        }
        for name in &self.halves {
            let _ = write!(label, " {name}=f16");
        }
        label
    }

    /// The final WGSL text. Errors name the line that is wrong.
    pub fn expand(&self) -> Result<String, String> {
        let mut out = String::with_capacity(self.shader.text.len() * 2);
        let names = self.consts.iter().map(|(name, _)| *name);
        let mut missing: Vec<&'static str> = names.chain(self.halves.iter().copied()).collect();
        if !self.halves.is_empty() {
            out.push_str("enable f16;\n");
        }
        self.expand_file(self.shader, &mut out, &mut missing)?;
        if missing.is_empty() {
            Ok(out)
        } else {
            Err(format!(
                "{}: no constant or alias {}",
                self.shader.name,
                missing.join(", ")
            ))
        }
    }

    fn expand_file(
        &self,
        file: Shader,
        out: &mut String,
        missing: &mut Vec<&'static str>,
    ) -> Result<(), String> {
        let lines: Vec<(usize, Cow<'_, str>)> = file
            .text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, Cow::Borrowed(line)))
            .collect();
        self.expand_lines(file, &lines, out, missing)
    }

    fn expand_lines(
        &self,
        file: Shader,
        lines: &[(usize, Cow<'_, str>)],
        out: &mut String,
        missing: &mut Vec<&'static str>,
    ) -> Result<(), String> {
        let mut enabled = vec![true];
        let mut at = 0;
        while at < lines.len() {
            let (number, line) = &lines[at];
            at += 1;
            let fail = |problem: &str| Err(format!("{}.wgsl:{number}: {problem}", file.name));
            let trimmed = line.trim();
            if let Some(flag) = trimmed.strip_prefix("//#if ") {
                let (negated, flag) = flag
                    .strip_prefix('!')
                    .map_or((false, flag), |flag| (true, flag));
                enabled.push(self.flags.contains(&flag) != negated);
            } else if trimmed == "//#else" {
                if enabled.len() < 2 {
                    return fail("#else without #if");
                }
                enabled.last_mut().into_iter().for_each(|on| *on = !*on);
            } else if trimmed == "//#endif" {
                if enabled.len() < 2 {
                    return fail("#endif without #if");
                }
                enabled.pop();
            } else if enabled.iter().any(|on| !on) {
                continue;
            } else if trimmed == "//#params" {
                out.push_str(self.params);
            } else if trimmed == "//#scalars" {
                out.push_str(&self.scalars.wgsl());
            } else if trimmed == "//#counter" {
                if let Some(counter) = self.counter {
                    let _ = writeln!(
                        out,
                        "fn counted() -> u32 {{\n  return now.{};\n}}",
                        counter.name()
                    );
                }
            } else if let Some(name) = trimmed.strip_prefix("//#include ") {
                let Some(library) = LIBRARY
                    .iter()
                    .find(|s| s.name.strip_prefix("lib/") == Some(name))
                else {
                    return fail("unknown include");
                };
                self.expand_file(*library, out, missing)?;
            } else if let Some(loop_of) = trimmed.strip_prefix("//#unroll ") {
                let Some((variable, count)) = loop_of.split_once(' ') else {
                    return fail("#unroll NAME COUNT");
                };
                let Some(count) = self.value(file, count) else {
                    return fail("unknown count");
                };
                let Some(end) = end_of_loop(&lines[at..]) else {
                    return fail("#unroll without #end");
                };
                if count > MOST_UNROLLED {
                    // the loop stays as it is written
                    self.expand_lines(file, &lines[at..at + end], out, missing)?;
                    at += end + 1;
                    continue;
                }
                // between the loop's first and last line
                let body = lines.get(at + 1..at + end - 1).unwrap_or_default();
                for i in 0..count {
                    out.push_str("{\n");
                    let replaced: Vec<_> = body
                        .iter()
                        .map(|(n, l)| (*n, Cow::Owned(replace_word(l, variable, i))))
                        .collect();
                    self.expand_lines(file, &replaced, out, missing)?;
                    out.push_str("}\n");
                }
                at += end + 1;
            } else {
                self.line(line, out, missing);
            }
        }
        if enabled.len() == 1 {
            Ok(())
        } else {
            Err(format!("{}.wgsl: #if without #endif", file.name))
        }
    }

    /// A number, a constant's value, or its default in the file.
    fn value(&self, file: Shader, text: &str) -> Option<u32> {
        let given = self
            .consts
            .iter()
            .find(|(name, _)| *name == text)
            .map(|c| c.1);
        let default = || {
            let line = file
                .text
                .lines()
                .find_map(|l| l.strip_prefix(&format!("const {text}: u32 = ")))?;
            line.split('u').next()?.parse().ok()
        };
        text.parse().ok().or(given).or_else(default)
    }

    fn line(&self, line: &str, out: &mut String, missing: &mut Vec<&'static str>) {
        if let Some((name, _)) = line
            .strip_prefix("const ")
            .and_then(|rest| rest.split_once(": u32 ="))
            && let Some((_, value)) = self.consts.iter().find(|(n, _)| *n == name)
        {
            let _ = writeln!(out, "const {name}: u32 = {value}u;");
            missing.retain(|n| *n != name);
        } else if let Some(name) = line
            .strip_prefix("alias ")
            .and_then(|rest| rest.strip_suffix(" = f32;"))
            && self.halves.contains(&name)
        {
            let _ = writeln!(out, "alias {name} = f16;");
            missing.retain(|n| *n != name);
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
}

/// Replaces whole words `word` by the literal `value`.
fn replace_word(line: &str, word: &str, value: u32) -> String {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        out.push_str(before);
        let alone = !before.ends_with(part_of_word)
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if alone {
            let _ = write!(out, "{value}u");
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out + rest
}

/// The `//#end` of an `//#unroll` whose lines these are, past those of loops within.
fn end_of_loop(lines: &[(usize, Cow<'_, str>)]) -> Option<usize> {
    let mut open = 0;
    lines.iter().position(|(_, line)| {
        let line = line.trim();
        open += usize::from(line.starts_with("//#unroll "));
        let end = line == "//#end";
        let mine = end && open == 0;
        open -= usize::from(end && !mine);
        mine
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &'static str, flag: bool) -> Result<String, String> {
        Source::new(Shader { name: "t", text })
            .flag("A", flag)
            .constant("N", 5)
            .expand()
    }

    #[test]
    fn flags_and_constants() {
        let text = "const N: u32 = 1u;\n//#if A\na\n//#else\nb\n//#endif\n//#if !A\nc\n//#endif\n";
        assert_eq!(expand(text, true).as_deref(), Ok("const N: u32 = 5u;\na\n"));
        assert_eq!(
            expand(text, false).as_deref(),
            Ok("const N: u32 = 5u;\nb\nc\n")
        );
    }

    #[test]
    fn numbers_may_be_half() {
        let text = "alias X = f32;\nalias Y = f32;\n";
        let source = Source::new(Shader { name: "t", text });
        let half = source.clone().half("X", true).half("Y", false);
        assert_eq!(
            half.expand().as_deref(),
            Ok("enable f16;\nalias X = f16;\nalias Y = f32;\n")
        );
        assert_eq!(source.expand().as_deref(), Ok(text));
        assert!(source.half("Z", true).expand().is_err());
    }

    #[test]
    fn loops_are_unrolled() {
        let text = "const N: u32 = 1u;\nconst M: u32 = 2u;\n//#unroll i M\nfor (i) {\nx[i] = pi + i;\n//#if A\ny;\n//#endif\n}\n//#end\nz\n";
        let expanded = expand(text, false).unwrap();
        assert_eq!(
            expanded,
            "const N: u32 = 5u;\nconst M: u32 = 2u;\n{\nx[0u] = pi + 0u;\n}\n{\nx[1u] = pi + 1u;\n}\nz\n"
        );
    }

    #[test]
    fn long_loops_stay_loops() {
        let text = "const N: u32 = 1u;\n//#unroll i 33\nfor (i) {\nx[i];\n}\n//#end\nz\n";
        let expanded = expand(text, false).unwrap();
        assert_eq!(expanded, "const N: u32 = 5u;\nfor (i) {\nx[i];\n}\nz\n");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(expand("", true), Err("t: no constant or alias N".into()));
        assert_eq!(
            expand("//#endif", true),
            Err("t.wgsl:1: #endif without #if".into())
        );
        assert_eq!(
            expand("//#if A", true),
            Err("t.wgsl: #if without #endif".into())
        );
        assert_eq!(
            expand("//#include nothing", true),
            Err("t.wgsl:1: unknown include".into())
        );
    }
}
