//! Training: batches, the optimiser step, schedules, checkpoints and logs.

#[cfg(not(target_arch = "wasm32"))]
mod agree;
mod batches;
mod blame;
mod budget;
#[cfg(not(target_arch = "wasm32"))]
mod log;
#[cfg(not(target_arch = "wasm32"))]
mod picture;
#[cfg(not(target_arch = "wasm32"))]
mod run;
mod schedule;
mod session;
mod shared;
#[cfg(not(target_arch = "wasm32"))]
mod snapshot;
mod steps;
mod trainer;
mod validation;

pub use blame::first_not_finite;
pub use budget::Budget;
#[cfg(not(target_arch = "wasm32"))]
pub use log::{Row, read_log};
#[cfg(not(target_arch = "wasm32"))]
pub use run::Summary;
pub use schedule::{ema_decay, learning_rate};
pub use session::{StepOutcome, TrainSession, rule};
pub use trainer::Trainer;
