//! Objects across the border, by way of JSON: they are small.

use js_sys::JSON;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

use super::arguments;
use super::error::{JsResult, thrown};
use crate::error::Error;

/// Longest options that are read.
const MAX_CHARACTERS: u32 = 1 << 16;

/// Reads an options object; `undefined` and `null` mean the defaults. Unknown keys are refused.
pub(super) fn options<T: DeserializeOwned + Default>(
    name: &'static str,
    value: &JsValue,
) -> JsResult<T> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    let text = JSON::stringify(value)?;
    if text.length() > MAX_CHARACTERS {
        let problem = "is too long";
        return Err(thrown(Error::argument(name, "the object given", problem)));
    }
    arguments::options(name, &String::from(text)).map_err(thrown)
}

/// Makes an object; numbers that are not finite become `null`.
pub(super) fn object(value: &impl Serialize) -> JsResult<JsValue> {
    let text = serde_json::to_string(value).map_err(|e| thrown(Error::Internal(e.to_string())))?;
    JSON::parse(&text)
}
