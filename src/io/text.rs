//! Text files: UTF-8, with a byte order mark or without, and UTF-16 with one. Files of other kinds are told by how
//! they begin.

use std::io::{BufRead, BufReader, Cursor, Error as IoError, ErrorKind, Read, Result as IoResult};
use std::path::Path;

use super::read;
use crate::error::{Error, Result};

/// How files begin that are no text, and what they are.
const KINDS: [(&[u8], &str); 17] = [
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (
        b"PK\x03\x04",
        "a ZIP archive (an office document is one, too)",
    ),
    (b"\xD0\xCF\x11\xE0", "an office document"),
    (b"\x1f\x8b", "packed with gzip twice"),
    (b"\x28\xB5\x2F\xFD", "packed with zstd twice"),
    (
        b"\xFD7zXZ",
        "packed with xz: unpack it, or pack it with zstd",
    ),
    (b"BZh", "packed with bzip2: unpack it, or pack it with zstd"),
    (b"7z\xBC\xAF", "a 7z archive"),
    (b"PAR1", "Parquet: give it a name that ends with .parquet"),
    (
        b"ARROW1",
        "an Arrow file: convert it to Parquet or JSON lines",
    ),
    (b"\x89PNG", "a picture"),
    (b"\xFF\xD8\xFF", "a picture"),
    (b"GIF8", "a picture"),
    (b"SQLite format", "a database"),
    (b"mdlm.tok", "a file of tokens"),
    (b"\x7FELF", "a program"),
];
/// Bytes that are looked at.
const LOOKED_AT: u64 = 16;

/// Opens a text file, packed with gzip or zstd or plain; what comes out is UTF-8 if the file is.
///
/// # Errors
/// [`Error::Io`]; [`Error::Corpus`] for what is empty or begins like a file of another kind.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let mut source = read::open_unpacked(path)?;
    let mut start = Vec::new();
    let looked = source.by_ref().take(LOOKED_AT).read_to_end(&mut start);
    looked.map_err(Error::io(path, "read"))?;
    if start.is_empty() {
        return Err(Error::corpus(path, "the file is empty"));
    }
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| start.starts_with(magic)) {
        let problem = match std::str::from_utf8(&start) {
            Err(e) if e.error_len().is_some() => {
                format!("not UTF-8 at byte {}: it is {kind}", e.valid_up_to())
            }
            _ => format!("is no text but {kind}"),
        };
        return Err(Error::corpus(path, problem));
    }
    let marks: [(&[u8], Mark); 5] = [
        (&[0xEF, 0xBB, 0xBF], Mark::Utf8),
        (&[0xFF, 0xFE, 0, 0], Mark::Utf32),
        (&[0, 0, 0xFE, 0xFF], Mark::Utf32),
        (&[0xFF, 0xFE], Mark::Utf16(u16::from_le_bytes)),
        (&[0xFE, 0xFF], Mark::Utf16(u16::from_be_bytes)),
    ];
    let (length, mark) = marks
        .into_iter()
        .find(|(mark, _)| start.starts_with(mark))
        .map_or((0, Mark::Utf8), |(bytes, mark)| (bytes.len(), mark));
    let rest = Cursor::new(start.split_off(length)).chain(source);
    match mark {
        Mark::Utf8 => Ok(Box::new(rest)),
        Mark::Utf16(unit) => Ok(Box::new(BufReader::new(Utf16 {
            source: rest,
            unit,
            offset: length as u64,
            text: Vec::new(),
            given: 0,
        }))),
        Mark::Utf32 => Err(Error::corpus(path, "is UTF-32: save it as UTF-8")),
    }
}

/// What a byte order mark says.
enum Mark {
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
    Utf32,
}

/// UTF-16 as UTF-8.
struct Utf16<R> {
    source: R,
    unit: fn([u8; 2]) -> u16,
    /// Bytes read.
    offset: u64,
    /// Converted text, of which `given` bytes were handed out.
    text: Vec<u8>,
    given: usize,
}

impl<R: Read> Utf16<R> {
    fn broken(&self) -> IoError {
        let problem = format!("not UTF-16 at byte {}", self.offset);
        IoError::new(ErrorKind::InvalidData, problem)
    }

    /// Converts some more.
    fn fill(&mut self) -> IoResult<()> {
        self.text.clear();
        self.given = 0;
        let mut bytes = Vec::new();
        self.source.by_ref().take(1 << 14).read_to_end(&mut bytes)?;
        let (pairs, odd) = bytes.as_chunks::<2>();
        let mut units: Vec<u16> = pairs.iter().map(|&pair| (self.unit)(pair)).collect();
        // the second half of a character may lie behind
        if units
            .last()
            .is_some_and(|unit| (0xD800..0xDC00).contains(unit))
        {
            let mut pair = [0; 2];
            self.source
                .read_exact(&mut pair)
                .map_err(|_| self.broken())?;
            units.push((self.unit)(pair));
        }
        for decoded in char::decode_utf16(units) {
            let c = decoded.map_err(|_| self.broken())?;
            self.offset += 2 * c.len_utf16() as u64;
            self.text.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if odd.is_empty() {
            Ok(())
        } else {
            Err(self.broken())
        }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
        if self.given == self.text.len() {
            self.fill()?;
        }
        let count = (&self.text[self.given..]).read(out)?;
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let mut text = String::new();
        let read = open(&path)?.read_to_string(&mut text);
        read.map_err(Error::io(&path, "read"))?;
        Ok(text)
    }

    #[test]
    fn marks_say_how_text_is_written() {
        // longer than what is converted at a time, with characters of two units
        let text = "né \u{1F600}\n".repeat(5001);
        let with = |mark: &[u8], bytes: Vec<u8>| [mark.to_vec(), bytes].concat();
        let units = || text.encode_utf16();
        let little = units().flat_map(u16::to_le_bytes).collect();
        let big = units().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.clone().into_bytes(),
            with(&[0xEF, 0xBB, 0xBF], text.clone().into_bytes()),
            with(&[0xFF, 0xFE], little),
            with(&[0xFE, 0xFF], big),
        ] {
            assert!(read(&bytes).unwrap() == text);
        }
        assert_eq!(read(&[0xEF, 0xBB, 0xBF]).unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_named() {
        let refused = |bytes: &[u8], part: &str| {
            let problem = read(bytes).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        };
        refused(b"", "empty");
        refused(b"%PDF-1.7\nplain", "a PDF document");
        refused(b"PAR1....", ".parquet");
        refused(b"\x89PNG\r\n\x1a\n", "not UTF-8 at byte 0: it is a picture");
        refused(&[0xFF, 0xFE, 0, 0, 65, 0, 0, 0], "UTF-32");
        refused(&[0xFF, 0xFE, 65, 0, 66], "not UTF-16 at byte 4");
        refused(&[0xFF, 0xFE, 65, 0, 0, 0xDC, 66, 0], "not UTF-16 at byte 4");
        refused(&[0xFF, 0xFE, 0, 0xD8], "not UTF-16 at byte 2");
    }
}
