//! Networks: parameters, trunks, the graphs built from them, and models on disk.

mod backbone;
mod draw;
mod drawer;
mod family;
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod gpt2;
mod graphs;
mod handle;
#[cfg(not(target_arch = "wasm32"))]
mod inspect;
#[cfg(not(target_arch = "wasm32"))]
mod load;
mod network;
mod params;
mod pass;
#[cfg(not(target_arch = "wasm32"))]
pub mod pretrained;
mod published;
mod time_embedding;
mod token_sets;
mod trunk;
pub mod trunks;

pub use backbone::Backbone;
pub use draw::{Among, DrawGraph, Drawing};
pub(crate) use drawer::{Ask, Drawer, Setup, Vision};
pub use family::Blockwise;
pub(crate) use family::Family;
pub(crate) use files::{parse_weights, weights_to_bytes};
#[cfg(not(target_arch = "wasm32"))]
pub use files::{read_weights, write_weights};
#[cfg(not(target_arch = "wasm32"))]
pub use gpt2::Gpt2;
pub use graphs::{EvalGraph, LogitsGraph, LossInputs, TrainGraph};
pub(crate) use handle::fitting;
pub use handle::{Model, ModelInfo};
#[cfg(not(target_arch = "wasm32"))]
pub use inspect::{Inspected, inspect};
#[cfg(not(target_arch = "wasm32"))]
pub use load::Load;
pub use network::Network;
pub use params::{Group, Init, Linear, Params};
pub use pass::Pass;
pub(crate) use pass::check_tokens;
#[cfg(not(target_arch = "wasm32"))]
pub use published::load_published;
pub use published::{Description, Published};
pub use token_sets::TokenSets;
pub(crate) use token_sets::insert;
pub use trunk::{Call, Head, KeptInputs, Options, Positions, Sights, Trunk};
