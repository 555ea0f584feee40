//! What a network is trained for: from clean sequences to weighted rows.

mod objective;

pub use objective::{Clean, Objective, attention_mask};
