//! JSON whose errors name the key.

use serde::de::DeserializeOwned;

/// Rust's names of types, and what they mean to people.
const TYPES: [(&str, &str); 7] = [
    ("expected usize", "expected a whole number"),
    ("expected u64", "expected a whole number"),
    ("expected u32", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected f32", "expected a number"),
    ("expected a string", "expected text"),
    ("expected a boolean", "expected true or false"),
];

/// Reads JSON; the error, for people, says in which key it lies.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(without_mark(json));
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = plain(&error.into_inner().to_string());
        if path == "." {
            problem
        } else {
            format!("{path}: {problem}")
        }
    })?;
    reader.end().map_err(|error| plain(&error.to_string()))?;
    Ok(parsed)
}

/// JSON without the byte order mark that some editors put in front.
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json)
}

/// A message of serde with people's words for types.
fn plain(message: &str) -> String {
    let text = TYPES.iter().fold(message.to_owned(), |text, (from, to)| {
        text.replace(from, to)
    });
    // serde's name of what is an object in JSON
    match text.split_once("expected struct ") {
        Some((before, behind)) => {
            let place = behind.find(" at line").map_or("", |at| &behind[at..]);
            format!("{before}expected an object{place}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_key_is_named() {
        type Numbers = BTreeMap<String, BTreeMap<String, f64>>;
        let refused = |json: &str| parse::<Numbers>(json.as_bytes()).unwrap_err();
        let problem = refused(r#"{"a":{"b":null}}"#);
        assert!(
            problem.starts_with("a.b: invalid type: null, expected a number"),
            "{problem}"
        );
        assert!(refused(r#"[]"#).starts_with("invalid type: sequence"));
        assert!(refused("{} {}").contains("trailing characters"));
        assert!(parse::<Numbers>(br#"{"a":{"b":1}}"#).is_ok());
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            #[expect(dead_code, reason = "only its absence is looked at")]
            a: u32,
        }
        let problem = parse::<Named>(b"3").unwrap_err();
        assert!(
            problem.contains("expected an object at line 1"),
            "{problem}"
        );
        assert!(parse::<Numbers>(b"\xEF\xBB\xBF{}").is_ok());
    }
}
