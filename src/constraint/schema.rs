//! A JSON schema as a regular expression of the texts that are valid, written on one line with at most one space
//! between their parts. What the schema says and this does not read is refused by name.

use indexmap::IndexMap;

use super::automaton::Automaton;
use super::json::Json;
use super::strings::{CHARACTER, containing};

/// Largest schema, bytes.
const MAX_SCHEMA: usize = 1 << 18;
/// Most bytes of all the expressions that a schema's parts become.
const MAX_WRITTEN: usize = 1 << 22;
/// Most schemas inside of each other, references followed.
const MAX_DEPTH: usize = 32;
/// Most values inside of each other where a schema allows any.
const ANY_DEPTH: usize = 2;

/// Keys that say nothing about what is valid.
const NOTES: [&str; 12] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Types with the keys that are read of each.
const TYPES: [(&str, &[&str]); 7] = [
    (
        "object",
        &["properties", "required", "additionalProperties"],
    ),
    ("array", &["items", "minItems", "maxItems"]),
    ("string", &["pattern", "minLength", "maxLength"]),
    ("number", &[]),
    ("integer", &[]),
    ("boolean", &[]),
    ("null", &[]),
];

/// As many digits as every reader keeps.
const INTEGER: &str = "0|-?[1-9][0-9]{0,14}";
const NUMBER: &str = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?";

/// The expression of the texts that are valid under a schema.
///
/// ```
/// use mdlm::constraint::{Automaton, pattern};
///
/// let schema = r#"{"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}"#;
/// let made = Automaton::new(&pattern(schema).unwrap()).unwrap();
/// assert!(made.accepts(r#"{"age": 7}"#) && !made.accepts("{}"));
/// ```
///
/// # Errors
/// A sentence that names the part of the schema that is no schema or is not read here.
pub fn pattern(schema: &str) -> Result<String, String> {
    if schema.len() > MAX_SCHEMA {
        return Err(format!("has more than {MAX_SCHEMA} bytes"));
    }
    let root = serde_json::from_str(schema).map_err(|error| format!("is not JSON: {error}"))?;
    let mut compiler = Compiler {
        root: &root,
        open: Vec::new(),
        written: 0,
    };
    compiler.schema(&root, "#")
}

type Members = IndexMap<String, Json>;

struct Compiler<'a> {
    root: &'a Json,
    /// The places of the schemas that are being read, references by where they lead.
    open: Vec<String>,
    written: usize,
}

impl<'a> Compiler<'a> {
    /// The expression of what is valid under the schema at a place.
    fn schema(&mut self, schema: &'a Json, at: &str) -> Result<String, String> {
        if self.open.len() == MAX_DEPTH {
            return Err(format!("{at}: is more than {MAX_DEPTH} schemas deep"));
        }
        self.open.push(at.to_owned());
        let made = match schema {
            Json::Bool(true) => any(ANY_DEPTH),
            Json::Object(members) => self.members(members, at)?,
            _ => {
                return Err(format!(
                    "{at}: is not a schema that anything is valid under"
                ));
            }
        };
        self.open.pop();
        self.written += made.len();
        if self.written > MAX_WRITTEN {
            return Err(format!(
                "{at}: makes an expression of more than {MAX_WRITTEN} bytes"
            ));
        }
        Ok(format!("(?:{made})"))
    }

    fn members(&mut self, members: &'a Members, at: &str) -> Result<String, String> {
        let names = members.keys().map(String::as_str);
        let said: Vec<&str> = names.filter(|name| !NOTES.contains(name)).collect();
        let only = |read: &[&str]| match said.iter().find(|name| !read.contains(name)) {
            Some(name) => Err(format!("{at}/{name}: is not read here")),
            None => Ok(()),
        };
        let types = match members.get("type") {
            None => Vec::new(),
            Some(Json::Text(name)) => vec![name.as_str()],
            Some(Json::List(names)) => {
                let name = |name: &'a Json| match name {
                    Json::Text(name) => Ok(name.as_str()),
                    _ => Err(format!("{at}/type: must be text, or a list of texts")),
                };
                names.iter().map(name).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(format!("{at}/type: must be text, or a list of texts")),
        };
        if let Some(target) = members.get("$ref") {
            only(&["$ref"])?;
            return self.reference(target, at);
        }
        if let Some(value) = members.get("const") {
            only(&["const", "type"])?;
            return listed(std::slice::from_ref(value), &types, at);
        }
        if let Some(values) = members.get("enum") {
            only(&["enum", "type"])?;
            return match values {
                Json::List(values) => listed(values, &types, at),
                _ => Err(format!("{at}/enum: must be a list")),
            };
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(branches) = members.get(key) {
                only(&[key])?;
                return self.branches(branches, key == "oneOf", &format!("{at}/{key}"));
            }
        }
        if types.is_empty() {
            only(&[])?;
            return Ok(any(ANY_DEPTH));
        }
        let mut read = vec!["type"];
        for name in &types {
            match TYPES.iter().find(|(known, _)| known == name) {
                Some((_, keys)) => read.extend(*keys),
                None => return Err(format!("{at}/type: {name} is none")),
            }
        }
        only(&read)?;
        let mut made = Vec::new();
        for name in types {
            made.push(match name {
                "object" => self.object(members, at)?,
                "array" => self.array(members, at)?,
                "string" => string(members, at)?,
                "number" => NUMBER.to_owned(),
                "integer" => INTEGER.to_owned(),
                "boolean" => "true|false".to_owned(),
                _ => "null".to_owned(),
            });
        }
        Ok(made.join("|"))
    }

    fn reference(&mut self, target: &'a Json, at: &str) -> Result<String, String> {
        let Json::Text(target) = target else {
            return Err(format!("{at}/$ref: must be text"));
        };
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(format!("{at}/$ref: {target} is not in this schema"));
        };
        let root = self.root;
        let schema = match pointer.strip_prefix('/') {
            Some(pointer) => root.at(pointer),
            None => Some(root).filter(|_| pointer.is_empty()),
        };
        let schema = schema.ok_or_else(|| format!("{at}/$ref: there is nothing at {target}"))?;
        // as a pattern, a schema inside of itself would have no end
        let inside = |open: &String| open == target;
        if self.open.iter().any(inside) {
            return Err(format!(
                "{at}/$ref: {target} is recursive, which is not read here"
            ));
        }
        self.schema(schema, target)
    }

    fn branches(&mut self, branches: &'a Json, one: bool, at: &str) -> Result<String, String> {
        let Json::List(branches) = branches else {
            return Err(format!("{at}: must be a list"));
        };
        let mut made = Vec::new();
        for (i, branch) in branches.iter().enumerate() {
            made.push(self.schema(branch, &format!("{at}/{i}"))?);
        }
        if made.is_empty() {
            return Err(format!("{at}: must have at least one schema"));
        }
        if one {
            let automata: Result<Vec<_>, _> =
                made.iter().map(|made| Automaton::new(made)).collect();
            let automata = automata.map_err(|problem| format!("{at}: {problem}"))?;
            for (i, a) in automata.iter().enumerate() {
                if let Some(j) = (0..i).find(|&j| a.meets(&automata[j])) {
                    return Err(format!(
                        "{at}: a value may be valid under {j} and {i}; write anyOf"
                    ));
                }
            }
        }
        Ok(made.join("|"))
    }

    fn object(&mut self, members: &'a Members, at: &str) -> Result<String, String> {
        let closed = match members.get("additionalProperties") {
            None | Some(Json::Bool(true)) => false,
            Some(Json::Bool(false)) => true,
            Some(_) => {
                return Err(format!(
                    "{at}/additionalProperties: only true or false is read"
                ));
            }
        };
        let required = match members.get("required") {
            None => &[][..],
            Some(Json::List(names)) => names,
            Some(_) => return Err(format!("{at}/required: must be a list")),
        };
        let properties = match members.get("properties") {
            None => None,
            Some(Json::Object(properties)) => Some(properties),
            Some(_) => return Err(format!("{at}/properties: must be an object")),
        };
        let known = |name: &Json| match (name, properties) {
            (Json::Text(name), Some(properties)) => properties.contains_key(name),
            _ => false,
        };
        if let Some(name) = required.iter().find(|name| !known(name)) {
            return Err(format!("{at}/required: {name} is not among the properties"));
        }
        if !closed && properties.is_none() {
            return Ok(any_object(ANY_DEPTH));
        }
        let mut parts = Vec::new();
        for (name, schema) in properties.into_iter().flatten() {
            let value = self.schema(schema, &format!("{at}/properties/{name}"))?;
            let needed = required
                .iter()
                .any(|needed| matches!(needed, Json::Text(n) if n == name));
            let name = literal(&Json::Text(name.clone()));
            parts.push((format!("{name} ?: ?{value}"), needed));
        }
        let behind = |parts: &[(String, bool)]| -> String {
            let part = |(part, needed): &(String, bool)| match needed {
                true => format!(" ?, ?{part}"),
                false => format!("(?: ?, ?{part})?"),
            };
            parts.iter().map(part).collect()
        };
        let inner = match parts.iter().position(|(_, needed)| *needed) {
            Some(first) => {
                let before = parts[..first]
                    .iter()
                    .map(|(part, _)| format!("(?:{part} ?, ?)?"));
                before.collect::<String>() + &parts[first].0 + &behind(&parts[first + 1..])
            }
            None => {
                let from = |first: usize| parts[first].0.clone() + &behind(&parts[first + 1..]);
                let all: Vec<String> = (0..parts.len()).map(from).collect();
                format!("(?:{})?", all.join("|"))
            }
        };
        Ok(format!(r"\{{ ?{inner} ?\}}"))
    }

    fn array(&mut self, members: &'a Members, at: &str) -> Result<String, String> {
        let items = match members.get("items") {
            None => any(ANY_DEPTH),
            Some(items) => self.schema(items, &format!("{at}/items"))?,
        };
        let [least, most] = bounds(members, ["minItems", "maxItems"], at)?;
        let least = least.unwrap_or(0);
        let more = format!(
            "(?: ?, ?{items}){}",
            times(
                least.saturating_sub(1),
                most.map(|most| most.saturating_sub(1))
            )
        );
        let inner = match (least, most) {
            (_, Some(0)) => String::new(),
            (0, _) => format!("(?:{items}{more})?"),
            _ => items + &more,
        };
        Ok(format!(r"\[ ?{inner} ?\]"))
    }
}

fn string(members: &Members, at: &str) -> Result<String, String> {
    let [least, most] = bounds(members, ["minLength", "maxLength"], at)?;
    let inner = match members.get("pattern") {
        None => CHARACTER.to_owned() + &times(least.unwrap_or(0), most),
        Some(Json::Text(_)) if least.or(most).is_some() => {
            return Err(format!(
                "{at}/pattern: is not read beside minLength or maxLength; write the length into it"
            ));
        }
        Some(Json::Text(pattern)) => {
            containing(pattern).map_err(|problem| format!("{at}/pattern: {problem}"))?
        }
        Some(_) => return Err(format!("{at}/pattern: must be text")),
    };
    Ok(format!("\"{inner}\""))
}

/// The values of two keys that bound a number from both sides.
fn bounds(members: &Members, keys: [&str; 2], at: &str) -> Result<[Option<u32>; 2], String> {
    let mut found = [None; 2];
    for (key, found) in keys.into_iter().zip(&mut found) {
        *found = match members.get(key) {
            None => None,
            Some(Json::Number(number)) => {
                let count = number.as_u64().and_then(|n| u32::try_from(n).ok());
                Some(count.ok_or_else(|| format!("{at}/{key}: {number} is no count"))?)
            }
            Some(_) => return Err(format!("{at}/{key}: must be a number")),
        };
    }
    match found {
        [Some(least), Some(most)] if least > most => {
            let [low, high] = keys;
            Err(format!("{at}/{low}: {least} is above {high}, {most}"))
        }
        found => Ok(found),
    }
}

/// How often what stands before is repeated.
fn times(least: u32, most: Option<u32>) -> String {
    let most = most.map_or(String::new(), |most| most.to_string());
    format!("{{{least},{most}}}")
}

/// One of some values, of the types if there are any.
fn listed(values: &[Json], types: &[&str], at: &str) -> Result<String, String> {
    let of_type = |value: &&Json| {
        let kind = value.kind();
        types.is_empty() || types.contains(&kind) || kind == "integer" && types.contains(&"number")
    };
    match values.iter().find(|value| !of_type(value)) {
        Some(value) => Err(format!("{at}/type: {value} is of another type")),
        None if values.is_empty() => Err(format!("{at}/enum: must have at least one value")),
        None => Ok(values.iter().map(literal).collect::<Vec<_>>().join("|")),
    }
}

fn literal(value: &Json) -> String {
    regex_syntax::escape(&value.to_string())
}

/// Any value, with others inside of it down to a depth.
fn any(depth: usize) -> String {
    let simple = format!("\"{CHARACTER}*\"|{NUMBER}|true|false|null");
    if depth == 0 {
        return simple;
    }
    let items = format!("(?:{})", any(depth - 1));
    let list = format!(r"\[ ?(?:{items}(?: ?, ?{items})*)? ?\]");
    format!("{simple}|{list}|{}", any_object(depth))
}

fn any_object(depth: usize) -> String {
    let member = format!("\"{CHARACTER}*\" ?: ?(?:{})", any(depth.saturating_sub(1)));
    format!(r"\{{ ?(?:{member}(?: ?, ?{member})*)? ?\}}")
}
