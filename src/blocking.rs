//! For native callers that do not want `async`.
//!
//! ```
//! use mdlm::{blocking::wait, config::ModelConfig, device::Device, model::Model};
//!
//! # fn main() -> mdlm::Result<()> {
//! let config = ModelConfig { vocab_size: 30, mask_index: 29, length: 16, ..ModelConfig::preset("nano")? };
//! let mut model = wait(Model::new(&Device::cpu(), &config, 1))?;
//! let logits = wait(model.logits(&[29; 16], &[0.0]))?; // [batch, length, V]
//! assert_eq!(logits.len(), 16 * 30);
//! # Ok(())
//! # }
//! ```

use std::future::Future;

/// Runs a future of this crate to its end on the calling thread.
pub fn wait<F: Future>(future: F) -> F::Output {
    pollster::block_on(future)
}
