//! Settings, text, tokens and canvases that cannot work.

use std::fs;

use mdlm::config::{DataConfig, ModelConfig, SampleConfig, TrainConfig};
use mdlm::data::{Blocks, Corpus, Tokenizer};
use mdlm::model::{Backbone, Model, Options};
use mdlm::progress::Silent;
use mdlm::sample::Canvas;
use mdlm::train::{TrainSession, Trainer};
use mdlm_engine::graph::Storage;
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::TRAINING;
use mdlm_engine::program::Step;
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{load, small, tokenizer};
use crate::common::runs::{LENGTH, config, corpus, refused};
use crate::common::training::subs_batch;

#[test]
fn unknown_keys_are_answered_with_the_known_ones() {
    let text = "[optim]\nlearning_rate = 1e-3\n";
    let parts = [
        "optim.learning_rate",
        "unknown key",
        "beta1",
        "lr",
        "warmup",
    ];
    refused(TrainConfig::from_toml(text), "config", &parts);
    let mut config = TrainConfig::default();
    refused(
        config.set("optim.lrr=1"),
        "config",
        &["optim.lrr = 1", "lr"],
    );
    refused(
        config.set("training.batch=many"),
        "config",
        &["training.batch = many", "invalid type"],
    );
    let parts = ["preset = huge", "nano, mini, tiny, small, medium"];
    refused(ModelConfig::preset("huge"), "config", &parts);
}

#[test]
fn a_trainer_names_the_setting_that_cannot_work() {
    let device = Executor::CpuF32.shared();
    let cases = [
        "training.batch=0",
        "training.accumulation=0",
        "training.steps=0",
        "optim.lr=-1",
        "model.hidden_size=40",
        "model.length=32",
        "model.length=2",
        "seed=-1",
    ];
    for case in cases {
        let mut config = config(3);
        let result = config
            .set(case)
            .and_then(|()| block_on(Trainer::new(device, &config, corpus())));
        let (key, value) = case.split_once('=').unwrap();
        // a width that no number of heads divides is the heads' fault
        let (key, value) = match key {
            "model.hidden_size" => ("model.n_heads", "2"),
            _ => (key, value),
        };
        refused(result, "config", &[&format!("config {key} = {value}")]);
    }
}

#[test]
fn text_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.txt", "abcde".repeat(100).as_bytes());
    let load = |train: &str, valid: &str, tokenizer: &str| {
        let data = DataConfig {
            train: train.to_owned(),
            valid: valid.to_owned(),
            tokenizer: tokenizer.to_owned(),
            ..DataConfig::default()
        };
        Corpus::load(&data, LENGTH, &mut Silent)
    };
    let check = |result, parts: &[&str]| drop(refused(result, "corpus", parts));
    check(
        load(&file("empty.txt", b""), "", "char"),
        &["empty.txt: the file is empty"],
    );
    check(
        load(&file("blank.txt", b"\n \n"), "", "char"),
        &["blank.txt: holds no text"],
    );
    check(
        load(&file("short.txt", b"abc"), "", "char"),
        &["short.txt", "too few for one block"],
    );
    check(
        load(&file("latin.txt", b"caf\xE9"), "", "char"),
        &["latin.txt: not UTF-8 at byte 3"],
    );
    check(
        load(&good, &file("few.txt", b"ab"), "char"),
        &["few.txt", "too few for one block"],
    );
    let foreign = file("other.txt", "abcdé".repeat(9).as_bytes());
    check(
        load(&good, &foreign, "char"),
        &["other.txt", "'é' at position 4"],
    );
    check(
        load(&good, "", &file("t.json", b"{}")),
        &["t.json", "not a tokenizer"],
    );
    check(
        load(&good, "", &file("u.json", b"{")),
        &["u.json", "not JSON"],
    );
    refused(
        load("absent.txt", "", "char"),
        "io",
        &["cannot open absent.txt"],
    );
    refused(
        load(&good, "", "absent.json"),
        "io",
        &["cannot open absent.json"],
    );
    refused(load("", "", "char"), "config", &["data.train"]);
    refused(load(&good, "", ""), "config", &["data.tokenizer"]);
    load(&good, "", "char").unwrap();

    let parts = ["'x' at position 2", "5 known"];
    refused(tokenizer().encode("abx"), "corpus", &parts);
    let wrong = br#"{"mdlm_tokenizer":"word"}"#;
    refused(
        Tokenizer::from_json(wrong),
        "corpus",
        &["tokenizer.json", "word"],
    );
    refused(
        Blocks::new(2, vec![0, 1, 2, 7], 7),
        "token",
        &["token 7 at position 3", "vocabulary size 7"],
    );
    refused(Blocks::new(3, vec![0, 1], 7), "shape", &["blocks"]);
}

#[test]
fn tokens_and_sizes_of_a_batch_are_checked() {
    let device = Executor::CpuF32.shared();
    let model = small(4);
    let x0 = [0, 1, 2, 3, 4, 5, 0, 1];
    let xt = vec![6, 1, 2, 6, 6, 5, 0, 6];
    let batch = |x0: &[u32], xt: &[u32], t: &[f64], mask: Option<&[f64]>, total: f64| {
        subs_batch(&model, x0, xt.to_vec(), t, mask, total)
    };
    let t = [0.4, 0.9];
    let parts = ["token 7 at position 1", "vocabulary size 7"];
    refused(batch(&[0, 7], &[6, 1], &[0.5], None, 2.0), "token", &parts);
    refused(batch(&[0, 1], &[6, 7], &[0.5], None, 2.0), "token", &parts);
    refused(
        batch(&x0, &xt[1..], &t, None, 8.0),
        "shape",
        &["xt", "8 tokens"],
    );
    refused(batch(&x0[1..], &xt[1..], &t, None, 8.0), "shape", &["x0"]);
    refused(batch(&x0, &xt, &[], None, 8.0), "shape", &["x0"]);
    let mask = [1.0; 7];
    refused(
        batch(&x0, &xt, &t, Some(&mask), 7.0),
        "shape",
        &["attention_mask"],
    );
    refused(
        batch(&x0, &xt, &t, Some(&[0.0; 8]), 0.0),
        "argument",
        &["batch total = 0"],
    );
    for bad in [0.0, -0.1, 1.1, f64::NAN] {
        let result = batch(&x0, &xt, &[0.5, bad], None, 8.0);
        refused(result, "argument", &[&format!("diffusion time = {bad}")]);
    }

    let backbone = Backbone::new(&model, device.slab_limit()).unwrap();
    let mut storage = block_on(Storage::new(device, &backbone.layout, &TRAINING)).unwrap();
    let optim = config(1).optim;
    for (size, length) in [(0, 4), (2, 0), (2, 5)] {
        let session = TrainSession::new(
            device,
            &backbone.network,
            &storage,
            &optim,
            RowLoss::Subs,
            Options::of(size, length),
            None,
        );
        let parts = [format!("{size} x {length}")];
        refused(block_on(session), "argument", &[&parts[0], "the model's 4"]);
    }
    let session = TrainSession::new(
        device,
        &backbone.network,
        &storage,
        &optim,
        RowLoss::Subs,
        Options::of(1, 4),
        None,
    );
    let mut session = block_on(session).unwrap();
    let whole = batch(&x0, &xt, &t, None, 8.0).unwrap();
    let half = batch(&x0[..2], &xt[..2], &t[..1], None, 2.0).unwrap();
    for wrong in [whole, half] {
        let result = block_on(session.run(&mut storage, &wrong, Step::default(), true));
        refused(result, "shape", &["batch", "expected 4 tokens"]);
    }
}

#[test]
fn tokens_and_sizes_of_logits_are_checked() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(4), None);
        let mut logits = |xt: &[u32], sigma: &[f64]| block_on(model.logits(xt, sigma));
        let parts = ["token 9 at position 2", "vocabulary size 7"];
        refused(logits(&[0, 1, 9], &[0.5]), "token", &parts);
        refused(
            logits(&[0; 5], &[0.5]),
            "argument",
            &["1 x 5", "the model's 4"],
        );
        refused(logits(&[0; 5], &[0.5, 0.5]), "shape", &["xt"]);
        refused(logits(&[], &[0.5]), "shape", &["xt"]);
        refused(logits(&[0, 1], &[]), "shape", &["xt"]);
        assert_eq!(logits(&[0, 6, 5], &[0.5]).unwrap().len(), 21);
    }
    let wrong = ModelConfig {
        n_heads: 0,
        ..small(4)
    };
    let model = Model::new(Executor::CpuF32.shared(), &wrong, 1);
    refused(block_on(model), "config", &["model.n_heads = 0"]);
}

#[test]
fn canvases_that_cannot_be_filled_are_refused() {
    let mut model = load(Executor::CpuF32.shared(), &small(8), None);
    let mut batch = |canvases: &[usize], stride| {
        let canvases = canvases.iter().map(|&n| Canvas::open(n)).collect();
        let config = SampleConfig {
            stride,
            ..SampleConfig::default()
        };
        model.sampler_batch(canvases, &config).map(|_| ())
    };
    batch(&[8, 8], 0).unwrap();
    batch(&[9], 0).unwrap();
    batch(&[8], 20).unwrap();
    refused(batch(&[], 0), "argument", &["canvases = 0"]);
    batch(&[8, 7], 0).unwrap();
    let parts = ["canvas length = 9", "takes 8", "as long"];
    refused(batch(&[9, 7], 0), "argument", &parts);
    let parts = ["sampling.stride = 8", "1..8", "canvas of 9"];
    refused(batch(&[9], 8), "config", &parts);
    let mut sampler = |canvas: Canvas, steps| {
        let config = SampleConfig {
            steps,
            ..SampleConfig::default()
        };
        model.sampler(canvas, &config).map(|_| ())
    };
    sampler(Canvas::open(8), 4).unwrap();
    refused(
        sampler(Canvas::open(0), 4),
        "argument",
        &["canvas length = 0"],
    );
    refused(
        sampler(Canvas::open(8), 0),
        "config",
        &["sampling.steps = 0"],
    );
    let canvas = Canvas::prompt(&[0, 1, 12], 8).unwrap();
    refused(sampler(canvas, 4), "token", &["token 12 at position 2"]);
    let canvas = Canvas::prompt(&[0, 6], 8).unwrap();
    refused(
        sampler(canvas, 4),
        "argument",
        &["canvas position = 1", "mask"],
    );
    let parts = ["prompt = 3", "canvas of 2"];
    refused(Canvas::prompt(&[0, 1, 2], 2), "argument", &parts);

    let mut canvas = Canvas::prompt(&[0, 1], 4).unwrap();
    let before = canvas.clone();
    refused(
        canvas.freeze(1..3),
        "argument",
        &["1..3", "masked position"],
    );
    refused(canvas.freeze(0..5), "argument", &["0..5", "canvas of 4"]);
    refused(canvas.reopen(4..6), "argument", &["4..6", "canvas of 4"]);
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let backwards = 3..1;
    refused(canvas.reopen(backwards), "argument", &["3..1"]);
    refused(canvas.reopen(0..usize::MAX), "argument", &["canvas of 4"]);
    assert_eq!(canvas, before);
}
