//! The crate's errors as JavaScript's.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

use crate::error::{Error, ON_CPU};

/// Result of a function that JavaScript calls.
pub(super) type JsResult<T> = Result<T, JsValue>;

/// An `Error` with `code` and, where there is one, `hint`.
pub(super) fn thrown(error: Error) -> JsValue {
    let made = js_sys::Error::new(&error.to_string());
    made.set_name("MdlmError");
    let set = |key: &str, value: &str| {
        // fails on frozen objects only
        let _ = Reflect::set(&made, &key.into(), &value.into());
    };
    set("code", error.code());
    if let Some(hint) = hint(&error) {
        set("hint", &hint);
    }
    made.into()
}

/// The library's hints speak of flags and drivers; a page's visitor has neither.
fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::NoAdapter { .. } => {
            "there is no WebGPU adapter here: compute on the CPU (on the page, add ?device=cpu to the address)"
        }
        Error::DeviceLost { .. } => {
            "the browser took the GPU away, often for want of memory: start again, or compute on the CPU"
        }
        Error::OutOfMemory { what, .. } if what.ends_with(ON_CPU) => {
            "take a shorter length, or close other tabs"
        }
        Error::OutOfMemory { .. } | Error::Unsupported { .. } => {
            "take a shorter length, close other tabs, or compute on the CPU"
        }
        Error::NonFinite { .. } => "start again with a lower learning rate",
        other => return other.hint(),
    };
    Some(hint.to_owned())
}
