//! What a zstd file holds: its frames one behind the other, those that programs keep notes in passed over, as `zstd` does.

use std::io::{BufRead, Error, ErrorKind, Read, Result, copy, sink};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a frame begins.
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// How a frame of notes begins, behind a byte from 0x50 to 0x5F.
const NOTES: [u8; 3] = [0x2A, 0x4D, 0x18];

/// Whether a file that starts so is packed with zstd.
pub(super) fn begins(start: &[u8]) -> bool {
    let notes = |start: &[u8]| start[0] & 0xF0 == 0x50 && start[1..].starts_with(&NOTES);
    start.starts_with(&MAGIC) || (start.len() >= 4 && notes(start))
}

/// Unpacks `source`, which begins with a frame; a frame that asks to look back further than 128 MiB is refused.
pub(super) struct Unpacked<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun that has not ended.
    inside: bool,
}

impl<R: BufRead> Unpacked<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            inside: false,
        }
    }

    /// Begins the next frame; `false` at the end.
    fn begin(&mut self) -> Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut notes = self.source.by_ref().take(length.into());
                    if copy(&mut notes, &mut sink())? < length.into() {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(FrameDecoderError::ReadFrameHeaderError(
                    ReadFrameHeaderError::BadMagicNumber(_),
                )) => {
                    return Err(broken(
                        "something stands behind its end that is not packed with zstd",
                    ));
                }
                Err(e) => return Err(broken(&e.to_string())),
            }
        }
    }

    /// Compares the checksum of the frame that has ended, if it has one.
    fn check(&self) -> Result<()> {
        let said = self.decoder.get_checksum_from_data();
        match said.is_some() && said != self.decoder.get_calculated_checksum() {
            true => Err(broken("its checksum is another one")),
            false => Ok(()),
        }
    }
}

fn broken(problem: &str) -> Error {
    let problem = format!("what is packed with zstd is damaged: {problem}");
    Error::new(ErrorKind::InvalidData, problem)
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            self.inside = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|e| broken(&e.to_string()))?;
            }
            let count = self.decoder.read(out)?;
            if count > 0 {
                return Ok(count);
            }
            self.check()?;
            self.inside = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn packed(text: &str) -> Vec<u8> {
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    }

    fn unpack(bytes: &[u8], at_once: usize) -> Result<String> {
        let mut text = String::new();
        let source = std::io::BufReader::with_capacity(at_once, bytes);
        Unpacked::new(source).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn frames_notes_and_what_is_neither() {
        let long = "many words, again and again; ".repeat(20_000);
        let (one, other) = (packed("one "), packed(&long));
        let notes = [&[0x53, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert!(begins(&one) && begins(&notes) && !begins(b"\x53*M") && !begins(b"text"));
        for at_once in [1, 3, 4096] {
            let read = |parts: &[&[u8]]| unpack(&parts.concat(), at_once);
            let both = format!("one {long}");
            assert!(read(&[&one, &other]).unwrap() == both);
            assert!(read(&[&notes, &one, &notes, &other, &notes]).unwrap() == both);
            assert_eq!(read(&[&one, &packed("")]).unwrap(), "one ");
            let problem = read(&[&one, b"more"]).unwrap_err().to_string();
            assert!(problem.contains("behind its end"), "{problem}");
            assert!(read(&[&one, &notes[..9]]).is_err());
            for length in 0..one.len() {
                let cut = read(&[&other, &one[..length]]);
                assert!(cut.is_err() || length == 0, "{length} bytes pass");
            }
        }
    }

    #[test]
    fn a_checksum_is_compared() {
        let whole = packed("some text that is long enough to be packed, long enough to be packed");
        let end = whole.len() - 1;
        let mut wrong = whole.clone();
        wrong[end] ^= 1;
        assert!(unpack(&whole, 64).is_ok());
        let problem = unpack(&wrong, 64).unwrap_err().to_string();
        assert!(problem.contains("checksum"), "{problem}");
    }
}
