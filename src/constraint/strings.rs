//! Strings of JSON: their characters as they are written, and patterns on what they say.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::automaton::told;

/// A character of a string: itself, or one of the escapes of two letters.
pub const CHARACTER: &str = r#"(?:[^"\\\x00-\x1F]|\\["\\/bfnrt])"#;

/// Characters that strings have as escapes only, and those.
const ESCAPED: [(char, &str); 7] = [
    ('"', "\\\""),
    ('\\', "\\\\"),
    ('\u{8}', "\\b"),
    ('\u{C}', "\\f"),
    ('\n', "\\n"),
    ('\r', "\\r"),
    ('\t', "\\t"),
];

/// The expression of strings in which a pattern of a schema is found, without their quotes.
///
/// # Errors
/// A sentence about a pattern that is none, or that looks around elsewhere than at its ends.
pub fn containing(pattern: &str) -> Result<String, String> {
    let parsed = ParserBuilder::new().build().parse(&ascii_classes(pattern));
    let hir = parsed.map_err(|error| told(&error))?;
    Ok(format!("(?:{})", whole(&hir)?))
}

/// A pattern with the classes `\d` and `\w` as JSON schemas have them, which are ASCII's.
fn ascii_classes(pattern: &str) -> String {
    let (mut made, mut letters) = (String::new(), pattern.chars());
    while let Some(letter) = letters.next() {
        let escaped = if letter == '\\' { letters.next() } else { None };
        match escaped {
            Some('d') => made += "[0-9]",
            Some('D') => made += "[^0-9]",
            Some('w') => made += "[0-9A-Za-z_]",
            Some('W') => made += "[^0-9A-Za-z_]",
            _ => {
                made.push(letter);
                made.extend(escaped);
            }
        }
    }
    made
}

/// A pattern as strings spell what it matches, with anything before and behind it unless it is anchored there.
fn whole(hir: &Hir) -> Result<Hir, String> {
    let parts = match hir.kind() {
        HirKind::Alternation(branches) => {
            let branches: Result<_, _> = branches.iter().map(whole).collect();
            return Ok(Hir::alternation(branches?));
        }
        HirKind::Capture(group) => return whole(&group.sub),
        HirKind::Concat(parts) => &parts[..],
        _ => std::slice::from_ref(hir),
    };
    let is =
        |part: Option<&Hir>, look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let begins = is(parts.first(), Look::Start);
    let parts = &parts[usize::from(begins)..];
    let ends = is(parts.last(), Look::End);
    let parts = &parts[..parts.len() - usize::from(ends)];
    let mut made = Vec::new();
    if !begins {
        made.push(anything());
    }
    for part in parts {
        made.push(spelled(part)?);
    }
    if !ends {
        made.push(anything());
    }
    Ok(Hir::concat(made))
}

/// Any characters.
fn anything() -> Hir {
    let all = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(class(&all)),
    })
}

/// What matches the spelling of what `hir` matches.
fn spelled(hir: &Hir) -> Result<Hir, String> {
    let all = |parts: &[Hir]| parts.iter().map(spelled).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|e| e.to_string())?;
            let letter = |c| class(&ClassUnicode::new([ClassUnicodeRange::new(c, c)]));
            Hir::concat(text.chars().map(letter).collect())
        }
        HirKind::Class(Class::Unicode(among)) => class(among),
        HirKind::Class(Class::Bytes(among)) => match among.to_unicode_class() {
            Some(among) => class(&among),
            None => return Err("has a class of bytes".into()),
        },
        HirKind::Look(_) => {
            return Err("looks around inside of it; ^ and $ are read at its ends only".into());
        }
        HirKind::Repetition(repeated) => Hir::repetition(Repetition {
            sub: Box::new(spelled(&repeated.sub)?),
            ..repeated.clone()
        }),
        HirKind::Capture(group) => spelled(&group.sub)?,
        HirKind::Concat(parts) => Hir::concat(all(parts)?),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
    })
}

/// The spellings of one of some characters; those that have none are left out.
fn class(among: &ClassUnicode) -> Hir {
    let special = ['"', '\\'].map(|c| ClassUnicodeRange::new(c, c));
    let control = ClassUnicodeRange::new('\0', '\u{1F}');
    let mut plain = among.clone();
    plain.difference(&ClassUnicode::new(special.into_iter().chain([control])));
    let has = |c: char| {
        among
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&c))
    };
    let escapes = ESCAPED.iter().filter(|(c, _)| has(*c));
    let escapes = escapes.map(|(_, spelling)| Hir::literal(spelling.as_bytes()));
    let plain = Hir::class(Class::Unicode(plain));
    Hir::alternation(std::iter::once(plain).chain(escapes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::automaton::Automaton;

    #[test]
    fn strings_say_what_a_pattern_finds() {
        for (pattern, accepted, refused) in [
            ("^[a-z]+$", &["abc"][..], &["", "aB", "a\n", "1"][..]),
            ("b", &["abc", "b", "\"b\\"], &["", "ac"]),
            ("^a|z$", &["abc", "xyz"], &["ba", "za"]),
            ("^(a|\")$", &["a", "\""], &["\\", "b"]),
            ("^.$", &["é", "\"", "\\", "\t"], &["\n", "ab"]),
            ("^\\d\\w$", &["1_"], &["٣a", "1é"]),
            ("^[\\d.]+$", &["1.5"], &["1,5"]),
            ("^[\\W\\\\]$", &["é", "\\", "\""], &["a"]),
            ("^\\\\d$", &["\\d"], &["1"]),
            ("", &["", "x"], &[]),
            ("^$", &[""], &["x"]),
            ("^a{2,3}$", &["aa", "aaa"], &["a", "aaaa"]),
        ] {
            let made = Automaton::new(&containing(pattern).unwrap()).unwrap();
            let spelled = |text: &&str| {
                let json = serde_json::to_string(text).unwrap();
                made.accepts(&json[1..json.len() - 1])
            };
            assert!(accepted.iter().all(spelled), "{pattern}");
            assert!(!refused.iter().any(spelled), "{pattern}");
            // nothing that would end the string
            assert!(!made.accepts("a\"") && !made.accepts("\n"), "{pattern}");
        }
        for (pattern, part) in [("a^b", "look"), ("(", "unclosed"), ("(?!a)", "look-around")] {
            let problem = containing(pattern).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
