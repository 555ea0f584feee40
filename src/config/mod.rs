//! Configurations: plain fields with the reference's names, unknown keys refused, every value
//! checked by `validate()` with the key in the error.

mod base;
mod limits;
mod model;
mod objective;
mod optim;
mod overlay;
mod recipe;
mod sample;
mod train;
mod validate;

pub use crate::process::{NoiseConfig, NoiseKind};
pub use crate::rules::SamplerKind;
pub use base::{BaseConfig, LoraConfig};
pub use model::{ModelConfig, ModelKind};
pub use objective::{ObjectiveConfig, Parameterization};
pub use optim::{HiddenUpdate, LrSchedule, Moments, OptimConfig, Recipe};
pub use sample::{Cache, SampleConfig};
pub use train::{
    DataConfig, Detokenizer, LossWeights, Precision, Recompute, TrainConfig, TrainingConfig, Wire,
};
