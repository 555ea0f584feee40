//! The objective of a configuration.

use std::sync::Arc;

use crate::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig};
use crate::error::Result;
use crate::objective::{Arranged, Autoregressive, Block, Masked, Objective, Shifted};

/// The objective of a configuration.
///
/// # Errors
/// [`crate::Error::Config`] for switches that do not go together.
pub fn make(
    model: &ModelConfig,
    noise: &NoiseConfig,
    config: &ObjectiveConfig,
) -> Result<Arc<dyn Objective>> {
    config.validate(noise, model)?;
    Ok(match model.kind {
        ModelKind::Ar => Arc::new(Autoregressive::new(model.vocab_size)),
        ModelKind::Dit | ModelKind::Published => {
            let masked = Arc::new(Masked::new(model, noise, config)?);
            match config.block_size {
                0 if config.shift => Arc::new(Arranged(masked, Shifted)),
                0 => masked,
                block => Arc::new(Arranged(masked, Block::new(block)?)),
            }
        }
    })
}
