//! Evaluation on held-out text.

mod perplexity;

pub use perplexity::{Evaluator, Perplexity};
