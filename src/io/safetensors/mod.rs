//! Tensors on disk. Reading is strict: exactly the expected names and shapes, finite values, a file
//! that ends where its header says. Writing streams one tensor at a time.

mod header;
mod precision;
mod read;
mod shards;
mod write;

pub use precision::Precision;
pub use read::{Sink, shapes};
#[cfg(not(target_arch = "wasm32"))]
pub(super) use read::{f16_to_f32, widen};
#[cfg(not(target_arch = "wasm32"))]
pub use shards::read_file;
pub use shards::{MAX_INDEX_BYTES, check_each, index_of, parse_index, read_each};
#[cfg(not(target_arch = "wasm32"))]
pub use write::write_file;
pub use write::write_to;

/// Bytes converted at a time.
const CHUNK: usize = 1 << 16;

/// A tensor's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Key in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
        }
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use super::read::{PART, read_bytes};
    use super::*;
    use crate::error::Error;

    fn specs() -> Vec<TensorSpec> {
        vec![
            TensorSpec::new("z", [2, 3]),
            TensorSpec::new("a", [1]),
            TensorSpec::new("m", [0, 7]),
        ]
    }

    fn written(tensors: &[TensorSpec]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let values = |index: usize| {
            (0..tensors[index].count())
                .map(|i| i as f32 - 0.5)
                .collect()
        };
        write_to(
            &mut bytes,
            Path::new("memory"),
            tensors,
            Precision::F32,
            |index| Ok(Cow::Owned(values(index))),
        )
        .unwrap();
        bytes
    }

    #[test]
    fn round_trip_in_the_order_given() {
        let bytes = written(&specs());
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!((header % 8, bytes.len()), (0, 8 + header + 28));
        let text = std::str::from_utf8(&bytes[8..8 + header]).unwrap();
        assert!(text.find("\"z\"").unwrap() < text.find("\"a\"").unwrap());
        let expected = vec![vec![-0.5, 0.5, 1.5, 2.5, 3.5, 4.5], vec![-0.5], vec![]];
        assert_eq!(
            read_bytes(Path::new("memory"), &bytes, &specs(), &[]).unwrap(),
            expected
        );

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write_file(&path, &specs(), Precision::F32, |i| {
            Ok(Cow::Borrowed(&expected[i]))
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(read_file(&path, &specs(), &[]).unwrap(), expected);
        let absent = read_file(&dir.path().join("absent"), &specs(), &[]);
        assert!(matches!(absent, Err(Error::Io { .. })));
    }

    #[test]
    fn long_tensors_cross_parts() {
        let spec = [TensorSpec::new("long", [PART * 2 + 3])];
        let values: Vec<f32> = (0..spec[0].count()).map(|i| i as f32).collect();
        let mut bytes = Vec::new();
        write_to(
            &mut bytes,
            Path::new("memory"),
            &spec,
            Precision::F32,
            |_| Ok(Cow::Borrowed(&values)),
        )
        .unwrap();
        assert_eq!(
            read_bytes(Path::new("memory"), &bytes, &spec, &[]).unwrap()[0],
            values
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let result = write_file(Path::new("/dev/full"), &specs(), Precision::F32, |i| {
            Ok(Cow::Owned(vec![0.0; specs()[i].count()]))
        });
        match result {
            Err(Error::Io {
                path,
                action: "write",
                source,
            }) => {
                assert_eq!(path, Path::new("/dev/full"));
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
    }
}
