//! JSON schemas: which texts are valid, and what is refused.

use mdlm::constraint::{Automaton, pattern};
use serde_json::{Value, json};

fn made(schema: &str) -> Automaton {
    Automaton::new(&pattern(schema).unwrap_or_else(|e| panic!("{schema}: {e}"))).unwrap()
}

/// Texts that are valid, and others that are not.
#[test]
fn texts_that_are_valid() {
    let cases: [(Value, &[&str], &[&str]); 19] = [
        (
            json!({"type": "integer"}),
            &["0", "-7", "123456789012345"],
            &["", "01", "1.0", "+1", "1234567890123456", "-0", "1e3"],
        ),
        (
            json!({"type": "number"}),
            &["0", "-0.5", "12.25e-3", "1E9"],
            &[".5", "1.", "1e", "NaN", "01"],
        ),
        (
            json!({"type": "boolean", "title": "said", "default": true}),
            &["true", "false"],
            &["True", "1"],
        ),
        (
            json!({"type": ["string", "null"]}),
            &["null", "\"null\""],
            &["0", ""],
        ),
        (
            json!({"type": "string"}),
            &["\"\"", "\"é\u{1F600} {}\"", r#""\"\\\n""#],
            &["a", "\"", "\"\"\"", "\"\n\"", r#""\x""#, r#""\""#],
        ),
        (
            json!({"type": "string", "minLength": 2, "maxLength": 3}),
            &["\"ab\"", r#""\né\"""#],
            &["\"a\"", "\"abcd\""],
        ),
        (
            json!({"type": "string", "maxLength": 0}),
            &["\"\""],
            &["\"a\""],
        ),
        (
            json!({"type": "string", "pattern": "^[A-Z]{2}\\d$"}),
            &["\"AB1\""],
            &["\"AB\"", "\"xAB1\"", "\"AB1\\n\""],
        ),
        (
            json!({"enum": ["a.b", 1, null, [1, {"x": 2}]]}),
            &["\"a.b\"", "1", "null", "[1,{\"x\":2}]"],
            &["\"axb\"", "2"],
        ),
        (
            json!({"const": "it's \"so\"", "type": "string"}),
            &[r#""it's \"so\"""#],
            &["\"it's\""],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            &["[]", "[ ]", "[1]", "[1, 2 ,3]"],
            &["[1,]", "[,1]", "[1 2]", "[1,  2]"],
        ),
        (
            json!({"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 3}),
            &["[1,1]", "[1,1,1]"],
            &["[1]", "[]", "[1,1,1,1]"],
        ),
        (
            json!({"type": "array", "items": {"const": 1}, "maxItems": 1}),
            &["[]", "[1]"],
            &["[1,1]"],
        ),
        (
            json!({"type": "array", "maxItems": 0}),
            &["[]", "[ ]"],
            &["[1]"],
        ),
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]}),
            &["1", "[null]"],
            &["null", "[1]"],
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "null"}]}),
            &["1", "null"],
            &["1null"],
        ),
        (
            json!({"$defs": {"a/b": {"enum": [1, 2]}}, "type": "array", "items": {"$ref": "#/$defs/a~1b"}}),
            &["[1, 2]"],
            &["[3]"],
        ),
        (
            json!({}),
            &["1", "{\"a\": [1, true]}", "[[1], {\"b\": 2}]", "\"x\""],
            &["[[[1]]]", "x"],
        ),
        (
            json!({"type": "object"}),
            &["{}", "{\"a\": 1, \"b\": {\"c\": \"d\"}}"],
            &["[]", "{a: 1}", "{\"a\": 1,}"],
        ),
    ];
    for (schema, valid, others) in cases {
        let made = made(&schema.to_string());
        for text in valid {
            assert!(made.accepts(text), "{schema}: {text}");
            serde_json::from_str::<Value>(text).unwrap();
        }
        for text in others {
            assert!(!made.accepts(text), "{schema}: {text}");
        }
    }
}

/// Properties in the order of the schema, those that are not required left out at will.
#[test]
fn objects_have_their_properties_in_order() {
    let properties = r#""properties": {"z": {"const": 1}, "b": {"const": 2}, "a": {"const": 3}}"#;
    for required in 0..8 {
        let names: Vec<&str> = ["z", "b", "a"]
            .into_iter()
            .enumerate()
            .filter(|(i, _)| required >> i & 1 == 1)
            .map(|(_, n)| n)
            .collect();
        let schema = format!(
            r#"{{"type": "object", {properties}, "required": {}}}"#,
            json!(names)
        );
        let made = made(&schema);
        for present in 0..8 {
            let parts = [r#""z":1"#, r#""b":2"#, r#""a":3"#];
            let parts: Vec<&str> = (0..3)
                .filter(|i| present >> i & 1 == 1)
                .map(|i| parts[i])
                .collect();
            let valid = present & required == required;
            let (tight, wide) = (
                format!("{{{}}}", parts.join(",")),
                format!("{{ {} }}", parts.join(" , ").replace(':', " : ")),
            );
            assert_eq!(made.accepts(&tight), valid, "{schema}: {tight}");
            assert_eq!(
                made.accepts(&wide.replace("{  }", "{ }")) && valid,
                valid,
                "{schema}: {wide}"
            );
            if parts.len() > 1 {
                let turned: Vec<&str> = parts.iter().rev().copied().collect();
                assert!(!made.accepts(&format!("{{{}}}", turned.join(","))));
            }
        }
        assert!(!made.accepts(r#"{"z":1,"b":2,"a":3,"c":4}"#));
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (schema, part) in [
        ("{", "not JSON"),
        ("3", "#: is not a schema"),
        ("false", "#: is not a schema"),
        (r#"{"type": "text"}"#, "#/type: text"),
        (
            r#"{"type": "integer", "minimum": 3}"#,
            "#/minimum: is not read",
        ),
        (r#"{"type": "string", "format": "date"}"#, "#/format"),
        (
            r#"{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "minItems": 3}}}}"#,
            "#/properties/a/items/minItems",
        ),
        (r#"{"minLength": 3}"#, "#/minLength"),
        (
            r#"{"type": "object", "additionalProperties": {"type": "string"}}"#,
            "additionalProperties",
        ),
        (
            r#"{"type": "object", "properties": {"a": true}, "required": ["b"]}"#,
            "\"b\" is not among",
        ),
        (
            r#"{"type": "object", "patternProperties": {}}"#,
            "patternProperties",
        ),
        (r#"{"type": "array", "prefixItems": []}"#, "prefixItems"),
        (
            r#"{"type": "array", "minItems": 3, "maxItems": 2}"#,
            "minItems: 3 is above",
        ),
        (r#"{"type": "array", "minItems": -1}"#, "-1 is no count"),
        (r#"{"type": "string", "maxLength": 1.5}"#, "1.5 is no count"),
        (
            r#"{"type": "string", "pattern": "a", "maxLength": 3}"#,
            "#/pattern: is not read beside",
        ),
        (
            r#"{"type": "string", "pattern": "(?=a)"}"#,
            "#/pattern: is no regular expression",
        ),
        (r#"{"allOf": [{"type": "string"}]}"#, "#/allOf"),
        (r#"{"not": {"type": "string"}}"#, "#/not"),
        (
            r#"{"oneOf": [{"type": "integer"}, {"type": "number"}]}"#,
            "valid under 0 and 1",
        ),
        (r#"{"anyOf": []}"#, "#/anyOf: must have"),
        (r#"{"enum": []}"#, "#/enum: must have"),
        (
            r#"{"enum": [1, "a"], "type": "string"}"#,
            "1 is of another type",
        ),
        (r##"{"$ref": "#/$defs/x"}"##, "nothing at #/$defs/x"),
        (r#"{"$ref": "other.json"}"#, "not in this schema"),
        (r##"{"$ref": "#"}"##, "recursive"),
        (
            r##"{"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}}}"##,
            "#/$defs/x is recursive",
        ),
        (
            r##"{"$ref": "#/$defs/x", "type": "string", "$defs": {"x": {}}}"##,
            "#/type: is not read",
        ),
    ] {
        let problem = pattern(schema).expect_err(schema);
        assert!(problem.contains(part), "{schema}: {problem}");
    }
    let deep = (0..40).fold(
        json!({"type": "null"}),
        |inner, _| json!({"type": "array", "items": inner}),
    );
    assert!(
        pattern(&deep.to_string())
            .unwrap_err()
            .contains("32 schemas deep")
    );
    // each part names the next one eight times
    let mut defs = serde_json::Map::new();
    for i in 0..10 {
        let next = json!({"$ref": format!("#/$defs/{}", i + 1)});
        defs.insert(i.to_string(), json!({"anyOf": vec![next; 8]}));
    }
    defs.insert("10".to_owned(), json!({"type": "integer"}));
    let growing = json!({"$ref": "#/$defs/0", "$defs": defs}).to_string();
    let problem = pattern(&growing).unwrap_err();
    assert!(problem.contains("expression of more than"), "{problem}");
    let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(1 << 18));
    assert!(pattern(&long).unwrap_err().contains("262144 bytes"));
}
