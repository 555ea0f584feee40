//! The samplers' names and options as TypeScript's types, put together by the compiler.
#![allow(
    dead_code,
    reason = "the compiler does not see that the section uses them"
)]

use wasm_bindgen::prelude::wasm_bindgen;

use crate::rules::ALL;

/// Text that grows at compile time.
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
