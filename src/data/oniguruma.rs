//! Patterns of a `tokenizer.json` are written for Oniguruma with Ruby's syntax. Where the engine in use here reads
//! them in another way, they are rewritten:
//!
//! | pattern | there | here |
//! | --- | --- | --- |
//! | `x{1,3}+` | repeats `x{1,3}` | is possessive |
//! | `x{3}?` | makes `x{3}` optional | is `x{3}`, lazily |
//! | `^`, `$` | beginning and end of a line | of the text |
//! | `(?m)` | `.` is also the end of a line | `^` and `$` are those of a line |
//! | `[[:alpha:]]` and its like | any script's | ASCII's |
//! | `\<`, `\>` | the signs | ends of words |
//! | `\p{^L}` | is `\P{L}` | is an error |

use serde_json::Value;

/// A tokenizer's description with its patterns rewritten, if one of them needs it. (Numbers printed again may
/// differ in their last digit, so that others stay as they are.)
pub(super) fn translated(json: &[u8]) -> Option<String> {
    let mut description = serde_json::from_slice(json).ok()?;
    translate_all(&mut description).then(|| description.to_string())
}

/// Rewrites every pattern; whether there was one to rewrite.
fn translate_all(json: &mut Value) -> bool {
    match json {
        Value::Object(fields) => {
            let mut changed = false;
            for (key, value) in fields {
                match value {
                    Value::String(pattern) if key == "Regex" => {
                        let translated = translate(pattern);
                        changed |= translated != *pattern;
                        *pattern = translated;
                    }
                    other => changed |= translate_all(other),
                }
            }
            changed
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |changed, item| translate_all(item) | changed),
        _ => false,
    }
}

/// A pattern in the syntax of the engine in use.
fn translate(pattern: &str) -> String {
    let mut out = String::new();
    // where the atom began that a quantifier would repeat, and where open groups did
    let (mut atom, mut groups) = (0, Vec::new());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' => escape(rest),
            '[' => class(rest),
            '{' => interval(rest).unwrap_or(1),
            _ => c.len_utf8(),
        };
        if rest.starts_with("(?#") {
            // a remark
            rest = rest.split_once(')').map_or("", |(_, behind)| behind);
            continue;
        }
        let (token, behind) = rest.split_at(length);
        rest = behind;
        match c {
            '{' if length > 1 => {
                out += token;
                let next = rest.chars().next();
                // `{n,m}?` is lazy there as well
                let optional = next == Some('?') && !token.contains(',');
                if next == Some('+') || optional {
                    out.insert_str(atom, "(?:");
                    out.push(')');
                }
                continue;
            }
            '*' | '+' | '?' => {
                // a quantifier, or part of one
                out += token;
                continue;
            }
            '(' => groups.push(out.len()),
            ')' => {
                atom = groups.pop().unwrap_or(0);
                out += token;
                continue;
            }
            _ => {}
        }
        atom = out.len();
        match c {
            '^' | '$' => out += &format!("(?m:{c})"),
            '(' if rest.starts_with('?') => {
                // the letters and signs that say which kind of group it is are no atoms
                out.push(c);
                let kind = rest.find([':', '=', '!', '>', ')']).map_or(0, |at| at + 1);
                let closed = rest[..kind].ends_with(')');
                let kind = if closed { kind - 1 } else { kind };
                let named = rest.starts_with("?<");
                let flags = &rest[..kind];
                out += &if named {
                    flags.to_owned()
                } else {
                    flags.replace('m', "s")
                };
                rest = &rest[kind..];
            }
            '\\' => out += &unicode(token),
            '[' => out += &inside(token),
            _ => out += token,
        }
    }
    out
}

/// An escape in the engine's syntax.
fn unicode(escape: &str) -> String {
    match escape {
        r"\<" | r"\>" => escape[1..].to_owned(),
        _ => match escape.strip_prefix(r"\p{^") {
            Some(rest) => format!(r"\P{{{rest}"),
            None => escape.to_owned(),
        },
    }
}

/// A class in the engine's syntax.
fn inside(class: &str) -> String {
    const POSIX: [(&str, &str); 10] = [
        ("alpha", r"\p{Alphabetic}"),
        ("digit", r"\p{Nd}"),
        ("alnum", r"\p{Alphabetic}\p{Nd}"),
        ("upper", r"\p{Uppercase}"),
        ("lower", r"\p{Lowercase}"),
        ("space", r"\p{White_Space}"),
        ("punct", r"\p{P}\p{S}"),
        ("word", r"\w"),
        ("cntrl", r"\p{Cc}"),
        ("blank", r"\p{Zs}\t"),
    ];
    let mut out = String::new();
    let mut rest = class;
    while let Some(c) = rest.chars().next() {
        let posix = POSIX.iter().find_map(|(name, same)| {
            let behind = rest.strip_prefix("[:")?.strip_prefix(name)?;
            Some((behind.strip_prefix(":]")?, same))
        });
        if let Some((behind, same)) = posix {
            out += same;
            rest = behind;
            continue;
        }
        let length = if c == '\\' {
            escape(rest)
        } else {
            c.len_utf8()
        };
        out += &if c == '\\' {
            unicode(&rest[..length])
        } else {
            c.to_string()
        };
        rest = &rest[length..];
    }
    out
}

/// Bytes of the escape that `text` begins with.
fn escape(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let Some((at, c)) = chars.next() else {
        return text.len();
    };
    let braced = matches!(c, 'p' | 'P' | 'x' | 'u' | 'k') && text[at + 1..].starts_with(['{', '<']);
    match text.find(['}', '>']) {
        Some(end) if braced => end + 1,
        _ => at + c.len_utf8(),
    }
}

/// Bytes of the class that `text` begins with; classes nest.
fn class(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let mut length = c.len_utf8();
        match c {
            '\\' => length = escape(&text[at..]),
            '[' => {
                depth += 1;
                // a bracket that stands first is a character
                let inner = &text[at + 1..];
                length += usize::from(inner.starts_with('^'));
                length += usize::from(text[at + length..].starts_with(']'));
            }
            ']' => depth -= 1,
            _ => {}
        }
        at += length;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of the interval `{n}`, `{n,}`, `{,m}` or `{n,m}` that `text` begins with, if it does.
fn interval(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let valid = match inner.split_once(',') {
        Some((low, high)) => digits(low) && digits(high) && inner != ",",
        None => digits(inner) && !inner.is_empty(),
    };
    valid.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_grouped() {
        for (from, to) in [
            (r"\p{N}{1,3}+", r"(?:\p{N}{1,3})+"),
            (r"a{2}+b", r"(?:a{2})+b"),
            (r"x(ab|c){1,2}+|y", r"x(?:(ab|c){1,2})+|y"),
            (r"(?:[^\]a]){1,}+", r"(?:(?:[^\]a]){1,})+"),
            (r"[a-z[0-9]]{2,3}+", r"(?:[a-z[0-9]]{2,3})+"),
            (r"\p{N}{3}?", r"(?:\p{N}{3})?"),
            (r"é{1,2}+", r"(?:é{1,2})+"),
        ] {
            assert_eq!(translate(from), to);
        }
    }

    #[test]
    fn what_means_the_same_stays() {
        for pattern in [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"\p{L}++|x?+|y*+|a{1,2}?|\{1\}+|[{1,2}+]|{a}+|[^$]",
            r"(?=(\d{3})+(?!\d))|(?<!a)b",
        ] {
            assert_eq!(translate(pattern), pattern);
        }
    }

    #[test]
    fn other_meanings() {
        for (from, to) in [
            (r"^\s+$|\$", r"(?m:^)\s+(?m:$)|\$"),
            (
                r"[[:alpha:]_]+|[^[:space:]]",
                r"[\p{Alphabetic}_]+|[^\p{White_Space}]",
            ),
            (r"\<\|end\|\>", r"<\|end\|>"),
            (r"(?m:a.b)(?mi)c(?<mm>d)", r"(?s:a.b)(?si)c(?<mm>d)"),
            (r"a(?#no ^ or $)b{2}+", r"a(?:b{2})+"),
            (r"\p{^L}+[\p{^N}]", r"\P{L}+[\P{N}]"),
        ] {
            assert_eq!(translate(from), to);
        }
    }
}
