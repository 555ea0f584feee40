//! The noise process as plain functions of numbers: schedule, times, masking.

mod masking;
mod noise;
mod schedule;
mod times;

pub use masking::{mask_exactly, q_xt};
pub use noise::{NoiseConfig, NoiseKind};
pub use schedule::Schedule;
pub use times::{sample_times, stratified};
