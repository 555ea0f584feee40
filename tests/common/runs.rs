//! Small training runs, their folders, and what their errors must say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mdlm::config::{ModelConfig, Recipe, TrainConfig};
use mdlm::data::{Corpus, Tokenizer};
use mdlm::device::Device;
use mdlm::progress::{Event, Flow, Silent};
use mdlm::train::{Summary, Trainer};
use mdlm::{Error, Result};
use pollster::block_on;

/// Tokens of a sequence in the small runs.
pub const LENGTH: usize = 16;

/// A file of this repository.
pub fn repository_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    path.to_str().unwrap().to_owned()
}

/// Names, one a line, packed to blocks; a tenth is held out.
pub fn corpus() -> Corpus {
    let all = std::fs::read_to_string(repository_file("corpora/names.txt")).unwrap();
    let (train, valid) = all[..20_000].split_at(18_000);
    Corpus::from_texts(
        Tokenizer::characters(&all),
        &[train],
        &[valid],
        LENGTH,
        &mut Silent,
    )
    .unwrap()
}

/// The smallest model, with everything switched on that a resumed run could get wrong.
pub fn config(steps: u64) -> TrainConfig {
    let mut config = TrainConfig {
        model: ModelConfig {
            hidden_size: 32,
            n_blocks: 1,
            n_heads: 2,
            cond_dim: 16,
            length: LENGTH,
            dropout: 0.1,
            time_conditioning: true,
            ..ModelConfig::default()
        },
        ..TrainConfig::default()
    };
    (config.optim.recipe, config.optim.lr) = (Recipe::Reference, Some(1e-2));
    let training = &mut config.training;
    (training.steps, training.batch, training.accumulation) = (steps, 2, 2);
    (training.save_every, training.val_every, training.val_blocks) = (0, 2, 8);
    config
}

/// Runs until step `until`, or to the end.
pub fn run(trainer: &mut Trainer, dir: &Path, until: u64) -> Result<Summary> {
    block_on(trainer.run(dir, &mut |event: &Event| match event {
        Event::Step(s) if s.step >= until => Flow::Stop,
        _ => Flow::Continue,
    }))
}

/// A fresh run in `dir` that is stopped at step `until`.
pub fn start(device: &Device, config: &TrainConfig, dir: &Path, until: u64) -> Trainer {
    let mut trainer = block_on(Trainer::new(device, config, corpus())).unwrap();
    run(&mut trainer, dir, until).unwrap();
    trainer
}

/// Continues the newest whole checkpoint in `dir`.
pub fn resume(device: &Device, config: &TrainConfig, dir: &Path) -> Result<Trainer> {
    let newest = mdlm::io::checkpoint::newest_whole(dir)?.unwrap();
    block_on(Trainer::resume(device, config, corpus(), &newest))
}

/// Folder of the checkpoint after `step` steps.
pub fn checkpoint(dir: &Path, step: u64) -> PathBuf {
    dir.join(mdlm::io::checkpoint::name(step))
}

/// Every file below a folder, by its path in it.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = contents(&path).into_iter();
            found.extend(inner.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Checks that two folders hold the same files, byte by byte.
pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    assert!(!a.is_empty());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs");
    }
}

/// Checks that something was refused with the kind of error and the words that it needs.
pub fn refused<T>(result: Result<T>, code: &str, parts: &[&str]) -> Error {
    let Err(error) = result else {
        panic!("accepted, but {code} {parts:?} was expected");
    };
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    error
}
