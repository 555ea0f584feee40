//! The denoiser: parameters, initialisation, the DiT encoder and the graphs built from it.

mod backbone;
mod decode;
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod gpt2;
mod graphs;
mod handle;
mod init;
#[cfg(not(target_arch = "wasm32"))]
mod load;
mod params;
mod published;
mod time_embedding;

pub(crate) use backbone::frequencies;
pub use backbone::{Backbone, DecodeInputs, Trunk, TrunkOptions};
pub(crate) use decode::Decoder;
pub use files::{parse_weights, weights_to_bytes};
#[cfg(not(target_arch = "wasm32"))]
pub use files::{read_weights, write_weights};
#[cfg(not(target_arch = "wasm32"))]
pub use gpt2::Gpt2;
pub use graphs::{DrawGraph, EvalGraph, LogitsGraph, TrainGraph};
pub use handle::{Model, ModelInfo};
pub(crate) use handle::{check_tokens, fitting, initialise};
pub use init::{initial, unmodulated};
pub use params::{BackboneParams, BlockParams, ConditioningParams};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use published::describe;
#[cfg(not(target_arch = "wasm32"))]
pub use published::load_published;
pub use published::{Description, Published};
pub use time_embedding::{TIME_FEATURES, time_embedding, time_rows};
