//! Classes for JavaScript. They convert, call the library and convert back; nothing here computes.
//!
//! All of it belongs into a web worker: the CPU twin blocks while it works.

mod arguments;
mod convert;
mod device;
mod error;
mod files;
mod model;
mod published;
mod sampler;
mod sampler_types;
mod samplers;
#[cfg(target_feature = "atomics")]
mod threads;
mod trainer;
mod types;

use wasm_bindgen::prelude::wasm_bindgen;

pub use device::Device;
pub use model::Model;
pub use published::inspect;
pub use sampler::Sampler;
pub use samplers::samplers;
pub use trainer::Trainer;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Lets a panic, which ends the module, say in the console where it was. For an application's own page.
#[wasm_bindgen(js_name = reportPanics)]
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

/// Version of the crate.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
