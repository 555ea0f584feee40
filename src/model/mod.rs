//! The denoiser: parameters, initialisation, the DiT encoder and the graphs built from it.

mod backbone;
mod decode;
#[cfg(not(target_arch = "wasm32"))]
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod gpt2;
mod graphs;
mod handle;
mod init;
mod params;
#[cfg(not(target_arch = "wasm32"))]
mod published;
mod time_embedding;

pub use backbone::{Backbone, DecodeInputs, Trunk, TrunkOptions};
pub(crate) use decode::Decoder;
#[cfg(not(target_arch = "wasm32"))]
pub use files::{read_weights, write_weights};
#[cfg(not(target_arch = "wasm32"))]
pub use gpt2::Gpt2;
pub use graphs::{DrawGraph, EvalGraph, LogitsGraph, TrainGraph};
pub use handle::{Model, ModelInfo};
pub(crate) use handle::{check_tokens, initialise};
pub use init::initial;
pub use params::{BackboneParams, BlockParams, ConditioningParams};
#[cfg(not(target_arch = "wasm32"))]
pub use published::{Description, load_published};
pub use time_embedding::{TIME_FEATURES, time_embedding, time_rows};
