//! Perplexities do not depend on how they are computed.

use mdlm::data::{Blocks, Corpus, EvalData, Tokenizer};
use mdlm::eval::{EvalConfig, EvalMode, perplexity};
use mdlm::model::Model;
use mdlm::train::Trainer;
use pollster::block_on;

use crate::case;
use crate::common::Executor;
use crate::common::runs::{config, corpus, repository_file};

fn page_model() -> Model {
    let folder = repository_file("web/model/mdlm");
    block_on(Model::load(Executor::CpuF32.shared(), folder.as_ref())).unwrap()
}

fn blocks(model: &Model, data: &EvalData) -> Blocks {
    let tokenizer = model.tokenizer().unwrap();
    Corpus::load_eval(data, tokenizer, model.length()).unwrap()
}

/// Nats a token, the mean over seeds 1 to 40.
fn over_seeds(model: &mut Model, blocks: &Blocks, batch: usize, config: EvalConfig) -> f64 {
    let of = |seed| {
        let config = EvalConfig { seed, ..config };
        let p = block_on(perplexity(model, blocks, batch, &config, |_, _| {}));
        p.unwrap().nats_per_token
    };
    (1..=40).map(of).sum::<f64>() / 40.0
}

#[test]
fn the_mean_over_seeds_is_the_same_for_every_batch_and_order() {
    let mut model = page_model();
    let stories = EvalData::new(repository_file("corpora/tinystories-valid.txt.gz"));
    let stories = blocks(&model, &stories);
    let document = |name: &str| EvalData {
        wrap: false,
        ..EvalData::new(case(&format!("eval-batch/{name}.jsonl")))
    };
    let pair = ["two", "two-reversed"].map(|name| blocks(&model, &document(name)));
    let config = |mode| EvalConfig {
        mode,
        most: 4,
        ..EvalConfig::default()
    };
    let stories_alone = over_seeds(&mut model, &stories, 1, config(EvalMode::Exact));
    let pair_alone = over_seeds(&mut model, &pair[0], 1, config(EvalMode::Exact));
    for config in [EvalMode::Exact, EvalMode::Mc].map(config) {
        let mode = config.mode;
        let four = over_seeds(&mut model, &stories, 16, config);
        let off = four - stories_alone;
        assert!(off.abs() < 0.15, "{mode:?}: {four}, {stories_alone} alone");
        for blocks in &pair {
            let two = over_seeds(&mut model, blocks, 2, config);
            let off = two - pair_alone;
            assert!(off.abs() < 0.3, "{mode:?}: {two}, {pair_alone} alone");
        }
        // and for each seed, whatever the batch
        let one = |model: &mut Model, batch| {
            let p = block_on(perplexity(model, &stories, batch, &config, |_, _| {}));
            p.unwrap().nats_per_token
        };
        let alone = one(&mut model, 1);
        for batch in [3, 4, 64] {
            let nats = one(&mut model, batch);
            assert!(
                (nats / alone - 1.0).abs() < 1e-5,
                "batch {batch}: {nats} {alone}"
            );
        }
    }
}

#[test]
fn validation_does_not_depend_on_the_batch_of_training() {
    for most in [4, 17] {
        let validate = |batch| {
            let mut config = config(1);
            (config.training.batch, config.training.val_blocks) = (batch, most);
            let device = Executor::CpuF32.shared();
            let mut trainer = block_on(Trainer::new(device, &config, corpus())).unwrap();
            block_on(trainer.validate(|_, _| {})).unwrap()
        };
        let alone = validate(1);
        for batch in [4, 16, 64] {
            let p = validate(batch);
            assert!((p.nats_per_token / alone.nats_per_token - 1.0).abs() < 1e-5);
            assert_eq!(p.tokens, alone.tokens);
        }
    }
}

#[test]
fn a_document_in_its_own_block_has_its_end() {
    let tokenizer = page_model().tokenizer().unwrap().clone();
    let data = EvalData {
        wrap: false,
        insert_eos: false,
        ..EvalData::new(case("no-wrap-no-eos/lines.jsonl"))
    };
    let error = Corpus::load_eval(&data, &tokenizer, 64)
        .unwrap_err()
        .to_string();
    assert!(error.contains("always ends with EOS"), "{error}");
}

#[test]
fn characters_are_those_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.lines");
    let lines = [
        "“Oh”, said the naïve cat.",
        "\u{1F469}\u{200D}\u{1F680} flew away!",
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let model = page_model();
    let data = EvalData {
        wrap: false,
        ..EvalData::new(&path)
    };
    let blocks = blocks(&model, &data);
    let counted: Vec<_> = (0..2).map(|i| blocks.characters(i).unwrap()).collect();
    assert_eq!(counted, lines.map(|line| line.chars().count()));
}

#[test]
fn pads_are_no_tokens() {
    let (length, count) = (8, 4);
    let tokenizer = Tokenizer::characters("abc");
    let blocks = || Blocks::padded(length, vec![1; length * count], vec![3, 4, 5, 6], 5).unwrap();
    let corpus = Corpus::from_blocks(tokenizer, blocks(), blocks());
    let mut config = config(3);
    config.model.length = length;
    // two batches of two blocks are all four of them
    (config.training.batch, config.training.accumulation) = (2, 2);
    let mut trainer = block_on(Trainer::new(Executor::CpuF32.shared(), &config, corpus)).unwrap();
    for step in 1..=3 {
        assert_eq!(
            block_on(trainer.step()).unwrap().tokens,
            step * (3 + 4 + 5 + 6)
        );
    }
}
