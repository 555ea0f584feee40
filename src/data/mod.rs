//! From text to batches: tokenizers, documents, packed blocks, and a loader whose batches are a
//! pure function of the step.
//!
//! A file's name says how documents lie in it:
//!
//! | name | documents |
//! | --- | --- |
//! | `.jsonl`, `.ndjson`, `.json` | a JSON object a line, of which `data.field` is the text |
//! | `.parquet` | rows, of which the column `data.field` is the text (cargo feature `parquet`) |
//! | `.raw` | a document a line with its line ending, blank lines empty: WikiText's rows |
//! | `.lines` | a document a line, the white space around it and blank lines dropped |
//! | any other | text whose documents end at a line `<|endoftext|>`, blank ones dropped |
//!
//! All but Parquet may be packed with gzip (`.jsonl.gz`) or zstd (`.jsonl.zst`).
//!
//! A text may lie in many such files: `data.train` names a folder or a pattern (`part-*.jsonl.zst`), or `data.sources`
//! several files, folders and patterns, which `data.weights` mixes. Files are tokenised side by side. The order of their
//! blocks takes no table: a block's place is a function of seed, epoch and number, and so is the source of a sequence.

mod blocks;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
#[cfg(not(target_arch = "wasm32"))]
mod chat;
mod corpus;
mod decode;
mod detokenize;
#[cfg(not(target_arch = "wasm32"))]
mod documents;
mod from_files;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod gguf;
mod huggingface;
mod loader;
mod marked;
#[cfg(not(target_arch = "wasm32"))]
mod mixture;
mod oniguruma;
mod origin;
mod pack;
#[cfg(not(target_arch = "wasm32"))]
mod pairs;
#[cfg(not(target_arch = "wasm32"))]
mod parallel;
#[cfg(all(feature = "parquet", not(target_arch = "wasm32")))]
mod parquet;
#[cfg(not(target_arch = "wasm32"))]
mod permutation;
mod prefetch;
#[cfg(not(target_arch = "wasm32"))]
mod shards;
#[cfg(not(target_arch = "wasm32"))]
mod source;
mod special;
mod split;
#[cfg(not(target_arch = "wasm32"))]
mod text;
mod text8;
mod tokenizer;
mod unigram;
mod vocabulary;

pub use blocks::Blocks;
#[cfg(not(target_arch = "wasm32"))]
pub use blocks::Portion;
#[cfg(not(target_arch = "wasm32"))]
pub use chat::{ChatTemplate, Message};
pub use corpus::Corpus;
#[cfg(not(target_arch = "wasm32"))]
pub use documents::Documents;
pub use loader::Loader;
pub use pack::Packing;
pub use prefetch::Prefetch;
#[cfg(not(target_arch = "wasm32"))]
pub use source::EvalData;
pub use special::SpecialNames;
pub use split::{SEPARATOR, split_documents, split_held_out};
pub use tokenizer::Tokenizer;
pub use unigram::Unigram;
pub use vocabulary::Vocabulary;

#[cfg(test)]
mod tests {
    //! What the tests of sources share.

    use std::path::Path;

    use super::Corpus;
    use crate::config::DataConfig;
    use crate::progress::Silent;

    /// A configuration on a file with that content.
    pub(super) fn config(dir: &Path, name: &str, content: &str) -> DataConfig {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        DataConfig {
            train: path.to_str().unwrap().to_owned(),
            tokenizer: "char".to_owned(),
            ..DataConfig::default()
        }
    }

    /// Its corpus, in blocks of 8 tokens.
    pub(super) fn load(config: &DataConfig) -> Corpus {
        Corpus::load(config, 8, &mut Silent).unwrap()
    }
}
