//! What a run will take, before anything is allocated.

use crate::config::{Moments, Precision, TrainConfig};
use crate::device::Device;
use crate::error::Result;
use crate::graph::Report;
use crate::model::{Backbone, Family, TrainGraph};
use crate::objective;
use crate::ops::TRAINING;
use crate::train::rule;
use crate::train::trainer::{check_precision, options, with_moments};

/// What a run of one of this crate's networks takes on a device.
///
/// ```
/// use mdlm::{Device, ModelConfig, TrainConfig, train::Budget};
///
/// let mut config = TrainConfig { model: ModelConfig::preset("small")?, ..TrainConfig::default() };
/// (config.model.vocab_size, config.model.mask_index) = (50258, 50257);
/// config.training.batch = 4;
/// let budget = Budget::of(&Device::cpu(), &config)?;
/// println!("{} parameters: {}", budget.parameters, budget.report);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Parameters of the model.
    pub parameters: u64,
    /// What the training graph costs.
    pub report: Report,
}

impl Budget {
    /// Of a configuration whose vocabulary is known, for its longest sequences; of one rank that keeps all moments, if there
    /// are several.
    ///
    /// # Errors
    /// [`crate::Error::Config`] that names the key; [`crate::Error::Unsupported`] if a tensor does not fit the device.
    pub fn of(device: &Device, config: &TrainConfig) -> Result<Self> {
        let mut config = config.clone();
        config.resolve();
        config.validate()?;
        if device.context().is_none() {
            // the twin rounds numbers, and keeps them as they were
            config.training.precision = Precision::F32;
            config.optim.moments = Moments::F32;
        }
        let family = Family::Own(Backbone::new(&config.model, device.slab_limit())?);
        let family = with_moments(family, &config, device)?;
        let network = family.network();
        check_precision(&config, device, network)?;
        let objective = objective::make(&config.model, &config.noise, &config.objective)?;
        let options = options(&config, &*objective, config.model.length);
        let rule = |name: &str, _: &[usize]| rule(&config.optim, network.group(name));
        let (loss, clip) = (objective.row_loss(), config.optim.clip);
        let made = TrainGraph::new(network, options, loss, None, clip, &rule)?;
        Ok(Self {
            parameters: network.layout.parameters(),
            report: made.graph.report(device.class(), &TRAINING)?,
        })
    }

    /// The largest batch of a micro-batch with which a run takes at most so many bytes; 0 if not even one sequence
    /// does.
    ///
    /// # Errors
    /// As [`Budget::of`].
    pub fn largest_batch(device: &Device, config: &TrainConfig, bytes: u64) -> Result<usize> {
        let mut config = config.clone();
        let mut fits = |batch: usize| {
            config.training.batch = batch;
            // more tokens than a step may have are too many whatever the memory
            let allowed = config.validate().is_ok();
            Ok::<_, crate::Error>(allowed && Self::of(device, &config)?.report.total_bytes <= bytes)
        };
        let (mut most, mut above) = (0, 1);
        while fits(above)? {
            (most, above) = (above, 2 * above);
        }
        while above - most > 1 {
            let middle = most + (above - most) / 2;
            if fits(middle)? {
                most = middle;
            } else {
                above = middle;
            }
        }
        Ok(most)
    }
}
