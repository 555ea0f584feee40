//! The samplers, for pages that offer them, and their names and options as TypeScript's types.

use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::convert::object;
use super::error::JsResult;
use super::types::Samplers;
use crate::rules::{ALL, Choice, SamplerKind};

#[derive(Serialize)]
struct Info {
    name: &'static str,
    summary: &'static str,
    has_steps: bool,
    options: Vec<Described>,
}

#[derive(Serialize)]
struct Described {
    key: &'static str,
    help: &'static str,
    default: f64,
    whole: bool,
}

impl From<&SamplerKind> for Info {
    fn from(kind: &SamplerKind) -> Self {
        let describe = |choice: &Choice| Described {
            key: choice.key,
            help: choice.help,
            default: choice.default,
            whole: choice.whole,
        };
        Self {
            name: kind.name,
            summary: kind.summary,
            has_steps: kind.has_steps,
            options: kind.options.iter().map(describe).collect(),
        }
    }
}

/// All samplers, in the order in which to offer them.
#[wasm_bindgen]
pub fn samplers() -> JsResult<Samplers> {
    let all: Vec<Info> = ALL.iter().map(Info::from).collect();
    Ok(object(&all)?.unchecked_into())
}

/// Text that is put together by the compiler.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const fn push(mut self, text: &str) -> Self {
        let mut i = 0;
        while i < text.len() {
            self.bytes[self.length] = text.as_bytes()[i];
            self.length += 1;
            i += 1;
        }
        self
    }
}

/// One interface for each sampler: TypeScript merges them.
const fn types<const N: usize>() -> Text<N> {
    let mut text = Text {
        bytes: [b' '; N],
        length: 0,
    };
    let mut i = 0;
    while i < ALL.len() {
        text = text.push("export interface SamplerOptions { ");
        let options = ALL[i].0.options;
        let mut j = 0;
        while j < options.len() {
            text = text.push(options[j].key).push("?: number; ");
            j += 1;
        }
        text = text.push("}\n");
        i += 1;
    }
    text = text.push("export type SamplerKind =");
    i = 0;
    while i < ALL.len() {
        text = text.push(" | \"").push(ALL[i].0.name).push("\"");
        i += 1;
    }
    text.push(";\n")
}

const BYTES: &[u8] = &types::<4096>().bytes;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = match std::str::from_utf8(BYTES) {
    Ok(text) => text.trim_ascii_end(),
    Err(_) => "",
};
