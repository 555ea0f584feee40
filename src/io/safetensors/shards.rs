//! Weights on disk: in one file, or in several, which an index `model.safetensors.index.json` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::TensorSpec;
use super::read::{Sink, check_one, difference, read_one, wrapper};
use crate::error::{Error, Result};
use crate::io::files::{Files, read_all};
use crate::io::keyed;

/// Largest index that is read.
pub const MAX_INDEX_BYTES: u64 = 1 << 24;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Name of the index that stands in for a file.
pub fn index_of(name: &str) -> String {
    format!("{name}.index.json")
}

/// Which file each tensor of an index lies in; `path` stands for it in errors.
///
/// # Errors
/// [`Error::Checkpoint`] for what is no index or names a file outside its folder.
pub fn parse_index(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    let index: Index = keyed::parse(bytes).map_err(damaged)?;
    let outside = |file: &&String| Path::new(file).file_name() != Some(file.as_ref());
    match index.weight_map.values().find(outside) {
        Some(file) => Err(damaged(format!(
            "names {file:?}, which is no file beside it"
        ))),
        None => Ok(index.weight_map),
    }
}

/// Reads the `expected` tensors of a file, in that order, as f32; see [`read_each`].
///
/// # Errors
/// As [`read_each`].
#[cfg(not(target_arch = "wasm32"))]
pub fn read_file(path: &Path, expected: &[TensorSpec], optional: &[&str]) -> Result<Vec<Vec<f32>>> {
    let (folder, name) = crate::io::files::Folder::of(path)?;
    let mut tensors = vec![Vec::new(); expected.len()];
    let mut keep = |index: usize, _: usize, values: &[f32]| {
        tensors[index].extend(values);
        Ok(())
    };
    let read = read_each(&folder, name, expected, optional, &mut keep);
    crate::blocking::wait(read)?;
    Ok(tensors)
}

/// Reads the `expected` tensors of a file part by part in the order of the file, as f32 (F16 and BF16 are widened). The
/// `optional` names may be there too and are passed over; anything else is an error. Where the file is missing, its
/// index (see [`index_of`]) may name several that hold its tensors; all of them are checked before the first is read.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], and what `sink` says.
pub async fn read_each(
    files: &impl Files,
    name: &str,
    expected: &[TensorSpec],
    optional: &[&str],
    sink: &mut Sink<'_>,
) -> Result<()> {
    let Some(shards) = shards(files, name, expected, optional).await? else {
        return read_one(files, name, expected, optional, sink).await;
    };
    for shard in &shards {
        check_one(files, &shard.file, &shard.specs, optional).await?;
    }
    for shard in &shards {
        let mut place =
            |i: usize, first: usize, values: &[f32]| sink(shard.places[i], first, values);
        read_one(files, &shard.file, &shard.specs, optional, &mut place).await?;
    }
    Ok(())
}

/// What [`read_each`] would find wrong with the headers of a file or of those that its index names.
///
/// # Errors
/// As [`read_each`].
pub async fn check_each(
    files: &impl Files,
    name: &str,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<()> {
    let Some(shards) = shards(files, name, expected, optional).await? else {
        return check_one(files, name, expected, optional).await;
    };
    for shard in &shards {
        check_one(files, &shard.file, &shard.specs, optional).await?;
    }
    Ok(())
}

/// A file of an index, with the tensors that it holds and their places among all.
struct Shard {
    file: String,
    specs: Vec<TensorSpec>,
    places: Vec<usize>,
}

/// The files that an index names where `name` itself is not there: every tensor once.
async fn shards(
    files: &impl Files,
    name: &str,
    expected: &[TensorSpec],
    optional: &[&str],
) -> Result<Option<Vec<Shard>>> {
    if files.has(name) {
        return Ok(None);
    }
    let index = index_of(name);
    if !files.has(&index) {
        return match elsewhere(files, name) {
            Some(error) => Err(error),
            None => Ok(None),
        };
    }
    let bytes = read_all(files, &index, MAX_INDEX_BYTES).await?;
    let index = files.path(&index);
    let map = parse_index(&index, &bytes)?;
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
        &index,
        None,
        &[("missing", missing), ("unexpected", unexpected)],
    )?;
    let all: BTreeSet<&String> = map.values().collect();
    let shard = |file: &String| {
        let here = |spec: &TensorSpec| map.get(&spec.name) == Some(file);
        let places: Vec<usize> = (0..expected.len())
            .filter(|&i| here(&expected[i]))
            .collect();
        Shard {
            file: file.clone(),
            specs: places.iter().map(|&i| expected[i].clone()).collect(),
            places,
        }
    };
    Ok(Some(all.into_iter().map(shard).collect()))
}

/// What lies where weights were looked for in vain.
fn elsewhere(files: &impl Files, name: &str) -> Option<Error> {
    let names = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    let other = names.iter().find(|name| files.has(name))?;
    let problem = format!("is not there, only {other}: save the model as safetensors first");
    Some(Error::checkpoint(&files.path(name), None, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::wait;
    use crate::io::files::Folder;
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
        let listed = path(&index_of("model.safetensors"));
        let index =
            |map: &str| std::fs::write(&listed, format!("{{\"weight_map\":{{{map}}}}}")).unwrap();
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
        // what is wrong with a later file is found before the first one is read
        let two = std::fs::read(path("two")).unwrap();
        std::fs::write(path("two"), &two[..two.len() - 1]).unwrap();
        let (folder, name) = Folder::of(&whole).unwrap();
        let specs = [spec("c"), spec("a"), spec("b")];
        let mut none = |_: usize, _: usize, _: &[f32]| panic!("a value was read");
        for problem in [
            wait(read_each(&folder, name, &specs, &["spare"], &mut none)),
            wait(check_each(&folder, name, &specs, &["spare"])),
        ] {
            let problem = problem.unwrap_err().to_string();
            assert!(problem.contains("two: truncated"), "{problem}");
        }
        std::fs::write(path("two"), &two).unwrap();
        wait(check_each(&folder, name, &specs, &["spare"])).unwrap();
        // a tensor in two files, or in another one
        write(&path("two"), &["b", "a"]);
        refused("1 unexpected: a");
        write(&path("two"), &["spare"]);
        refused("1 missing: b");
        index(r#""a":"one","c":"one","x":"two""#);
        refused("1 missing: b; 1 unexpected: x");
        index(r#""a":"../one""#);
        refused("no file beside it");
        std::fs::remove_file(&listed).unwrap();
        std::fs::write(path("pytorch_model.bin"), "pickle").unwrap();
        refused("save the model as safetensors");
        // one file is read alone
        index(good);
        write(&whole, &["a", "b", "c"]);
        read().unwrap();
    }
}
