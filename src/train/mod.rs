//! Training: batches, the optimiser step, schedules, checkpoints and logs.

mod batches;
mod blame;
#[cfg(not(target_arch = "wasm32"))]
mod log;
#[cfg(not(target_arch = "wasm32"))]
mod picture;
#[cfg(not(target_arch = "wasm32"))]
mod run;
mod schedule;
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod snapshot;
mod steps;
mod trainer;

pub use blame::first_not_finite;
#[cfg(not(target_arch = "wasm32"))]
pub use log::{Row, read_log};
#[cfg(not(target_arch = "wasm32"))]
pub use run::Summary;
pub use schedule::{ema_decay, learning_rate};
pub use session::{StepOutcome, TrainSession, rule};
pub use trainer::Trainer;
