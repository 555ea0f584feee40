//! What a gzip file holds: its members one behind the other, and zeros behind the last one passed over, as `gzip`
//! does.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use flate2::bufread::GzDecoder;

/// How a member begins.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether a file that starts so is packed with gzip.
pub(super) fn begins(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// Unpacks `source`, which begins with a member.
pub(super) struct Unpacked<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Unpacked<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            member: Some(GzDecoder::new(source)),
        }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let count = member.read(out)?;
            if count > 0 {
                self.member = Some(member);
                return Ok(count);
            }
            let mut source = member.into_inner();
            if behind(&mut source)? {
                self.member = Some(GzDecoder::new(source));
            }
        }
        Ok(0)
    }
}

/// Whether another member follows.
fn behind(source: &mut impl BufRead) -> Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            None if zeros == 0 => return Ok(false),
            None => source.consume(zeros),
            Some(&byte) if byte == MAGIC[0] => {
                source.consume(zeros);
                return Ok(true);
            }
            Some(_) => {
                let problem = "something stands behind its end that is not packed with gzip";
                return Err(Error::new(ErrorKind::InvalidData, problem));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(bytes: &[u8], at_once: usize) -> Result<String> {
        let mut text = String::new();
        let source = std::io::BufReader::with_capacity(at_once, bytes);
        Unpacked::new(source).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn members_zeros_and_what_is_neither() {
        let (one, other) = (packed("one "), packed("other"));
        for at_once in [1, 3, 4096] {
            let read = |parts: &[&[u8]]| unpack(&parts.concat(), at_once);
            assert_eq!(read(&[&one, &other]).unwrap(), "one other");
            assert_eq!(read(&[&one, &[0; 700]]).unwrap(), "one ");
            assert_eq!(read(&[&one, &[0; 7], &other, &[0]]).unwrap(), "one other");
            let problem = read(&[&one, &[0, 0], b"tail"]).unwrap_err().to_string();
            assert!(problem.contains("behind its end"), "{problem}");
            assert!(read(&[&one, &other[..9]]).is_err());
            assert!(read(&[&one[..one.len() - 1]]).is_err());
        }
    }
}
