//! Runs on shards of several sources: a break, a cache and the number of ranks change nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mdlm::config::{DataConfig, TrainConfig};
use mdlm::data::Corpus;
use mdlm::device::Device;
use mdlm::progress::Silent;
use mdlm::ranks::{Ranks, each};
use mdlm::train::Trainer;
use pollster::block_on;

use crate::common::Executor;
use crate::common::runs::{LENGTH, assert_same, config, refused, run};

/// Two sources of two shards each, mixed.
fn data(dir: &Path, cache: &str) -> DataConfig {
    let names = include_str!("../../corpora/names.txt");
    let names: Vec<&str> = names.lines().take(1200).collect();
    let sources = ["one", "other"].map(|name| dir.join(name));
    for (i, part) in names.chunks(300).enumerate() {
        let folder = &sources[i / 2];
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(format!("{i}.lines")), part.join("\n")).unwrap();
    }
    DataConfig {
        sources: sources
            .map(|path| path.to_str().unwrap().to_owned())
            .to_vec(),
        weights: vec![3.0, 1.0],
        tokenizer: "char".to_owned(),
        cache: cache.to_owned(),
        ..DataConfig::default()
    }
}

fn settings(data: &DataConfig, steps: u64) -> TrainConfig {
    TrainConfig {
        data: data.clone(),
        ..config(steps)
    }
}

fn corpus(data: &DataConfig) -> Corpus {
    Corpus::load(data, LENGTH, &mut Silent).unwrap()
}

#[test]
fn a_mixture_goes_on_where_it_was() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| dir.path().join(name));
    let cache = dir.path().join("cache");
    let data = data(dir.path(), cache.to_str().unwrap());
    let config = settings(&data, 6);
    let begin = |out: &Path, until| {
        let mut trainer = block_on(Trainer::new(device, &config, corpus(&data))).unwrap();
        run(&mut trainer, out, until).unwrap();
    };
    begin(&whole, 6);
    begin(&broken, 3);
    let saved = mdlm::io::checkpoint::newest_whole(&broken)
        .unwrap()
        .unwrap();
    let mut trainer = block_on(Trainer::resume(device, &config, corpus(&data), &saved)).unwrap();
    run(&mut trainer, &broken, 6).unwrap();
    // but for the checkpoint of the break
    std::fs::remove_dir_all(saved).unwrap();
    assert_same(&whole, &broken);
    // another mixture is another run
    let other = DataConfig {
        weights: vec![1.0, 1.0],
        ..data.clone()
    };
    let newest = mdlm::io::checkpoint::newest_whole(&whole).unwrap().unwrap();
    let given = settings(&other, 6);
    let result = Trainer::resume(device, &given, corpus(&other), &newest);
    refused(block_on(result), "config", &["data.weights"]);
}

#[test]
fn ranks_see_what_one_sees() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path(), "");
    let part = |ranks: &Arc<dyn Ranks>, accumulation| {
        let mut config = settings(&data, 4);
        config.training.accumulation = accumulation;
        let device = Device::cpu();
        let made = Trainer::new_among(ranks.clone(), &device, &config, corpus(&data));
        let mut trainer = block_on(made).unwrap();
        let losses = (0..4).map(|_| block_on(trainer.step()).unwrap().loss);
        losses.collect::<Vec<f64>>()
    };
    let run = |size, accumulation| {
        let mut all = each(size, Duration::from_secs(60), |ranks| {
            part(&ranks, accumulation)
        });
        all.swap_remove(0).unwrap()
    };
    let (one, two) = (run(1, 4), run(2, 2));
    for (one, two) in one.iter().zip(&two) {
        assert!((one / two - 1.0).abs() < 2e-5, "{one} {two}");
    }
}
