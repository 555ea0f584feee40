//! Paths of Rust code as they are written.

use super::text::line_of;

/// `a::b::C`, in a `use` line or between other code.
#[derive(Debug, PartialEq, Eq)]
pub struct Written<'a> {
    pub line: usize,
    /// Names from the first to the last, without a `self` at the end; a glob's last is `*`.
    pub names: Vec<&'a str>,
    /// What a `use` line calls it.
    pub alias: Option<&'a str>,
    /// Of a `pub use` line, whatever it is public to.
    pub exported: bool,
}

/// All paths of more than one name, those of groups in braces each on its own.
pub fn paths(code: &str) -> Vec<Written<'_>> {
    let tokens = tokens(code);
    let token = |at: usize| tokens.get(at).map_or("", |&(_, token)| token);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let imported = token(at) == "use";
        let begin = at + usize::from(imported);
        let previous = if at == 0 { "" } else { token(at - 1) };
        let mut trees = Vec::new();
        // what stands behind a type in angle brackets or a dot is no path from a module
        if previous != "::" && previous != "." && (imported || is_name(token(at))) {
            at = tree(&token, begin, &[], &mut trees).max(begin);
        }
        at = at.max(begin + usize::from(!imported));
        for (names, alias) in trees {
            if imported || names.len() > 1 {
                found.push(Written {
                    line: line_of(code, tokens[begin].0),
                    names,
                    alias: imported.then_some(alias),
                    exported: imported && (previous == "pub" || previous == ")"),
                });
            }
        }
    }
    found
}

/// Reads a path with its groups from a token on: each path with its last name or that after `as`. Returns the
/// token behind it.
fn tree<'a>(
    token: &impl Fn(usize) -> &'a str,
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<(Vec<&'a str>, &'a str)>,
) -> usize {
    let mut names = prefix.to_vec();
    loop {
        match token(at) {
            "{" if !names.is_empty() => {
                while !["}", ""].contains(&token(at)) {
                    at = tree(token, at + 1, &names, found);
                }
                return at + 1;
            }
            name if is_name(name) || name == "*" => names.push(name),
            _ => break,
        }
        at += 1;
        if token(at) != "::" {
            break;
        }
        at += 1;
    }
    if names.len() > prefix.len() {
        if names.last() == Some(&"self") && names.len() > 1 {
            names.pop();
        }
        let mut alias = *names.last().unwrap();
        if token(at) == "as" {
            alias = token(at + 1);
            at += 2;
        }
        found.push((names, alias));
    }
    at
}

/// Names, `::`, and all other characters but white space, with their offsets.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        let length = match c {
            _ if name(c) => rest.find(|c| !name(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => c.len_utf8(),
        };
        if !c.is_whitespace() {
            tokens.push((code.len() - rest.len(), &rest[..length]));
        }
        rest = &rest[length..];
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[test]
fn paths_are_read_with_their_groups() {
    let code = "use a::{self, b::{C, d as e}, f::*};\npub(crate) use super::G;\n\
                let x: h::I = y.z::<J>(<K>::l, crate::m::N { o: ::p::q() } as u32);";
    let read: Vec<String> = paths(code)
        .iter()
        .map(|p| {
            let alias = p.alias.unwrap_or("-");
            format!("{} {} {alias} {}", p.line, p.names.join("::"), p.exported)
        })
        .collect();
    assert_eq!(
        read,
        [
            "1 a a false",
            "1 a::b::C C false",
            "1 a::b::d e false",
            "1 a::f::* * false",
            "2 super::G G true",
            "3 h::I - false",
            "3 crate::m::N - false",
        ]
    );
}
