//! What ranks tell each other in a step.

use crate::error::Result;
use crate::graph::{GRADS, Storage};
use crate::ranks::Ranks;

/// Replaces the gradients by their sums over all ranks.
pub(super) async fn sum_gradients(ranks: &dyn Ranks, storage: &mut Storage) -> Result<()> {
    let layout = storage.layout().clone();
    for slab in layout.trained() {
        let mut gradients = storage.read_slab(GRADS, slab).await?;
        ranks.sum(&mut gradients)?;
        storage.write_slab(GRADS, slab, &gradients)?;
    }
    Ok(())
}
