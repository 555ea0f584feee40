//! Weights on disk: in one file, or in several, which an index `model.safetensors.index.json` lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::TensorSpec;
use super::read::{Sink, difference, read_one, wrapper};
use crate::error::{Error, Result};
use crate::io::{keyed, read};

/// Largest index that is read.
const MAX_INDEX_BYTES: u64 = 1 << 24;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The index that stands in for the file `path`.
pub fn index_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".index.json");
    path.with_file_name(name)
}

/// Which file each tensor of an index lies in.
///
/// # Errors
/// [`Error::Checkpoint`] for what is no index or names a file outside its folder, [`Error::Io`].
pub fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    let bytes = read::read(path, MAX_INDEX_BYTES)?;
    let index: Index = keyed::parse(&bytes).map_err(damaged)?;
    let outside = |file: &&String| Path::new(file).file_name() != Some(file.as_ref());
    match index.weight_map.values().find(outside) {
        Some(file) => Err(damaged(format!(
            "names {file:?}, which is no file beside it"
        ))),
        None => Ok(index.weight_map),
    }
}

/// Reads the `expected` tensors of a file, in that order, as f32 (F16 and BF16 are widened). The
/// `optional` names may be there too and are passed over; anything else is an error. Where the file is
/// missing, its index (see [`index_of`]) may name several that hold its tensors.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`].
pub fn read_file(path: &Path, expected: &[TensorSpec], optional: &[&str]) -> Result<Vec<Vec<f32>>> {
    let mut tensors = vec![Vec::new(); expected.len()];
    read_each(path, expected, optional, &mut |index, values| {
        tensors[index] = values;
        Ok(())
    })?;
    Ok(tensors)
}

/// As [`read_file`], tensor by tensor in the order of the files, so that no more than one is held.
///
/// # Errors
/// As [`read_file`], and what `sink` says.
pub fn read_each(
    path: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let index = index_of(path);
    if !path.exists() {
        if index.is_file() {
            return read_shards(&index, expected, optional, sink);
        }
        if let Some(error) = elsewhere(path) {
            return Err(error);
        }
    }
    read_one(path, expected, optional, sink)
}

/// As [`read_file`], of the files of an index: every tensor once, in the file that the index names.
fn read_shards(
    index: &Path,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let map = read_index(index)?;
    let wrapper = wrapper(&map.keys().map(String::as_str).collect::<Vec<_>>()).len();
    let bare = |(name, file): (String, String)| (name[wrapper..].to_owned(), file);
    let map: BTreeMap<String, String> = map.into_iter().map(bare).collect();
    let missing = expected.iter().filter(|spec| !map.contains_key(&spec.name));
    let missing: Vec<String> = missing.map(|spec| spec.name.clone()).collect();
    let known = |name: &&String| {
        optional.contains(&name.as_str()) || expected.iter().any(|spec| spec.name == **name)
    };
    let unexpected: Vec<String> = map.keys().filter(|name| !known(name)).cloned().collect();
    difference(
        index,
        None,
        &[("missing", missing), ("unexpected", unexpected)],
    )?;
    let files: std::collections::BTreeSet<&String> = map.values().collect();
    for file in files {
        let here = |spec: &&TensorSpec| map.get(&spec.name) == Some(file);
        let specs: Vec<TensorSpec> = expected.iter().filter(here).cloned().collect();
        let places: Vec<usize> = (0..expected.len())
            .filter(|&i| here(&&expected[i]))
            .collect();
        let mut place = |i: usize, values| sink(places[i], values);
        read_one(&index.with_file_name(file), &specs, optional, &mut place)?;
    }
    Ok(())
}

/// What lies where weights were looked for in vain.
fn elsewhere(path: &Path) -> Option<Error> {
    let names = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    let name = names
        .iter()
        .find(|name| path.with_file_name(name).is_file())?;
    let problem = format!("is not there, only {name}: save the model as safetensors first");
    Some(Error::checkpoint(path, None, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::safetensors::{Precision, read_file, write_file};
    use std::borrow::Cow;

    fn spec(name: &str) -> TensorSpec {
        TensorSpec::new(name, [2])
    }

    fn write(path: &Path, names: &[&str]) {
        let specs: Vec<TensorSpec> = names.iter().map(|name| spec(name)).collect();
        let values = |i: usize| vec![f32::from(names[i].as_bytes()[0]); 2];
        write_file(path, &specs, Precision::F32, |i| Ok(Cow::Owned(values(i)))).unwrap();
    }

    #[test]
    fn every_tensor_once_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let whole = path("model.safetensors");
        let index = |map: &str| {
            std::fs::write(index_of(&whole), format!("{{\"weight_map\":{{{map}}}}}")).unwrap()
        };
        let read = || read_file(&whole, &[spec("c"), spec("a"), spec("b")], &["spare"]);
        let refused = |part: &str| {
            let problem = read().unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        };
        refused("cannot open");
        let good = r#""a":"one","b":"two","c":"one","spare":"two""#;
        index(good);
        write(&path("one"), &["a", "c"]);
        refused("two");
        write(&path("two"), &["b", "spare"]);
        assert_eq!(read().unwrap(), [[99.0; 2], [97.0; 2], [98.0; 2]]);
        // a tensor in two files, or in another one
        write(&path("two"), &["b", "a"]);
        refused("1 unexpected: a");
        write(&path("two"), &["spare"]);
        refused("1 missing: b");
        index(r#""a":"one","c":"one","x":"two""#);
        refused("1 missing: b; 1 unexpected: x");
        index(r#""a":"../one""#);
        refused("no file beside it");
        std::fs::remove_file(index_of(&whole)).unwrap();
        std::fs::write(path("pytorch_model.bin"), "pickle").unwrap();
        refused("save the model as safetensors");
        // one file is read alone
        index(good);
        write(&whole, &["a", "b", "c"]);
        read().unwrap();
    }
}
