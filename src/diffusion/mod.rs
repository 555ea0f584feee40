//! The forward process as plain functions of numbers: schedule, times, masking, loss weights.

mod forward;
mod objective;
mod schedule;
mod time;

pub use forward::{Noised, mask_exactly, q_xt};
pub use objective::{Clean, Objective, attention_mask};
pub use schedule::Schedule;
pub use time::{sample_times, stratified};
