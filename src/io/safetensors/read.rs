//! Strict reading: what a header promises is checked before and while values are read.

use std::io::Read;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{CHUNK, TensorSpec};
use crate::error::{Error, Result};

/// Tensors named in an error, of each kind of difference.
const NAMED: usize = 8;

/// What wrappers of training programs (data parallel, compiled) put before the names of all tensors.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// What wrappers have put before every one of the names, which is passed over.
pub(super) fn wrapper(names: &[&str]) -> String {
    let mut before = String::new();
    let stands =
        |before: &str| !names.is_empty() && names.iter().all(|name| name.starts_with(before));
    while let Some(more) = WRAPPERS
        .iter()
        .find(|more| stands(&format!("{before}{more}")))
    {
        before += more;
    }
    before
}

/// Takes the values of each expected tensor, by its place among them.
pub type Sink<'a> = dyn FnMut(usize, Vec<f32>) -> Result<()> + 'a;

/// Reads the `expected` tensors of this very file, as [`super::read_file`] says.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn read_one(
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let file = crate::io::read::open(path)?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    let source = std::io::BufReader::new(file);
    read_from(source, length, path, expected, optional, sink)
}

/// As `read_file`, from memory; `name` stands in errors.
pub fn read_bytes(
    name: &Path,
    bytes: &[u8],
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<Vec<Vec<f32>>> {
    let mut tensors = vec![Vec::new(); expected.len()];
    let mut keep = |index: usize, values| {
        tensors[index] = values;
        Ok(())
    };
    let length = bytes.len() as u64;
    read_from(bytes, length, name, expected, optional, &mut keep)?;
    Ok(tensors)
}

fn read_from(
    mut source: impl Read,
    length: u64,
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let metadata = read_header(&mut source, length, path)?;
    let names = metadata.offset_keys();
    let wrapper = wrapper(&names.iter().map(String::as_str).collect::<Vec<_>>());
    check_names(&metadata, &wrapper, path, expected, optional)?;
    // In the order of the data, so that the source is read once from front to back.
    for name in names {
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let mut bytes = source
            .by_ref()
            .take((info.data_offsets.1 - info.data_offsets.0) as u64);
        let bare = &name[wrapper.len()..];
        match expected.iter().position(|spec| spec.name == bare) {
            None => drop(
                std::io::copy(&mut bytes, &mut std::io::sink()).map_err(Error::io(path, "read"))?,
            ),
            Some(index) => {
                let values = read_values(bytes, info, path)?;
                if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                    let problem = format!("element {place} is {}", values[place]);
                    return Err(Error::checkpoint(path, Some(&name), problem));
                }
                sink(index, values)?;
            }
        }
    }
    Ok(())
}

fn read_header(source: &mut impl Read, file_length: u64, path: &Path) -> Result<Metadata> {
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    let Some(after_length) = file_length.checked_sub(8) else {
        return Err(damaged(format!("truncated: {file_length} bytes")));
    };
    let mut length = [0; 8];
    source
        .read_exact(&mut length)
        .map_err(Error::io(path, "read"))?;
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
    let limit = (1 << 20) + file_length / 100;
    if length > limit {
        return Err(damaged(format!(
            "a header of {length} bytes; at most {limit} are read"
        )));
    }
    let mut header = vec![0; length as usize];
    source
        .read_exact(&mut header)
        .map_err(Error::io(path, "read"))?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| damaged(format!("bad header: {e}")))?;
    let promised = 8 + length + metadata.data_len() as u64;
    if promised != file_length {
        let what = if file_length < promised {
            "truncated"
        } else {
            "too long"
        };
        return Err(damaged(format!(
            "{what}: {file_length} bytes, the header says {promised}"
        )));
    }
    Ok(metadata)
}

fn check_names(
    metadata: &Metadata,
    wrapper: &str,
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<()> {
    let (mut missing, mut shapes, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = None;
    for spec in expected {
        let name = &spec.name;
        match metadata.info(&format!("{wrapper}{name}")) {
            None => missing.push(name.clone()),
            Some(info) if info.shape != spec.shape => {
                shapes.push(format!(
                    "{name} {:?}, expected {:?}",
                    info.shape, spec.shape
                ));
            }
            Some(info) if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
                types.push(format!(
                    "{name} {:?}, expected F32, F16 or BF16",
                    info.dtype
                ));
            }
            Some(_) => continue,
        }
        first = first.or(Some(name));
    }
    let mut unexpected = metadata.offset_keys();
    unexpected.retain(|name| {
        let bare = &name[wrapper.len()..];
        !optional.contains(&bare) && !expected.iter().any(|spec| spec.name == bare)
    });
    let kinds = [
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
        ("of another type", types),
    ];
    difference(path, first.map(String::as_str), &kinds)
}

/// An error that lists names by what is wrong with them, if there are any; the culprit is `first`, else the first
/// of them.
pub(super) fn difference(
    path: &Path,
    first: Option<&str>,
    kinds: &[(&str, Vec<String>)],
) -> Result<()> {
    let wrong = || kinds.iter().filter(|(_, names)| !names.is_empty());
    let listed: Vec<String> = wrong().map(|(kind, names)| list(kind, names)).collect();
    let other = || {
        wrong()
            .find_map(|(_, names)| names.first())
            .map(String::as_str)
    };
    match first.or_else(other) {
        Some(first) => Err(Error::checkpoint(path, Some(first), listed.join("; "))),
        None => Ok(()),
    }
}

/// `3 missing: a, b, c`, cut after [`NAMED`] of them.
fn list(kind: &str, names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMED)];
    let rest = match names.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} {kind}: {}{rest}", names.len(), shown.join(", "))
}

fn read_values(mut bytes: impl Read, info: &TensorInfo, path: &Path) -> Result<Vec<f32>> {
    let count: usize = info.shape.iter().product();
    let mut values = Vec::with_capacity(count);
    let width = info.dtype.bitsize() / 8;
    let mut buffer = vec![0; CHUNK];
    while values.len() < count {
        let part = &mut buffer[..CHUNK.min((count - values.len()) * width)];
        bytes.read_exact(part).map_err(Error::io(path, "read"))?;
        match info.dtype {
            Dtype::F16 => {
                let pairs = part.chunks_exact(2);
                values.extend(pairs.map(|b| f16_to_f32(u16::from_le_bytes([b[0], b[1]]))));
            }
            Dtype::BF16 => {
                let pairs = part.chunks_exact(2);
                values.extend(pairs.map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])));
            }
            _ => {
                let quads = part.chunks_exact(4);
                values.extend(quads.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
        }
    }
    Ok(values)
}

pub(in crate::io) fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = match (bits >> 10 & 0x1F, bits & 0x3FF) {
        (0, fraction) => f32::from(fraction) * (-24f32).exp2(),
        (0x1F, 0) => f32::INFINITY,
        (0x1F, _) => f32::NAN,
        (exponent, fraction) => {
            f32::from_bits((u32::from(exponent) + 112) << 23 | u32::from(fraction) << 13)
        }
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::io::safetensors::{Precision, write_to};

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

    fn read(bytes: &[u8]) -> Result<Vec<Vec<f32>>> {
        read_bytes(Path::new("memory"), bytes, &specs(), &["spare"])
    }

    /// A file with this header and `data` zero bytes.
    fn made(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn refused(result: Result<impl std::fmt::Debug>, culprit: Option<&str>, parts: &[&str]) {
        match result {
            Err(Error::Checkpoint {
                path,
                tensor,
                problem,
            }) => {
                assert_eq!(
                    (path.as_path(), tensor.as_deref()),
                    (Path::new("memory"), culprit)
                );
                assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_precision_is_widened() {
        let header = r#"{"h":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}"#;
        let mut bytes = made(header, 0);
        for bits in [0x3C00u16, 0xC000, 0x0001, 0x03FF, 0x7BFF, 0x8000, 0xBFC0] {
            bytes.extend(bits.to_le_bytes());
        }
        let expected = [TensorSpec::new("h", [6]), TensorSpec::new("b", [1])];
        let tensors = read_bytes(Path::new("memory"), &bytes, &expected, &[]).unwrap();
        let smallest = (-24f32).exp2();
        assert_eq!(
            tensors[0],
            [1.0, -2.0, smallest, 1023.0 * smallest, 65504.0, 0.0]
        );
        assert_eq!(tensors[1], [-1.5]);
        assert!(f16_to_f32(0xFC00) == f32::NEG_INFINITY && f16_to_f32(0x7C01).is_nan());
    }

    #[test]
    fn every_truncation_and_any_addition_is_found() {
        let whole = written(&specs());
        for length in 0..whole.len() {
            refused(read(&whole[..length]), None, &["truncated"]);
        }
        let mut longer = whole;
        longer.push(0);
        refused(read(&longer), None, &["too long"]);
    }

    #[test]
    fn wrong_tensors_are_named() {
        let with = |change: &dyn Fn(&mut Vec<TensorSpec>)| {
            let mut tensors = specs();
            change(&mut tensors);
            read(&written(&tensors))
        };
        refused(with(&|t| drop(t.remove(0))), Some("z"), &["missing"]);
        refused(
            with(&|t| t[0].shape = vec![3, 2]),
            Some("z"),
            &["1 of another shape: z [3, 2], expected [2, 3]"],
        );
        refused(
            with(&|t| t[1].name = "b".into()),
            Some("a"),
            &["1 missing: a; 1 unexpected: b"],
        );
        refused(
            with(&|t| t.push(TensorSpec::new("extra", [1]))),
            Some("extra"),
            &["unexpected"],
        );
        with(&|t| t.insert(0, TensorSpec::new("spare", [5]))).unwrap();
        let many = with(&|t| t.extend((0..11).map(|i| TensorSpec::new(format!("x{i}"), [1]))));
        refused(
            many,
            Some("x0"),
            &["11 unexpected: x0, x1", "x7 and 3 more"],
        );
        let integers = made(
            r#"{"z":{"dtype":"I32","shape":[2,3],"data_offsets":[0,24]}}"#,
            24,
        );
        refused(
            read(&integers),
            Some("z"),
            &["2 missing: a, m; 1 of another type: z I32, expected F32"],
        );
    }

    #[test]
    fn values_must_be_finite() {
        for bits in [
            f32::NAN.to_bits(),
            f32::INFINITY.to_bits(),
            f32::NEG_INFINITY.to_bits(),
        ] {
            let mut bytes = written(&specs());
            // Element 4 of the first tensor, then the only one of the second.
            let end = bytes.len();
            bytes[end - 12..end - 8].copy_from_slice(&bits.to_le_bytes());
            refused(read(&bytes), Some("z"), &["element 4"]);
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let entry = |shape: &str, from: u64, to: u64| {
            made(
                &format!(
                    r#"{{"z":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#
                ),
                24,
            )
        };
        refused(read(&entry("[2,3]", 4, 28)), None, &["bad header"]);
        refused(read(&entry("[2,3]", 0, 20)), None, &["bad header"]);
        refused(read(&entry("[2,3]", 24, 0)), None, &["bad header"]);
        refused(
            read(&entry("[4294967296,4294967296]", 0, 24)),
            None,
            &["bad header"],
        );
        refused(read(&entry("[-1]", 0, 24)), None, &["bad header"]);
        refused(read(&made("{", 0)), None, &["bad header"]);
        refused(read(&made("[1]", 0)), None, &["bad header"]);
        refused(read(&made(&"[".repeat(100_000), 0)), None, &["bad header"]);
        refused(read(&made(&" ".repeat(2 << 20), 0)), None, &["at most"]);
        refused(read(&u64::MAX.to_le_bytes()), None, &["truncated"]);
        let mut not_text = made(r#"{"z":1}"#, 0);
        not_text[10] = 0xFF;
        refused(read(&not_text), None, &["bad header"]);
        let overlap = r#"{"z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        refused(read(&made(overlap, 8)), None, &["bad header"]);
    }

    #[test]
    fn a_flipped_bit_in_the_header_never_panics() {
        let whole = written(&specs());
        let original = read(&whole).unwrap();
        let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for bit in 0..(8 + header) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read(&bytes) {
                // Only the free-form metadata may differ unseen.
                Ok(tensors) => assert_eq!(tensors, original),
                Err(e) => assert!(matches!(e, Error::Checkpoint { .. }), "{e}"),
            }
        }
    }
}
