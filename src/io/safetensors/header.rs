//! What stands at the head of a file: which tensors it holds, and where. Checked before any value is read.

use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::io::files::Source;

/// A tensor of a file.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Where its bytes begin and end, counted from the end of the header; 64 bits also where memory has 32.
    data_offsets: (u64, u64),
}

/// What a header lists. Nothing else of it is kept, however much it says.
struct Listed(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(header: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Listed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "__metadata__" => drop(map.next_value::<IgnoredAny>()?),
                        _ => tensors.push((name, map.next_value()?)),
                    }
                }
                Ok(Listed(tensors))
            }
        }
        header.deserialize_map(Tensors)
    }
}

/// The tensors of a file, in the order of their bytes.
pub(super) struct Header {
    pub(super) tensors: Vec<(String, Entry)>,
    /// First byte of the data.
    data: u64,
}

impl Header {
    /// Reads and checks what stands at the head of a file; `path` stands for it in errors.
    pub(super) async fn read(source: &mut impl Source, path: &Path) -> Result<Self> {
        let damaged = |problem: String| Error::checkpoint(path, None, problem);
        let size = source.size();
        let Some(after_length) = size.checked_sub(8) else {
            return Err(damaged(format!("truncated: {size} bytes")));
        };
        let mut length = [0; 8];
        source.read_at(0, &mut length).await?;
        if &length == b"version " {
            let problem = "is a pointer of Git LFS: fetch the file that it stands for";
            return Err(damaged(problem.to_owned()));
        }
        if length.trim_ascii_start().starts_with(b"<") && length[7] != 0 {
            return Err(damaged(
                "is a web page, no weights: download the file itself".to_owned(),
            ));
        }
        let length = u64::from_le_bytes(length);
        if length > after_length {
            return Err(damaged(format!(
                "truncated in its header of {length} bytes"
            )));
        }
        // A header says little about a tensor; this leaves room for a thousand small ones.
        let limit = (1 << 20) + size / 100;
        if length > limit {
            return Err(damaged(format!(
                "a header of {length} bytes; at most {limit} are read"
            )));
        }
        let mut header = vec![0; length as usize];
        source.read_at(8, &mut header).await?;
        let bad = |problem: String| damaged(format!("bad header: {problem}"));
        let Listed(mut tensors) =
            serde_json::from_slice(&header).map_err(|e| bad(e.to_string()))?;
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(bad(format!("{} is there twice", pair[0].0)));
        }
        tensors.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        for (name, entry) in &tensors {
            let (from, to) = entry.data_offsets;
            if from != end || Some(to) != entry.bytes().and_then(|bytes| from.checked_add(bytes)) {
                return Err(bad(format!("the place of {name} cannot be")));
            }
            end = to;
        }
        let data = 8 + length;
        let promised = data.saturating_add(end);
        if promised != size {
            let what = if size < promised {
                "truncated"
            } else {
                "too long"
            };
            return Err(damaged(format!(
                "{what}: {size} bytes, the header says {promised}"
            )));
        }
        Ok(Self { tensors, data })
    }

    /// The tensor of that name.
    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        let found = self.tensors.iter().find(|(known, _)| known == name);
        found.map(|(_, entry)| entry)
    }

    /// First byte of a tensor in the file.
    pub(super) fn begin(&self, entry: &Entry) -> u64 {
        self.data + entry.data_offsets.0
    }
}

impl Entry {
    /// Bytes that its type and shape ask for, if that many can be.
    fn bytes(&self) -> Option<u64> {
        let bits = self
            .shape
            .iter()
            .try_fold(self.dtype.bitsize() as u64, |bits, &extent| {
                bits.checked_mul(extent as u64)
            })?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}
