//! Networks: parameters, trunks, the graphs built from them, and models on disk.

#[cfg(not(target_arch = "wasm32"))]
pub mod adapters;
mod backbone;
#[cfg(not(target_arch = "wasm32"))]
mod base;
mod draw;
mod drawer;
mod family;
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod gpt2;
mod graphs;
mod handle;
mod held;
mod inspect;
mod load;
mod network;
mod params;
mod pass;
pub mod pretrained;
mod published;
mod time_embedding;
mod token_sets;
mod trunk;
pub mod trunks;
#[cfg(not(target_arch = "wasm32"))]
mod tuned;

pub use backbone::Backbone;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use base::Base;
#[cfg(not(target_arch = "wasm32"))]
pub use base::read_base;
pub use draw::{Among, DrawGraph, Drawing};
pub(crate) use drawer::{Ask, Drawer, Setup, Vision};
pub use family::Blockwise;
pub(crate) use family::Family;
pub(crate) use files::weights_to_bytes;
#[cfg(not(target_arch = "wasm32"))]
pub use files::{read_weights, write_weights};
#[cfg(not(target_arch = "wasm32"))]
pub use gpt2::Gpt2;
pub use graphs::{EvalGraph, LogitsGraph, LossInputs, TrainGraph};
pub(crate) use handle::fitting;
pub use handle::{Model, ModelInfo};
#[cfg(not(target_arch = "wasm32"))]
pub use inspect::inspect;
pub use inspect::{Inspected, inspect_files};
pub use load::Load;
#[cfg(not(target_arch = "wasm32"))]
pub use load::is_published;
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
#[cfg(not(target_arch = "wasm32"))]
pub use tuned::{export_tuned, is_tuned};
