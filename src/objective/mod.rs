//! What a network is trained for: from clean sequences to weighted rows.

mod noised;
mod objective;

pub use noised::Noised;
pub use objective::{Clean, Objective, attention_mask};
