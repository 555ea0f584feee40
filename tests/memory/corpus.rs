//! Tokenising shards into a cache, and training from it, takes memory that does not grow with the text.

use std::path::Path;
use std::sync::Arc;

use mdlm::Corpus;
use mdlm::config::DataConfig;
use mdlm::data::Loader;
use mdlm::progress::Silent;

use crate::alone;
use crate::heap::peak;

const SHARDS: usize = 4;

/// Writes shards of as many documents each and reads them; their bytes, and those that the heap grew by.
fn read(dir: &Path, documents: usize) -> (usize, usize) {
    let folder = dir.join("text");
    std::fs::create_dir_all(&folder).unwrap();
    let mut bytes = 0;
    for shard in 0..SHARDS {
        let text: String = (0..documents)
            .map(|i| {
                format!(
                    "document {i} of shard {shard} {}\n",
                    "of many words ".repeat(20)
                )
            })
            .collect();
        bytes += text.len();
        std::fs::write(folder.join(format!("{shard}.lines")), text).unwrap();
    }
    let data = DataConfig {
        train: folder.to_str().unwrap().to_owned(),
        tokenizer: "byte".to_owned(),
        cache: dir.join("cache").to_str().unwrap().to_owned(),
        ..DataConfig::default()
    };
    let (count, most) = peak(|| {
        let corpus = Corpus::load(&data, 64, &mut Silent).unwrap();
        let mut loader = Loader::new(Arc::clone(&corpus.train), 1, 32);
        let (mut ids, mut counts) = (Vec::new(), Vec::new());
        for step in 0..50 {
            loader.batch(step, &mut ids, &mut counts).unwrap();
        }
        corpus.train.count()
    });
    assert!(count * 64 > bytes * 8 / 10);
    (bytes, most)
}

#[test]
fn a_corpus_takes_the_memory_of_its_documents_at_hand() {
    let _turn = alone();
    let [small, large] = [1_500, 9_000].map(|documents| {
        let dir = tempfile::tempdir().unwrap();
        read(dir.path(), documents)
    });
    println!("bytes of text and of heap: {small:?}, {large:?}");
    assert!(large.0 > 5 * small.0);
    // threads meet at other moments
    let bound = small.1 + small.1 / 2 + (1 << 20);
    assert!(large.1 < bound, "{small:?} {large:?}");
}
