//! Configurations: plain fields with the reference's names, unknown keys refused, every value
//! checked by `validate()` with the key in the error.

mod model;
mod overlay;
mod train;
mod validate;

pub use model::ModelConfig;
pub use train::{
    DataConfig, LrSchedule, NoiseConfig, NoiseKind, OptimConfig, SampleConfig, TrainConfig,
    TrainingConfig,
};
