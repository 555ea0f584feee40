//! Whole models on disk, one of each way they are kept, to be damaged.

use std::fs;
use std::path::{Path, PathBuf};

use mdlm::model::{Load, Model};
use pollster::block_on;

use crate::common::Executor;
use crate::common::gguf::{converted, q4_0};
use crate::common::models::{small, write};
use crate::common::runs::{checkpoint, config, start};

/// A file of a specimen, whole.
pub struct Content {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Where what describes it ends and numbers begin: the whole of a text.
    pub head: usize,
}

/// A whole model on disk.
pub struct Specimen {
    pub name: &'static str,
    _dir: tempfile::TempDir,
    /// What it is loaded from.
    path: PathBuf,
    pub files: Vec<Content>,
    /// Whether every byte is under a digest.
    pub digests: bool,
    how: Load,
    /// What the whole one computes.
    pub logits: Vec<f32>,
}

impl Specimen {
    /// One of each kind.
    pub fn all() -> Vec<Self> {
        let dir = || tempfile::tempdir().unwrap();
        let [ours, published, sharded, gguf] = [(); 4].map(|()| dir());
        start(Executor::CpuF32.shared(), &config(1), ours.path(), 1);
        let saved = checkpoint(ours.path(), 1);
        write(published.path(), &small(16), None);
        let fixture = |name: &str| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden_llm")
                .join(name)
        };
        for entry in fs::read_dir(fixture("llada_gqa")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // the tokenizer is no other than that of a folder that is not sharded
            if name.starts_with("model") || name == "config.json" {
                fs::copy(&path, sharded.path().join(name)).unwrap();
            }
        }
        let file = gguf.path().join("model.gguf");
        let (header, bytes) = converted(&fixture("llada"), "llada", q4_0).bytes();
        fs::write(&file, bytes).unwrap();
        let mut all = vec![
            Self::of("ours", ours, saved),
            Self::of("published", published, PathBuf::new()),
            Self::of("sharded", sharded, PathBuf::new()),
            Self::of("GGUF", gguf, file),
        ];
        all[3].files[0].head = header;
        all
    }

    fn of(name: &'static str, dir: tempfile::TempDir, path: PathBuf) -> Self {
        let path = dir.path().join(path);
        let mut paths = vec![path.clone()];
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            paths = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
        }
        let files = paths.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            let head = head(&path, &bytes);
            Content { path, bytes, head }
        });
        let mut made = Self {
            name,
            files: files.collect(),
            _dir: dir,
            path,
            digests: name == "ours",
            how: Load {
                mask: (name == "sharded").then_some(279),
                ..Load::default()
            },
            logits: Vec::new(),
        };
        let mut whole = made.load().unwrap();
        made.logits = compute(&mut whole).unwrap();
        made
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    pub fn load(&self) -> mdlm::Result<Model> {
        block_on(Model::load_with(
            Executor::CpuF32.shared(),
            &self.path,
            &self.how,
        ))
    }
}

/// Logits of a few tokens.
pub fn compute(model: &mut Model) -> mdlm::Result<Vec<f32>> {
    block_on(model.logits(&[1, 0, 2], &[0.5]))
}

/// Bytes of a file that describe it.
fn head(path: &Path, bytes: &[u8]) -> usize {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize,
        _ => bytes.len(),
    }
}
