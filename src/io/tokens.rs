//! Tokenised blocks on disk (`*.tokens`), so that a corpus larger than memory can be trained on.
//!
//! Little-endian throughout: a header of 144 bytes, `count` blocks of `length` ids of 2 or 4 bytes
//! each and, if the header says so, `count` u32 with the number of leading tokens that count in each block.
//! The header ends with its own SHA-256 and the file has the size that it promises, so that a file that is
//! not ours, is of another version, was cut short or has a flipped bit in its header is refused when it is
//! opened. Ids are checked against the vocabulary when they are read.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::{atomic, read};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"mdlm.tok";
const VERSION: u32 = 1;
/// Bytes before the first block.
pub(crate) const HEADER: usize = 144;
/// Where the header's own digest begins.
const SIGNED: usize = HEADER - 32;

/// What a file says about its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensHeader {
    /// Ids are below it; up to 65536 they take 2 bytes each, else 4.
    pub vocab_size: usize,
    /// Tokens of a block.
    pub length: usize,
    /// Number of blocks.
    pub count: usize,
    /// Whether the blocks' attended lengths follow the ids.
    pub padded: bool,
    /// SHA-256 of the tokenizer's JSON.
    pub tokenizer: [u8; 32],
    /// Digest of the blocks, as their writer has computed it.
    pub blocks: [u8; 32],
}

impl TokensHeader {
    /// Bytes of an id.
    fn width(&self) -> usize {
        if self.vocab_size <= 1 << 16 { 2 } else { 4 }
    }

    /// Bytes of the file, or `None` where they cannot be counted.
    fn file_size(&self) -> Option<u64> {
        let block = (self.length as u64).checked_mul(self.width() as u64)?;
        let block = block.checked_add(if self.padded { 4 } else { 0 })?;
        block
            .checked_mul(self.count as u64)?
            .checked_add(HEADER as u64)
    }

    fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32::from(self.padded).to_le_bytes());
        for number in [self.vocab_size, self.length, self.count] {
            bytes.extend((number as u64).to_le_bytes());
        }
        // Room for what a later version may need.
        bytes.resize(SIGNED - 64, 0);
        bytes.extend(self.tokenizer);
        bytes.extend(self.blocks);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes);
        header
    }

    fn from_bytes(bytes: &[u8; HEADER]) -> Result<Self, String> {
        let (signed, digest) = bytes.split_at(SIGNED);
        if signed[..8] != MAGIC {
            return Err("not a file of tokens".to_owned());
        }
        let u32_at = |at: usize| {
            u32::from_le_bytes([signed[at], signed[at + 1], signed[at + 2], signed[at + 3]])
        };
        let version = u32_at(8);
        if version != VERSION {
            return Err(format!(
                "version {version}; this build reads version {VERSION}"
            ));
        }
        if Sha256::digest(signed).as_slice() != digest {
            return Err("damaged header".to_owned());
        }
        let number = |at: usize| {
            let value = u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
            usize::try_from(value).map_err(|_| format!("{value} is too large for this machine"))
        };
        let array = |at: usize| {
            let mut array = [0; 32];
            array.copy_from_slice(&signed[at..at + 32]);
            array
        };
        Ok(Self {
            vocab_size: number(16)?,
            length: number(24)?,
            count: number(32)?,
            padded: u32_at(12) != 0,
            tokenizer: array(SIGNED - 64),
            blocks: array(SIGNED - 32),
        })
    }
}

fn damaged(path: &Path, problem: String) -> Error {
    Error::corpus(path, format!("{problem}; delete it to have it made again"))
}

/// A file of tokens that is being written.
pub struct TokensWriter<'a> {
    out: BufWriter<&'a mut File>,
    path: &'a Path,
    header: TokensHeader,
    attended: Vec<u32>,
}

impl TokensWriter<'_> {
    /// Adds a block of the header's length.
    pub fn push(&mut self, ids: &[u32], attended: usize) -> Result<()> {
        if ids.len() != self.header.length {
            let (got, want) = (ids.len(), self.header.length);
            return Err(Error::Internal(format!(
                "a block of {got} tokens, not {want}"
            )));
        }
        self.header.count += 1;
        if self.header.padded {
            self.attended.push(attended as u32);
        }
        let narrow = self.header.width() == 2;
        for id in ids {
            let bytes = id.to_le_bytes();
            let part = if narrow { &bytes[..2] } else { &bytes };
            self.out
                .write_all(part)
                .map_err(Error::io(self.path, "write"))?;
        }
        Ok(())
    }

    /// Writes what follows the blocks, then the header over the room left for it.
    fn finish(mut self, blocks: [u8; 32]) -> Result<()> {
        self.header.blocks = blocks;
        let (out, header) = (&mut self.out, self.header.to_bytes());
        self.attended
            .iter()
            .try_for_each(|n| out.write_all(&n.to_le_bytes()))
            .and_then(|()| out.seek(SeekFrom::Start(0)))
            .and_then(|_| out.write_all(&header))
            .and_then(|()| out.flush())
            .map_err(Error::io(self.path, "write"))
    }
}

/// Writes a file that appears under its name whole or not at all. `fill` pushes the blocks and returns their
/// digest; `header` gives everything but their count and digest.
pub fn write(
    path: &Path,
    header: TokensHeader,
    fill: impl FnOnce(&mut TokensWriter<'_>) -> Result<[u8; 32]>,
) -> Result<()> {
    atomic::write_with(path, |file| {
        let header = TokensHeader { count: 0, ..header };
        file.write_all(&[0; HEADER])
            .map_err(Error::io(path, "write"))?;
        let mut writer = TokensWriter {
            out: BufWriter::with_capacity(1 << 16, file),
            path,
            header,
            attended: Vec::new(),
        };
        let digest = fill(&mut writer)?;
        writer.finish(digest)
    })
}

/// An open file of tokens. Blocks are read where they lie, one at a time; in memory are the attended lengths
/// alone, 4 bytes a block where there are any.
#[derive(Debug)]
pub struct TokensFile {
    path: PathBuf,
    header: TokensHeader,
    attended: Vec<u32>,
    /// `None`: opened for every block.
    file: Mutex<Option<File>>,
}

impl TokensFile {
    /// Opens a file and checks its header and size.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = read::open(path)?;
        let size = file.metadata().map_err(Error::io(path, "read"))?.len();
        let mut bytes = [0; HEADER];
        if size < HEADER as u64 {
            return Err(damaged(path, format!("{size} bytes are no file of tokens")));
        }
        file.read_exact(&mut bytes)
            .map_err(Error::io(path, "read"))?;
        let header = TokensHeader::from_bytes(&bytes).map_err(|p| damaged(path, p))?;
        if header.count == 0 || header.length == 0 || header.file_size() != Some(size) {
            let problem = format!(
                "{size} bytes, which is not the size of {} blocks of {}",
                header.count, header.length
            );
            return Err(damaged(path, problem));
        }
        let mut attended = Vec::new();
        if header.padded {
            let table = 4 * header.count;
            let mut bytes = vec![0; table];
            file.seek(SeekFrom::Start(size - table as u64))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(Error::io(path, "read"))?;
            let (words, _) = bytes.as_chunks::<4>();
            attended.extend(words.iter().map(|&word| u32::from_le_bytes(word)));
            let fits = |&n: &u32| n > 0 && n as usize <= header.length;
            if let Some(block) = attended.iter().position(|n| !fits(n)) {
                let problem = format!("block {block} claims {} tokens", attended[block]);
                return Err(damaged(path, problem));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            attended,
            file: Mutex::new(Some(file)),
        })
    }

    /// What the file says about its blocks.
    pub fn header(&self) -> &TokensHeader {
        &self.header
    }

    /// Leading tokens of a block that count.
    pub fn attended(&self, index: usize) -> usize {
        self.attended
            .get(index)
            .map_or(self.header.length, |&n| n as usize)
    }

    /// Lets go of the file, which is opened again for every block: of very many, a process may not have all open.
    pub fn close(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of one block, which must be below the header's count.
    pub fn block(&self, index: usize) -> Result<Vec<u32>> {
        let (length, width) = (self.header.length, self.header.width());
        let mut bytes = vec![0; length * width];
        let start = HEADER as u64 + index as u64 * bytes.len() as u64;
        {
            // The position is the file's, so that seeking and reading must not be torn apart.
            let mut kept = self.kept();
            let mut opened;
            let file = match &mut *kept {
                Some(file) => file,
                None => {
                    opened = read::open(&self.path)?;
                    &mut opened
                }
            };
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(Error::io(&self.path, "read"))?;
        }
        let ids: Vec<u32> = match width {
            2 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                let wide = |&pair| u32::from(u16::from_le_bytes(pair));
                pairs.iter().map(wide).collect()
            }
            _ => {
                let (quads, _) = bytes.as_chunks::<4>();
                quads.iter().map(|&quad| u32::from_le_bytes(quad)).collect()
            }
        };
        let vocab_size = self.header.vocab_size;
        match ids.iter().position(|&id| id as usize >= vocab_size) {
            None => Ok(ids),
            Some(place) => {
                let problem = format!(
                    "token {place} of block {index} is {}, not below the vocabulary size {vocab_size}",
                    ids[place]
                );
                Err(damaged(&self.path, problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(vocab_size: usize, padded: bool) -> TokensHeader {
        TokensHeader {
            vocab_size,
            length: 3,
            count: 0,
            padded,
            tokenizer: [7; 32],
            blocks: [0; 32],
        }
    }

    fn written(path: &Path, vocab_size: usize, padded: bool) {
        let top = vocab_size as u32 - 1;
        write(path, header(vocab_size, padded), |out| {
            out.push(&[0, 1, top], 3)?;
            out.push(&[2, top, 0], 2)?;
            Ok([9; 32])
        })
        .unwrap();
    }

    fn refused(result: Result<impl std::fmt::Debug>, part: &str) {
        match result {
            Err(Error::Corpus { path, problem }) => {
                assert!(path.ends_with("t.tokens"));
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blocks_come_back_in_either_width() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tokens");
        for (vocab_size, width) in [(5, 2), (1 << 16, 2), ((1 << 16) + 1, 4)] {
            for padded in [false, true] {
                written(&path, vocab_size, padded);
                let size = HEADER + 6 * width + if padded { 8 } else { 0 };
                assert_eq!(path.metadata().unwrap().len(), size as u64);
                let file = TokensFile::open(&path).unwrap();
                let expected = TokensHeader {
                    count: 2,
                    blocks: [9; 32],
                    ..header(vocab_size, padded)
                };
                assert_eq!(*file.header(), expected);
                let top = vocab_size as u32 - 1;
                assert_eq!(file.block(1).unwrap(), [2, top, 0]);
                assert_eq!(file.block(0).unwrap(), [0, 1, top]);
                file.close();
                assert_eq!(file.block(1).unwrap(), [2, top, 0]);
                let last = if padded { 2 } else { 3 };
                assert_eq!((file.attended(0), file.attended(1)), (3, last));
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tokens");
        written(&path, 5, true);
        let whole = std::fs::read(&path).unwrap();
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            TokensFile::open(&path)
        };
        for length in 0..whole.len() {
            assert!(open(&whole[..length]).is_err(), "{length} bytes pass");
        }
        for bit in 0..HEADER * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bytes).is_err(), "bit {bit} may be flipped");
        }
        refused(open(b"text"), "4 bytes");
        refused(open(&[0; 200]), "not a file of tokens");
        let mut bytes = whole.clone();
        bytes[8] = 9;
        refused(open(&bytes), "version 9; this build reads version 1");
        let mut bytes = whole.clone();
        let table = bytes.len() - 8;
        bytes[table] = 4;
        refused(open(&bytes), "block 0 claims 4 tokens");
        let mut bytes = whole;
        bytes[HEADER + 8] = 5;
        refused(
            open(&bytes).unwrap().block(1),
            "token 1 of block 1 is 5, not below the vocabulary size 5",
        );
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tokens");
        let failed = write(&path, header(5, false), |out| {
            out.push(&[0, 1, 2], 3)?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        let wrong = write(&path, header(5, false), |out| {
            out.push(&[0, 1], 2)?;
            Ok([0; 32])
        });
        assert!(matches!(wrong, Err(Error::Internal(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
