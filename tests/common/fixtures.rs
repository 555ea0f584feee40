//! Numbers of the reference implementation, in `tests/golden` or the folder `MDLM_GOLDEN` names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mdlm::config::{ModelConfig, ModelKind};
use mdlm::device::Device;
use mdlm::model::Backbone;
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::Storage;
use mdlm_engine::ops::{EMA, TRAINING};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A fixture: its description and its tensors, widened.
pub struct Fixture {
    pub name: String,
    pub json: Value,
    tensors: HashMap<String, Vec<f64>>,
    pub custom: bool,
}

/// A set of fixtures: its folder below `tests`, and the variable that names another one.
#[derive(Clone, Copy)]
pub struct Set {
    pub folder: &'static str,
    pub variable: &'static str,
}

/// The reference implementation's.
pub const GOLDEN: Set = Set {
    folder: "golden",
    variable: "MDLM_GOLDEN",
};

impl Set {
    /// Where it lies, and whether the user said so.
    fn place(self) -> (PathBuf, bool) {
        match std::env::var_os(self.variable) {
            Some(folder) => (folder.into(), true),
            None => {
                let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
                (tests.join(self.folder), false)
            }
        }
    }

    /// Loads a fixture. One that a folder given by the user lacks is named and `None`; an absent
    /// or empty folder, or a fixture missing from the default one, fails.
    pub fn load(self, name: &str) -> Option<Fixture> {
        let (folder, custom) = self.place();
        Fixture::read(name, &folder, custom)
    }

    /// The description of a fixture that has no tensors; one that a folder given by the user lacks is named and `None`.
    pub fn describe(self, name: &str) -> Option<Value> {
        let (folder, custom) = self.place();
        let path = folder.join(format!("{name}.json"));
        if custom && !path.exists() {
            println!("{name}: not in {}, skipped", folder.display());
            return None;
        }
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Some(serde_json::from_str(&text).unwrap())
    }

    /// A folder beside the fixtures; one that a folder given by the user lacks is named and `None`.
    pub fn folder_of(self, name: &str) -> Option<PathBuf> {
        let (folder, custom) = self.place();
        let path = folder.join(name);
        if !path.is_dir() {
            assert!(custom, "no folder {}", path.display());
            println!("{name}: not in {}, skipped", folder.display());
            return None;
        }
        Some(path)
    }
}

impl Fixture {
    /// Loads one of the reference implementation's: see [`Set::load`].
    pub fn load(name: &str) -> Option<Self> {
        GOLDEN.load(name)
    }

    fn read(name: &str, folder: &Path, custom: bool) -> Option<Self> {
        let listing =
            std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let any = listing
            .filter_map(Result::ok)
            .any(|f| f.path().extension().is_some_and(|e| e == "safetensors"));
        assert!(any, "{} holds no fixture", folder.display());
        let path = |end: &str| folder.join(format!("{name}.{end}"));
        if custom && !(path("json").exists() && path("safetensors").exists()) {
            println!("{name}: not in {}, skipped", folder.display());
            return None;
        }
        let json =
            std::fs::read_to_string(path("json")).unwrap_or_else(|e| panic!("{name}.json: {e}"));
        let bytes = std::fs::read(path("safetensors"))
            .unwrap_or_else(|e| panic!("{name}.safetensors: {e}"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(key, view)| {
                let words = view.data().as_chunks::<4>().0.iter();
                let values = match view.dtype() {
                    Dtype::U8 => view.data().iter().map(|&x| x.into()).collect(),
                    Dtype::F32 => words.map(|&w| f32::from_le_bytes(w).into()).collect(),
                    Dtype::I32 => words.map(|&w| i32::from_le_bytes(w).into()).collect(),
                    other => panic!("{key}: {other:?}"),
                };
                (key.to_owned(), values)
            })
            .collect();
        let json = serde_json::from_str(&json).unwrap();
        Some(Self {
            name: name.to_owned(),
            json,
            tensors,
            custom,
        })
    }

    /// A tensor; one that a folder given by the user lacks is named and `None`.
    pub fn get(&self, key: &str) -> Option<&[f64]> {
        let found = self.tensors.get(key).map(Vec::as_slice);
        if found.is_none() {
            assert!(self.custom, "{} has no tensor {key}", self.name);
            println!("{}: no tensor {key}, skipped", self.name);
        }
        found
    }

    /// A tensor, if the fixture has it.
    pub fn find(&self, key: &str) -> Option<&[f64]> {
        self.tensors.get(key).map(Vec::as_slice)
    }

    /// A tensor of token ids.
    pub fn tokens(&self, key: &str) -> Option<Vec<u32>> {
        Some(self.get(key)?.iter().map(|&x| x as u32).collect())
    }

    /// All tensor names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A number of the description.
    pub fn number(&self, path: &[&str]) -> f64 {
        let value = path.iter().fold(&self.json, |v, &key| &v[key]);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{}: no number {path:?}", self.name))
    }

    /// A size of the configuration.
    pub fn size(&self, key: &str) -> usize {
        self.number(&["config", key]) as usize
    }

    /// The fixture's model.
    pub fn model(&self, time_conditioning: bool) -> ModelConfig {
        ModelConfig {
            kind: ModelKind::Dit,
            vocab_size: self.size("vocab_size_with_mask"),
            mask_index: self.size("mask_index") as u32,
            hidden_size: self.size("hidden"),
            n_blocks: self.size("blocks"),
            n_heads: self.size("heads"),
            cond_dim: self.size("cond_dim"),
            length: self.size("length"),
            dropout: self.number(&["config", "dropout"]),
            time_conditioning,
            vocab_multiple: 1,
            adaln: true,
        }
    }
}

/// A checkpoint key without its prefix.
pub fn short(key: &str) -> &str {
    key.strip_prefix("backbone.").unwrap_or(key)
}

/// The fixture's model with the parameters of `params`, EMA included.
pub async fn load(
    device: &Device,
    params: &Fixture,
    time_conditioning: bool,
) -> (Backbone, Storage) {
    load_as(device, params, params.model(time_conditioning)).await
}

/// As [`load`], for another model of the same sizes.
pub async fn load_as(device: &Device, params: &Fixture, model: ModelConfig) -> (Backbone, Storage) {
    let backbone = Backbone::new(&model, device.slab_limit()).unwrap();
    let mut storage = Storage::new(device, &backbone.layout, &TRAINING)
        .await
        .unwrap();
    for arena in [PARAMS, EMA] {
        storage
            .write(arena, |_, key| {
                Ok(params.get(short(&key.key)).unwrap().to_vec())
            })
            .unwrap();
    }
    (backbone, storage)
}
