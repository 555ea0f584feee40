//! What a network is trained for: from clean sequences to weighted rows.

mod autoregressive;
mod block;
mod clean;
mod common;
mod make;
mod masked;
mod shifted;

pub use autoregressive::Autoregressive;
pub use block::{Block, beside_clean};
pub use clean::{Clean, attention_mask, restore};
pub use common::Objective;
pub use make::make;
pub use masked::Masked;
pub use shifted::Shifted;
