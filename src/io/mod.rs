//! Files: reading within limits, atomic writing, tensors, tokenised blocks and checkpoints.

#[cfg(not(target_arch = "wasm32"))]
pub mod atomic;
#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
mod content;
pub mod files;
#[cfg(not(target_arch = "wasm32"))]
pub mod gguf;
#[cfg(not(target_arch = "wasm32"))]
mod gzip;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
#[cfg(not(target_arch = "wasm32"))]
mod json;
pub(crate) mod keyed;
#[cfg(not(target_arch = "wasm32"))]
mod manifest;
#[cfg(not(target_arch = "wasm32"))]
pub mod read;
pub mod safetensors;
#[cfg(not(target_arch = "wasm32"))]
pub mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod text;
#[cfg(not(target_arch = "wasm32"))]
pub mod tokens;
#[cfg(not(target_arch = "wasm32"))]
mod zstd;

/// A digest, or a part of one, in hexadecimal digits.
pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
