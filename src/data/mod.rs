//! From text to batches: tokenizers, documents, packed blocks, and a loader whose batches are a
//! pure function of the step.

mod corpus;
mod huggingface;
mod loader;
mod pack;
mod prefetch;
mod text8;
mod tokenizer;

pub use corpus::{Corpus, SEPARATOR, split_documents, split_held_out};
pub use loader::Loader;
pub use pack::{Blocks, Unigram};
pub use prefetch::Prefetch;
pub use tokenizer::Tokenizer;
