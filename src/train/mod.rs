//! Training: batches, the optimiser step, schedules, checkpoints and logs.

mod batch;
mod schedule;
mod session;

pub use batch::Batch;
pub use schedule::{ema_decay, learning_rate};
pub use session::{StepOutcome, TrainSession};
