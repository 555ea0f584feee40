//! Runs of several ranks in one process.

use std::path::Path;
use std::sync::Arc;

use mdlm::Result;
use mdlm::config::TrainConfig;
use mdlm::device::Device;
use mdlm::io::checkpoint::newest_whole;
use mdlm::progress::Observer;
use mdlm::ranks::Ranks;
use mdlm::train::{Summary, Trainer};
use pollster::block_on;

use super::runs::corpus;

/// A rank's part of a run in `dir`, fresh or continued from its newest whole checkpoint.
pub fn part(
    ranks: &Arc<dyn Ranks>,
    config: &TrainConfig,
    dir: &Path,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let device = Device::cpu();
    let found = newest_whole(dir)?;
    // nobody saves before all have looked
    ranks.barrier()?;
    let ranks = ranks.clone();
    let mut trainer = match found {
        Some(saved) => {
            let made = Trainer::resume_among(ranks, &device, config, corpus(), &saved);
            block_on(made)?
        }
        None => block_on(Trainer::new_among(ranks, &device, config, corpus()))?,
    };
    block_on(trainer.run(dir, observer))
}
