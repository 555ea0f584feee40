//! Configurations: plain fields with the reference's names, unknown keys refused, every value
//! checked by `validate()` with the key in the error.

mod limits;
mod model;
mod noise;
mod overlay;
mod sample;
mod train;
mod validate;

pub use model::{ModelConfig, ModelKind};
pub use noise::{NoiseConfig, NoiseKind, ObjectiveConfig, Parameterization};
pub use sample::{SampleConfig, SamplerKind};
pub use train::{DataConfig, Detokenizer, LrSchedule, OptimConfig, TrainConfig, TrainingConfig};
