//! Evaluation on held-out text.

mod counts;
mod evaluator;
mod perplexity;

pub use evaluator::{EvalConfig, EvalMode, Evaluator};
pub use perplexity::Perplexity;
