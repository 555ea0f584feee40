//! Evaluation on held-out text.

mod counts;
mod evaluator;
#[cfg(not(target_arch = "wasm32"))]
mod generative;
mod perplexity;
mod strata;
mod text;

pub use evaluator::{EvalConfig, EvalMode, Evaluator, perplexity};
#[cfg(not(target_arch = "wasm32"))]
pub use generative::Judge;
pub use perplexity::Perplexity;
pub use text::{distinct_n, unigram_entropy};
