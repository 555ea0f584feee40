//! The networks.

mod bert;
mod dit;
mod gpt2;
mod llama;

pub use bert::{Bert, BertKind};
pub use dit::{Dit, frequencies, unmodulated};
pub use gpt2::Gpt2Trunk;
pub use llama::{Llama, Names};
