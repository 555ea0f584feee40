//! Reading a header within limits: nothing is allocated that the file has no bytes for.

use std::io::Read;
use std::path::Path;

use super::metadata::{Metadata, Value};
use super::tensors::{Entry, Tensor, place};
use crate::error::{Error, Result};

/// How a file begins.
const MAGIC: [u8; 4] = *b"GGUF";
/// Versions that are read; they differ in nothing that matters here.
const VERSIONS: [u32; 2] = [2, 3];
/// Most bytes before the tensors' data.
const MAX_HEADER: u64 = 128 << 20;
/// Most keys.
const MAX_KEYS: u64 = 1 << 12;
/// Most tensors.
const MAX_TENSORS: u64 = 1 << 15;
/// Longest name of a key or a tensor, bytes.
const MAX_NAME: u64 = 256;
/// Longest text, bytes.
const MAX_TEXT: u64 = 1 << 22;
/// Most values of all lists together.
const MAX_VALUES: u64 = 1 << 21;
/// Most extents of a tensor.
const MAX_EXTENTS: u32 = 4;
/// Largest alignment.
const MAX_ALIGN: u64 = 1 << 16;

/// Reads what stands before the data of a file of `length` bytes; `path` stands in errors.
///
/// # Errors
/// [`Error::Checkpoint`] that names the key or tensor that cannot be; [`Error::Io`].
pub fn read(source: impl Read, length: u64, path: &Path) -> Result<(Metadata, Vec<Tensor>)> {
    let mut h = Header {
        source,
        length,
        at: 0,
        values: 0,
        path,
    };
    if h.bytes::<4>("its first bytes")? != MAGIC {
        return Err(h.damaged("is no GGUF file".into()));
    }
    let version = h.u32("the version")?;
    if !VERSIONS.contains(&version) {
        let what = match VERSIONS.contains(&version.swap_bytes()) {
            true => "is written for big-endian machines: convert it".to_owned(),
            false => format!("is of version {version}; 2 and 3 are read"),
        };
        return Err(h.damaged(what));
    }
    let tensors = h.count("tensors", MAX_TENSORS, 8 + 4 + 4 + 8)?;
    let keys = h.count("keys", MAX_KEYS, 8 + 4 + 1)?;
    let mut metadata = Metadata::new(path);
    for _ in 0..keys {
        let key = h.text("the name of a key", MAX_NAME)?;
        let kind = h.u32(&key)?;
        let value = h.value(&key, kind, true)?;
        if metadata.values.insert(key.clone(), value).is_some() {
            return Err(h.damaged(format!("{key} is there twice")));
        }
    }
    let align = align(&metadata)?;
    let mut entries = Vec::with_capacity(tensors as usize);
    for _ in 0..tensors {
        entries.push(h.entry()?);
    }
    let start = h.at.next_multiple_of(align);
    let tensors = place(entries, start, align, length, path)?;
    Ok((metadata, tensors))
}

fn align(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let align = metadata.whole(KEY)?.unwrap_or(32) as u64;
    if !align.is_power_of_two() || align > MAX_ALIGN {
        let problem = format!("{KEY} is {align}, expected a power of two up to {MAX_ALIGN}");
        return Err(metadata.damaged(problem));
    }
    Ok(align)
}

struct Header<'a, R> {
    source: R,
    /// Bytes of the file.
    length: u64,
    /// Bytes that were read.
    at: u64,
    /// Values of lists that were read.
    values: u64,
    path: &'a Path,
}

impl<R: Read> Header<'_, R> {
    fn damaged(&self, problem: String) -> Error {
        Error::checkpoint(self.path, None, problem)
    }

    /// An error unless the file has that many bytes more, within the limit of a header.
    fn expect(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes > self.length - self.at {
            let problem = format!("truncated: {} bytes end in {what}", self.length);
            return Err(self.damaged(problem));
        }
        if bytes > MAX_HEADER - self.at {
            let problem = format!("a header of more than {MAX_HEADER} bytes, at {what}");
            return Err(self.damaged(problem));
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        self.expect(buffer.len() as u64, what)?;
        let read = self.source.read_exact(buffer);
        read.map_err(Error::io(self.path, "read"))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut buffer = [0; N];
        self.fill(&mut buffer, what)?;
        Ok(buffer)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A number of things that take `least` bytes each at least.
    fn count(&mut self, what: &str, limit: u64, least: u64) -> Result<u64> {
        let count = self.u64(&format!("the number of {what}"))?;
        if count > limit {
            let problem = format!("{count} {what}; at most {limit} are read");
            return Err(self.damaged(problem));
        }
        self.expect(count * least, what)?;
        Ok(count)
    }

    fn text(&mut self, what: &str, limit: u64) -> Result<String> {
        let length = self.u64(what)?;
        if length > limit {
            let problem = format!("{what}: {length} bytes of text; at most {limit} are read");
            return Err(self.damaged(problem));
        }
        self.expect(length, what)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(format!("{what}: not UTF-8")))
    }

    /// The value of a key, of the type of that number.
    fn value(&mut self, key: &str, kind: u32, lists: bool) -> Result<Value> {
        Ok(match kind {
            0 => Value::Whole(self.bytes::<1>(key)?[0].into()),
            1 => Value::Whole(i8::from_le_bytes(self.bytes(key)?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.bytes(key)?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.bytes(key)?).into()),
            4 => Value::Whole(self.u32(key)?.into()),
            5 => Value::Whole(i32::from_le_bytes(self.bytes(key)?).into()),
            6 => Value::Number(f32::from_le_bytes(self.bytes(key)?).into()),
            7 => match self.bytes::<1>(key)? {
                [byte @ (0 | 1)] => Value::Flag(byte == 1),
                [byte] => return Err(self.damaged(format!("{key} is {byte}, neither 0 nor 1"))),
            },
            8 => Value::Text(self.text(key, MAX_TEXT)?),
            9 if lists => self.list(key)?,
            9 => return Err(self.damaged(format!("{key} is a list of lists, which is not read"))),
            10 => Value::Whole(self.u64(key)?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.bytes(key)?).into()),
            12 => Value::Number(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(self.damaged(format!("{key} has a value of type {other}"))),
        })
    }

    fn list(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(key)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            _ => 8,
        };
        let what = format!("values of {key}");
        let count = self.count(&what, MAX_VALUES - self.values, least)?;
        self.values += count;
        let mut values = Vec::with_capacity(count as usize);
        for _ in 0..count {
            values.push(self.value(key, kind, false)?);
        }
        Ok(Value::List(values))
    }

    fn entry(&mut self) -> Result<Entry> {
        let name = self.text("the name of a tensor", MAX_NAME)?;
        let what = format!("what is said of tensor {name}");
        let count = self.u32(&what)?;
        if count > MAX_EXTENTS {
            let problem = format!("has {count} extents; at most {MAX_EXTENTS} are read");
            return Err(Error::checkpoint(self.path, Some(&name), problem));
        }
        let mut extents = Vec::with_capacity(count as usize);
        for _ in 0..count {
            extents.push(self.u64(&what)?);
        }
        Ok(Entry {
            name,
            extents,
            code: self.u32(&what)?,
            offset: self.u64(&what)?,
        })
    }
}
