//! Where the tensors of a file lie.

use std::collections::HashSet;
use std::path::Path;

use super::Kind;
use crate::error::{Error, Result};

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// How its numbers lie.
    pub kind: Kind,
    /// First byte in the file.
    pub(super) start: u64,
    /// How many.
    pub(super) bytes: usize,
}

/// What a header says of a tensor.
pub(super) struct Entry {
    pub(super) name: String,
    /// Innermost first, as files have them.
    pub(super) extents: Vec<u64>,
    pub(super) code: u32,
    /// From where the data begins.
    pub(super) offset: u64,
}

/// Checks where tensors lie: behind the header, which ends at `start`, each at the next multiple of `align` behind the
/// one before it, and the last one at the end of the file.
pub(super) fn place(
    entries: Vec<Entry>,
    start: u64,
    align: u64,
    length: u64,
    path: &Path,
) -> Result<Vec<Tensor>> {
    let mut names = HashSet::new();
    let (mut end, mut tensors) = (start, Vec::with_capacity(entries.len()));
    for entry in entries {
        let name = entry.name.clone();
        let wrong = |problem: String| Error::checkpoint(path, Some(&name), problem);
        if !names.insert(name.clone()) {
            return Err(wrong("is there twice".into()));
        }
        let expected = end.next_multiple_of(align);
        if start.checked_add(entry.offset) != Some(expected) {
            return Err(wrong(format!(
                "lies at {}, not at {} where the one before it ends",
                entry.offset,
                expected - start
            )));
        }
        let tensor = tensor(entry, expected).map_err(wrong)?;
        end = expected + tensor.bytes as u64;
        if end > length {
            let problem = format!("the file has {length} bytes, it ends at {end}: truncated");
            return Err(wrong(problem));
        }
        tensors.push(tensor);
    }
    if length > end.next_multiple_of(align) {
        let problem = format!("too long: {length} bytes, the header says {end}");
        return Err(Error::checkpoint(path, None, problem));
    }
    Ok(tensors)
}

/// The tensor of an entry; the error is for people.
fn tensor(entry: Entry, start: u64) -> Result<Tensor, String> {
    let kind = Kind::of(entry.code)?;
    let (block, width) = kind.block();
    let shape: Option<Vec<usize>> = entry
        .extents
        .iter()
        .rev()
        .map(|&extent| usize::try_from(extent).ok())
        .collect();
    let count = shape
        .as_ref()
        .and_then(|shape| shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m)));
    let bytes = count.and_then(|n| (n / block).checked_mul(width));
    let (Some(shape), Some(bytes)) = (shape, bytes.filter(|&bytes| bytes < 1 << 48)) else {
        return Err(format!("{:?} elements cannot be", entry.extents));
    };
    if !shape.last().unwrap_or(&1).is_multiple_of(block) {
        let problem = format!(
            "has rows of {} numbers, {} has blocks of {block}",
            shape.last().unwrap_or(&1),
            kind.name()
        );
        return Err(problem);
    }
    Ok(Tensor {
        name: entry.name,
        shape,
        kind,
        start,
        bytes,
    })
}
