//! What a network is trained for: from clean sequences to weighted rows.

mod arranged;
mod autoregressive;
mod block;
mod clean;
mod common;
mod make;
mod masked;
mod shifted;

pub use arranged::{Arranged, Arrangement};
pub use autoregressive::Autoregressive;
pub use block::{Block, beside_clean};
pub use clean::{Clean, attention_mask, restore};
pub use common::Objective;
pub use make::make;
pub use masked::Masked;
pub use shifted::Shifted;

#[cfg(test)]
mod tests {
    //! What the tests of arrangements share.

    use std::sync::Arc;

    use super::{Arranged, Arrangement, Objective, make};
    use crate::config::{ModelConfig, NoiseConfig, ObjectiveConfig};

    /// Masked diffusion of 9 tokens whose mask is 8, and the same arranged.
    pub(super) fn masked<A: Arrangement>(by: A) -> (Arc<dyn Objective>, Arranged<A>) {
        let model = ModelConfig {
            vocab_size: 9,
            mask_index: 8,
            ..ModelConfig::default()
        };
        let (noise, objective) = (NoiseConfig::default(), ObjectiveConfig::default());
        let masked = make(&model, &noise, &objective).unwrap();
        (masked.clone(), Arranged(masked, by))
    }
}
