//! The networks, a file each: what they compute and what weight files call their parameters.

mod bert;
mod dit;
mod gpt2;
mod llama;

pub use bert::{Bert, BertKind};
pub use dit::{Dit, frequencies, unmodulated};
pub use gpt2::Gpt2Trunk;
pub use llama::{Llama, Names};
