//! Reading files, packed with gzip or zstd or plain: whole within a size limit, or from front to back.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, ErrorKind, Read, Result as IoResult};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::content::too_large;
use super::{gzip, zstd};
use crate::error::{Error, Result};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// Opens a regular file, so that a folder, a pipe or a device is an error and not a hang.
pub fn open(path: &Path) -> Result<File> {
    // before it is opened, since that waits for a pipe's other end
    let metadata = path.metadata().map_err(Error::io(path, "open"))?;
    if !metadata.is_file() {
        let source = IoError::new(ErrorKind::InvalidInput, "not a regular file");
        return Err(Error::io(path, "open")(source));
    }
    File::open(path).map_err(Error::io(path, "open"))
}

/// All bytes of a file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_all(path, open(path)?, limit)
}

/// As [`read`], unpacking a packed file; the limit holds for what comes out.
pub fn read_unpacked(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_all(path, open_unpacked(path)?, limit)
}

/// What a file's bytes hold, those of a packed file unpacked; the limit holds for what comes out.
pub fn unpacked(path: &Path, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>> {
    if !gzip::begins(&bytes) && !zstd::begins(&bytes) {
        return Ok(bytes);
    }
    let content = content(&bytes[..]).map_err(Error::io(path, "read"))?;
    read_all(path, content, limit)
}

/// The content of a file from front to back, a packed file's unpacked.
pub fn open_unpacked(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(BUFFER, open(path)?);
    content(file).map_err(Error::io(path, "read"))
}

/// What `source` holds, unpacked if it is packed.
fn content<'a>(mut source: impl BufRead + Send + 'a) -> IoResult<Box<dyn BufRead + Send + 'a>> {
    let start = source.fill_buf()?;
    Ok(if gzip::begins(start) {
        let unpacked = gzip::Unpacked::new(source);
        Box::new(BufReader::with_capacity(BUFFER, unpacked))
    } else if zstd::begins(start) {
        let unpacked = zstd::Unpacked::new(source);
        Box::new(BufReader::with_capacity(BUFFER, unpacked))
    } else {
        Box::new(source)
    })
}

/// Size and SHA-256 of a file.
pub fn measure(path: &Path) -> Result<(u64, [u8; 32])> {
    let mut file = open(path)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    loop {
        let count = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if count == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn read_all(path: &Path, source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn refused(result: Result<Vec<u8>>, part: &str) {
        match result {
            Err(e @ Error::Io { .. }) => assert!(e.to_string().contains(part), "{e}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_and_packed_files_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name| dir.path().join(name);
        let (plain, packed, frame) = (file("plain"), file("packed"), file("frame"));
        std::fs::write(&plain, b"hello").unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let bytes = ruzstd::encoding::compress_to_vec(&b"hello"[..], level);
        std::fs::write(&frame, bytes).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(b"hello").unwrap();
        let bytes = encoder.finish().unwrap();
        std::fs::write(&packed, &bytes).unwrap();
        for path in [&plain, &packed, &frame] {
            assert_eq!(read_unpacked(path, 5).unwrap(), b"hello");
            refused(read_unpacked(path, 4), "limit of 4 bytes");
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(unpacked(path, bytes, 5).unwrap(), b"hello");
        }
        assert_eq!(read(&packed, 1000).unwrap(), bytes);
        refused(unpacked(&packed, bytes.clone(), 4), "limit of 4 bytes");

        std::fs::write(&packed, &bytes[..bytes.len() - 6]).unwrap();
        refused(read_unpacked(&packed, 100), "packed");
        refused(read(dir.path(), 100), "not a regular file");
        refused(read(&dir.path().join("absent"), 100), "absent");
    }
}
