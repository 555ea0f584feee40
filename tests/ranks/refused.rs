//! Ranks that are not about the same run do not start.

use std::sync::Arc;
use std::time::Duration;

use mdlm::config::TrainConfig;
use mdlm::data::{Corpus, Tokenizer};
use mdlm::device::Device;
use mdlm::progress::Silent;
use mdlm::ranks::{Ranks, each};
use mdlm::train::Trainer;
use pollster::block_on;

use crate::common::runs::{LENGTH, config, corpus};

const PATIENCE: Duration = Duration::from_secs(60);

/// What all ranks say if the last of three has these settings and this corpus.
fn refused(theirs: &TrainConfig, odd: impl Fn() -> Corpus + Sync) -> String {
    let said = each(3, PATIENCE, |ranks: Arc<dyn Ranks>| {
        let device = Device::cpu();
        let made = match ranks.rank() {
            2 => block_on(Trainer::new_among(ranks, &device, theirs, odd())),
            _ => block_on(Trainer::new_among(ranks, &device, &config(3), corpus())),
        };
        let error = made.err().unwrap();
        assert_eq!(error.code(), "ranks_differ", "{error}");
        error.to_string()
    });
    let said: Vec<String> = said.into_iter().map(Result::unwrap).collect();
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
    said[0].clone()
}

#[test]
fn what_differs_is_said() {
    let mut other = config(3);
    other.seed = 2;
    let said = refused(&other, corpus);
    let expected = "rank 2 cannot take part: its seed is 2, that of rank 0 is 1";
    assert_eq!(said, expected);
    let said = refused(&config(4), corpus);
    assert!(
        said.contains("training.steps is 4, that of rank 0 is 3"),
        "{said}"
    );

    let text = std::fs::read_to_string(crate::common::runs::repository_file("corpora/names.txt"));
    let all = text.unwrap();
    let made = |tokenizer: Tokenizer, train: &str, valid: &str| {
        Corpus::from_texts(tokenizer, &[train], &[valid], LENGTH, &mut Silent).unwrap()
    };
    let other = || {
        made(
            Tokenizer::characters(&all),
            &all[..18_100],
            &all[18_100..20_000],
        )
    };
    let said = refused(&config(3), other);
    assert!(
        said.contains("rank 2 cannot take part: its corpus is"),
        "{said}"
    );
    // as many tokens, named otherwise
    let swapped: String = all.replace('a', "\u{e4}");
    let other = || {
        let (train, valid) = all[..20_000].split_at(18_000);
        let with = |text: &str| text.replace('a', "\u{e4}");
        made(Tokenizer::characters(&swapped), &with(train), &with(valid))
    };
    let said = refused(&config(3), other);
    assert!(said.contains("its tokenizer is"), "{said}");
}

#[test]
fn other_weights_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let said = each(2, PATIENCE, |ranks: Arc<dyn Ranks>| {
        let rank = ranks.rank();
        let device = Device::cpu();
        let mut trainer =
            block_on(Trainer::new_among(ranks, &device, &config(3), corpus())).unwrap();
        if rank == 1 {
            let mut other = config(3);
            other.seed = 2;
            let other = block_on(Trainer::new(&device, &other, corpus())).unwrap();
            let model = block_on(other.model()).unwrap();
            block_on(trainer.start_from(&model)).unwrap();
        }
        let ended = block_on(trainer.run(dir.path(), &mut Silent));
        ended.unwrap_err().to_string()
    });
    for said in said {
        let expected = "rank 1 cannot take part: its weights are not those of rank 0";
        assert_eq!(said.unwrap(), expected);
    }
}
