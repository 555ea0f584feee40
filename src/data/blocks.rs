//! Token ids in blocks of equal length, in memory, in a file, or in many of either.

use std::borrow::Cow;
#[cfg(not(target_arch = "wasm32"))]
use std::ops::Range;

use sha2::{Digest, Sha256};

#[cfg(not(target_arch = "wasm32"))]
use super::permutation::Permutation;
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::tokens::TokensFile;
#[cfg(not(target_arch = "wasm32"))]
use crate::rng::{Stream, stream_key};

/// Token ids in blocks of equal length.
#[derive(Clone, Debug)]
pub struct Blocks {
    length: usize,
    count: usize,
    digest: [u8; 32],
    store: Store,
    /// Characters of each block's text; empty: not counted.
    characters: Vec<u32>,
    /// Leading tokens of each block that are given; empty: none.
    given: Vec<u32>,
}

#[derive(Clone, Debug)]
enum Store {
    Memory {
        ids: Vec<u32>, // [n, length]
        /// Leading tokens that count in each block; empty: all of them.
        attended: Vec<u32>,
    },
    #[cfg(not(target_arch = "wasm32"))]
    Disk(std::sync::Arc<TokensFile>),
    #[cfg(not(target_arch = "wasm32"))]
    Joined(std::sync::Arc<Joined>),
}

/// Blocks of several files behind each other.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
struct Joined {
    parts: Vec<Blocks>,
    /// Where each part ends.
    ends: Vec<usize>,
    portions: Vec<Portion>,
    /// The order in which they are numbered, if it is another.
    order: Option<Permutation>,
}

/// A source's share of joined blocks.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Debug, PartialEq)]
pub struct Portion {
    /// How often it comes, beside the others.
    pub weight: f64,
    /// Its blocks.
    pub blocks: Range<usize>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Joined {
    /// The part that holds a block, and the block's number there.
    fn find(&self, index: usize) -> (&Blocks, usize) {
        let index = match &self.order {
            None => index,
            Some(order) => order.at(index as u64) as usize,
        };
        let part = self.ends.partition_point(|&end| end <= index);
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        (&self.parts[part], index - start)
    }
}

/// Blocks are equal if their digests are, wherever they lie.
impl PartialEq for Blocks {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Blocks {
    /// Takes `ids` as consecutive blocks of `length`, every id below `vocab_size`.
    pub fn new(length: usize, ids: Vec<u32>, vocab_size: usize) -> Result<Self> {
        Self::padded(length, ids, Vec::new(), vocab_size)
    }

    /// As [`Blocks::new`], of which only the first `attended[i]` tokens of block `i` count; the rest is
    /// padding. An empty `attended` means that all tokens count.
    pub fn padded(
        length: usize,
        ids: Vec<u32>,
        attended: Vec<u32>,
        vocab_size: usize,
    ) -> Result<Self> {
        let count = ids.len().checked_div(length).unwrap_or(0);
        if count == 0 || !ids.len().is_multiple_of(length) {
            return Err(Error::Shape {
                op: "blocks",
                tensor: "ids".to_owned(),
                expected: format!("[n, {length}] with n > 0"),
                got: vec![ids.len()],
            });
        }
        if let Some(position) = ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(Error::Token {
                id: ids[position],
                vocab_size,
                position,
            });
        }
        let fits = |&n: &u32| n > 0 && n as usize <= length;
        if !attended.is_empty() && (attended.len() != count || !attended.iter().all(fits)) {
            return Err(Error::Shape {
                op: "blocks",
                tensor: "attended".to_owned(),
                expected: format!("[{count}] lengths in 1..={length}"),
                got: vec![attended.len()],
            });
        }
        let mut hash = BlockHash::new(length);
        for (index, block) in ids.chunks_exact(length).enumerate() {
            hash.push(block, attended.get(index).map_or(length, |&n| n as usize));
        }
        Ok(Self {
            length,
            count,
            digest: hash.finish(),
            store: Store::Memory { ids, attended },
            characters: Vec::new(),
            given: Vec::new(),
        })
    }

    /// The blocks of an open file, which are read when they are asked for.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn on_disk(file: TokensFile) -> Self {
        let header = file.header();
        Self {
            length: header.length,
            count: header.count,
            digest: header.blocks,
            store: Store::Disk(std::sync::Arc::new(file)),
            characters: Vec::new(),
            given: Vec::new(),
        }
    }

    /// The blocks of sources behind each other, each with its weight, or `mixed`, so that the first ones are of all of
    /// them. There must be some in each source, all of one length.
    ///
    /// # Errors
    /// [`Error::Internal`] unless there are.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn joined(sources: Vec<(f64, Vec<Self>)>, mixed: bool) -> Result<Self> {
        let (mut hash, mut count) = (Sha256::new(), 0);
        hash.update([u8::from(mixed)]);
        let (mut ends, mut portions, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let length = sources.iter().flat_map(|(_, parts)| parts).next();
        let length = length.map_or(0, Self::length);
        for (weight, parts) in sources {
            hash.update(weight.to_le_bytes());
            hash.update((parts.len() as u64).to_le_bytes());
            let start = count;
            for part in &parts {
                hash.update(part.digest);
                count += part.count;
                ends.push(count);
            }
            if start == count || parts.iter().any(|part| part.length != length) {
                return Err(Error::Internal("blocks that cannot be joined".into()));
            }
            let blocks = start..count;
            portions.push(Portion { weight, blocks });
            all.extend(parts);
        }
        if count == 0 {
            return Err(Error::Internal("no blocks to join".into()));
        }
        let joined = match mixed {
            false => Joined {
                parts: all,
                ends,
                portions,
                order: None,
            },
            true => Joined {
                parts: all,
                ends,
                portions: Vec::new(),
                order: Some(Permutation::new(
                    stream_key(0, Stream::Order, 0),
                    count as u64,
                )),
            },
        };
        Ok(Self {
            length,
            count,
            digest: hash.finalize().into(),
            store: Store::Joined(std::sync::Arc::new(joined)),
            characters: Vec::new(),
            given: Vec::new(),
        })
    }

    /// The sources that blocks are joined of, with what they weigh; none if they are of one text.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn portions(&self) -> &[Portion] {
        match &self.store {
            Store::Joined(joined) => &joined.portions,
            _ => &[],
        }
    }

    /// Closes the file of blocks on disk, which is opened again for every block.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn close(&self) {
        if let Store::Disk(file) = &self.store {
            file.close();
        }
    }

    /// Says how many leading tokens of each block are given: a prompt, which is never masked and has no loss.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn with_given(mut self, given: Vec<u32>) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.digest);
        hash.update(
            given
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect::<Vec<u8>>(),
        );
        self.digest = hash.finalize().into();
        self.given = given;
        self
    }

    /// How many leading tokens of a block are given.
    pub fn given(&self, index: usize) -> usize {
        self.given.get(index).map_or(0, |&n| n as usize)
    }

    /// Keeps how many characters each block's text has.
    pub(super) fn with_characters(mut self, characters: Vec<u32>) -> Self {
        self.characters = characters;
        self
    }

    /// Tokens of a block.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of blocks; at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// SHA-256 over length, ids, attended lengths and given ones, the same in memory and on disk.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The ids of one block. `index` must be below [`Blocks::count`].
    ///
    /// # Errors
    /// Those of reading a file: [`Error::Io`], [`Error::Corpus`] for an id outside the vocabulary.
    pub fn block(&self, index: usize) -> Result<Cow<'_, [u32]>> {
        match &self.store {
            Store::Memory { ids, .. } => {
                Ok(Cow::Borrowed(&ids[index * self.length..][..self.length]))
            }
            #[cfg(not(target_arch = "wasm32"))]
            Store::Disk(file) => file.block(index).map(Cow::Owned),
            #[cfg(not(target_arch = "wasm32"))]
            Store::Joined(joined) => {
                let (part, index) = joined.find(index);
                part.block(index)
            }
        }
    }

    /// How many characters of the documents a block's tokens stand for, where they were counted: in evaluation sets.
    /// A character of several tokens is counted with the first.
    pub fn characters(&self, index: usize) -> Option<usize> {
        self.characters.get(index).map(|&n| n as usize)
    }

    /// How many leading tokens of a block count: all of them in wrapped text, else those of the document
    /// with its BOS and EOS, without the padding. It is the sum of the reference's `attention_mask`.
    pub fn attended(&self, index: usize) -> usize {
        match &self.store {
            Store::Memory { attended, .. } => {
                attended.get(index).map_or(self.length, |&n| n as usize)
            }
            #[cfg(not(target_arch = "wasm32"))]
            Store::Disk(file) => file.attended(index),
            #[cfg(not(target_arch = "wasm32"))]
            Store::Joined(joined) => {
                let (part, index) = joined.find(index);
                part.attended(index)
            }
        }
    }
}

/// The digest of blocks that come one after the other.
pub(super) struct BlockHash {
    hash: Sha256,
    length: usize,
    bytes: Vec<u8>,
}

impl BlockHash {
    pub(super) fn new(length: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update((length as u64).to_le_bytes());
        Self {
            hash,
            length,
            bytes: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, ids: &[u32], attended: usize) {
        self.bytes.clear();
        self.bytes
            .extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        if attended < self.length {
            // Cannot be taken for ids: no vocabulary reaches that far.
            self.bytes.extend(u32::MAX.to_le_bytes());
            self.bytes.extend((attended as u32).to_le_bytes());
        }
        self.hash.update(&self.bytes);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_blocks_is_named() {
        let outside = Blocks::new(2, vec![0, 1, 2, 5], 5);
        assert!(matches!(
            outside,
            Err(Error::Token {
                id: 5,
                position: 3,
                ..
            })
        ));
        for (length, ids) in [(3, 2), (0, 2), (2, 0)] {
            let torn = Blocks::new(length, vec![0; ids], 5);
            assert!(matches!(torn, Err(Error::Shape { tensor, .. }) if tensor == "ids"));
        }
        for attended in [vec![1], vec![1, 0], vec![1, 3]] {
            let wrong = Blocks::padded(2, vec![0; 4], attended, 5);
            assert!(matches!(wrong, Err(Error::Shape { tensor, .. }) if tensor == "attended"));
        }
    }

    #[test]
    fn the_digest_sees_ids_length_and_padding() {
        let digest = |length, ids: &[u32], attended: &[u32]| {
            Blocks::padded(length, ids.to_vec(), attended.to_vec(), 9)
                .unwrap()
                .digest()
        };
        let first = digest(2, &[0, 1, 2, 3], &[]);
        assert_eq!(first, digest(2, &[0, 1, 2, 3], &[2, 2]));
        assert_ne!(first, digest(2, &[0, 1, 2, 4], &[]));
        assert_ne!(first, digest(4, &[0, 1, 2, 3], &[]));
        assert_ne!(first, digest(2, &[0, 1, 2, 3], &[2, 1]));
        assert_ne!(
            digest(2, &[0, 1, 2, 3], &[1, 2]),
            digest(2, &[0, 1, 2, 3], &[2, 1])
        );
    }

    #[test]
    fn joined_blocks_are_those_of_their_parts() {
        let part = |ids: &[u32]| Blocks::new(2, ids.to_vec(), 9).unwrap();
        let short = Blocks::padded(2, vec![7, 8], vec![1], 9).unwrap();
        let sources = |weight| {
            vec![
                (weight, vec![part(&[0, 1, 2, 3]), short.clone()]),
                (1.0, vec![part(&[4, 5])]),
            ]
        };
        let joined = Blocks::joined(sources(2.0), false).unwrap();
        let all = |blocks: &Blocks| -> Vec<Vec<u32>> {
            (0..blocks.count())
                .map(|i| blocks.block(i).unwrap().into_owned())
                .collect()
        };
        assert_eq!(all(&joined), [[0, 1], [2, 3], [7, 8], [4, 5]]);
        assert_eq!([1, 2, 3].map(|i| joined.attended(i)), [2, 1, 2]);
        let portion = |weight, blocks| Portion { weight, blocks };
        assert_eq!(joined.portions(), [portion(2.0, 0..3), portion(1.0, 3..4)]);
        assert_ne!(joined, Blocks::joined(sources(3.0), false).unwrap());
        let mixed = Blocks::joined(sources(2.0), true).unwrap();
        assert!(mixed != joined && mixed.portions().is_empty());
        let mut mixed = all(&mixed);
        mixed.sort();
        assert_eq!(mixed, [[0, 1], [2, 3], [4, 5], [7, 8]]);
        for bad in [
            vec![],
            vec![(1.0, vec![])],
            vec![(1.0, vec![part(&[0, 1])]), (1.0, vec![])],
        ] {
            assert!(matches!(
                Blocks::joined(bad, false),
                Err(Error::Internal(_))
            ));
        }
    }

    #[test]
    fn padding_does_not_count() {
        let blocks = Blocks::padded(3, vec![1, 2, 0, 1, 2, 3], vec![2, 3], 4).unwrap();
        assert_eq!((blocks.attended(0), blocks.attended(1)), (2, 3));
        assert_eq!(*blocks.block(0).unwrap(), [1, 2, 0]);
        let whole = Blocks::new(3, vec![1, 2, 0], 4).unwrap();
        assert_eq!(whole.attended(0), 3);
    }
}
