//! The samplers, for pages that offer them.

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
