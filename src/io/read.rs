//! Reading whole files within a size limit, gzip-packed or plain.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// Opens a regular file, so that a folder, a pipe or a device is an error and not a hang.
pub fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let metadata = file.metadata().map_err(Error::io(path, "open"))?;
    if !metadata.is_file() {
        let source = IoError::new(ErrorKind::InvalidInput, "not a regular file");
        return Err(Error::io(path, "open")(source));
    }
    Ok(file)
}

/// All bytes of a file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_all(path, open(path)?, limit)
}

/// As [`read`], unpacking a gzip file; the limit holds for what comes out.
pub fn read_unpacked(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut file = BufReader::new(open(path)?);
    let start = file.fill_buf().map_err(Error::io(path, "read"))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        read_all(path, MultiGzDecoder::new(file), limit)
    } else {
        read_all(path, file, limit)
    }
}

fn read_all(path: &Path, source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > limit {
        let problem = format!("larger than the limit of {limit} bytes");
        return Err(Error::io(path, "read")(IoError::new(
            ErrorKind::FileTooLarge,
            problem,
        )));
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
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
        std::fs::write(&plain, b"hello").unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(b"hello").unwrap();
        let bytes = encoder.finish().unwrap();
        std::fs::write(&packed, &bytes).unwrap();
        for path in [&plain, &packed] {
            assert_eq!(read_unpacked(path, 5).unwrap(), b"hello");
            refused(read_unpacked(path, 4), "limit of 4 bytes");
        }
        assert_eq!(read(&packed, 1000).unwrap(), bytes);

        std::fs::write(&packed, &bytes[..bytes.len() - 6]).unwrap();
        refused(read_unpacked(&packed, 100), "packed");
        refused(read(dir.path(), 100), "not a regular file");
        refused(read(&dir.path().join("absent"), 100), "absent");
    }
}
