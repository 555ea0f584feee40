//! Plain functions of numbers: the noise processes (schedule, times, masking, hybrid noise) and the loss scale.

mod hybrid;
mod loss_scale;
mod masking;
mod noise;
mod schedule;
mod times;

pub use hybrid::{Hybrid, Noise};
pub use loss_scale::LossScale;
pub use masking::{mask_exactly, q_xt};
pub use noise::{NoiseConfig, NoiseKind};
pub use schedule::Schedule;
pub use times::{sample_times, stratified};
