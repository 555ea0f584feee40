//! Strict reading: what a header promises is checked before and while values are read.

use std::path::Path;

use safetensors::Dtype;

use super::TensorSpec;
use super::header::{Entry, Header};
use crate::error::{Error, Result};
use crate::io::files::{Files, Source};

/// Tensors named in an error, of each kind of difference.
const NAMED: usize = 8;

/// Elements that are read at a time: whole blocks of every element type.
pub(super) const PART: usize = 1 << 20;

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

/// Takes a part of an expected tensor: the tensor's place among them, the part's first element, its elements. The parts
/// of a tensor follow each other; one without elements has none.
pub type Sink<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

/// Checks that this very file has the `expected` tensors, as [`super::read_each`] says, from its header.
pub(super) async fn check_one(
    files: &impl Files,
    name: &str,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<()> {
    let mut source = files.open(name)?;
    checked(&mut source, &files.path(name), expected, optional).await?;
    Ok(())
}

/// The tensors of this very file, without what wrappers put before their names.
///
/// # Errors
/// [`Error::Checkpoint`] for a damaged file, [`Error::Io`].
pub async fn shapes(files: &impl Files, name: &str) -> Result<Vec<TensorSpec>> {
    let header = Header::read(&mut files.open(name)?, &files.path(name)).await?;
    let names = header.tensors.iter().map(|(name, _)| name.as_str());
    let wrapper = wrapper(&names.collect::<Vec<_>>()).len();
    let tensors = header.tensors.into_iter();
    let spec = |(name, entry): (String, Entry)| TensorSpec::new(&name[wrapper..], entry.shape);
    Ok(tensors.map(spec).collect())
}

/// Reads the `expected` tensors of this very file, as [`super::read_each`] says.
pub(super) async fn read_one(
    files: &impl Files,
    name: &str,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut source = files.open(name)?;
    read_from(&mut source, &files.path(name), expected, optional, sink).await
}

/// A file's header, and what wrappers put before its names.
async fn checked(
    source: &mut impl Source,
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<(Header, String)> {
    let header = Header::read(source, path).await?;
    let names = header.tensors.iter().map(|(name, _)| name.as_str());
    let wrapper = wrapper(&names.collect::<Vec<_>>());
    check_names(&header, &wrapper, path, expected, optional)?;
    Ok((header, wrapper))
}

async fn read_from(
    source: &mut impl Source,
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let (header, wrapper) = checked(source, path, expected, optional).await?;
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    // In the order of the data, so that the source is read from front to back.
    for (name, entry) in &header.tensors {
        let bare = &name[wrapper.len()..];
        let Some(index) = expected.iter().position(|spec| spec.name == bare) else {
            continue;
        };
        let (count, width) = (expected[index].count(), entry.dtype.bitsize() / 8);
        for first in (0..count).step_by(PART) {
            bytes.resize(PART.min(count - first) * width, 0);
            let at = header.begin(entry) + first as u64 * width as u64;
            source.read_at(at, &mut bytes).await?;
            values.clear();
            widen(&bytes, entry.dtype, &mut values);
            if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                let problem = format!("element {} is {}", first + place, values[place]);
                return Err(Error::checkpoint(path, Some(name), problem));
            }
            sink(index, first, &values)?;
        }
    }
    Ok(())
}

/// As `read_one`, from memory; `name` stands in errors.
#[cfg(test)]
pub(super) fn read_bytes(
    name: &Path,
    bytes: &[u8],
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<Vec<Vec<f32>>> {
    let mut tensors = vec![Vec::new(); expected.len()];
    let mut keep = |index: usize, first: usize, values: &[f32]| {
        assert_eq!(tensors[index].len(), first);
        tensors[index].extend(values);
        Ok(())
    };
    let mut source = crate::io::files::InMemory(bytes);
    let read = read_from(&mut source, name, expected, optional, &mut keep);
    crate::blocking::wait(read)?;
    Ok(tensors)
}

fn check_names(
    header: &Header,
    wrapper: &str,
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<()> {
    let (mut missing, mut shapes, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = None;
    for spec in expected {
        let name = &spec.name;
        match header.find(&format!("{wrapper}{name}")) {
            None => missing.push(name.clone()),
            Some(Entry { shape, .. }) if *shape != spec.shape => {
                shapes.push(format!("{name} {shape:?}, expected {:?}", spec.shape));
            }
            Some(Entry { dtype, .. })
                if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) =>
            {
                types.push(format!("{name} {dtype:?}, expected F32, F16 or BF16"));
            }
            Some(_) => continue,
        }
        first = first.or(Some(name));
    }
    let unknown = |name: &&str| {
        let bare = &name[wrapper.len()..];
        !optional.contains(&bare) && !expected.iter().any(|spec| spec.name == bare)
    };
    let names = header.tensors.iter().map(|(name, _)| name.as_str());
    let unexpected = names.filter(unknown).map(str::to_owned).collect();
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

/// Appends the numbers in some bytes, as f32.
pub(in crate::io) fn widen(bytes: &[u8], dtype: Dtype, values: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => {
            let pairs = bytes.chunks_exact(2);
            values.extend(pairs.map(|b| f16_to_f32(u16::from_le_bytes([b[0], b[1]]))));
        }
        Dtype::BF16 => {
            let pairs = bytes.chunks_exact(2);
            values.extend(pairs.map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])));
        }
        _ => {
            let quads = bytes.chunks_exact(4);
            values.extend(quads.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
    }
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
        // files of more bytes than memory of 32 bits can count, and none at all
        let large = r#"{"z":{"dtype":"U8","shape":[3,4294967296],"data_offsets":[0,12884901888]}}"#;
        let promised = format!("the header says {}", 8 + large.len() as u64 + (12 << 30));
        refused(read(&made(large, 0)), None, &["truncated", &promised]);
        let most = r#"{"z":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#;
        refused(read(&made(most, 0)), None, &["bad header"]);
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
