//! Constraints that cannot be met are refused before anything is computed.

use mdlm::config::ModelConfig;
use mdlm::data::Tokenizer;
use mdlm::error::Result;
use mdlm::model::Model;
use mdlm::sample::{Denoiser, DrawOptions, Drawn, Facts, Sampler};
use mdlm::{Canvas, SampleConfig};
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{load, small};
use crate::common::runs::refused;

/// A model of a large vocabulary that is never asked.
struct Silent(Facts);

impl Denoiser for Silent {
    fn facts(&self) -> Facts {
        self.0.clone()
    }

    async fn draw(&mut self, _: &[u32], _: &[f64], _: &[u32], _: &DrawOptions) -> Result<Drawn> {
        unreachable!("a constraint is refused before the first call")
    }
}

fn regex(text: &str) -> SampleConfig {
    SampleConfig {
        regex: text.to_owned(),
        ..SampleConfig::default()
    }
}

#[test]
fn constraints_that_no_canvas_meets() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    for (config, parts) in [
        (
            regex("a(b"),
            &["sampling.regex = a(b", "unclosed group"][..],
        ),
        (
            regex("[a-z]{17,}"),
            &["sampling.regex", "16 tokens", "canvas 0"],
        ),
        (regex("x"), &["sampling.regex = x", "no such text"]),
        (
            SampleConfig {
                json_schema: r#"{"type": "string"}"#.into(),
                ..SampleConfig::default()
            },
            &["sampling.json_schema", "no such text"],
        ),
        (
            SampleConfig {
                json_schema: r#"{"type": "sting"}"#.into(),
                ..SampleConfig::default()
            },
            &["sampling.json_schema", "#/type: sting"],
        ),
        (
            SampleConfig {
                json_schema: "{}".into(),
                ..regex("a")
            },
            &["sampling.json_schema", "leave one of them out"],
        ),
        (
            SampleConfig {
                suppress: vec![0],
                ..regex("a*")
            },
            &[],
        ),
        (
            SampleConfig {
                suppress: vec![5],
                ..regex("a{3}")
            },
            &["no such text"],
        ),
    ] {
        let made = model.sampler(Canvas::open(16), &config).map(|_| ());
        match parts {
            [] => made.unwrap(),
            parts => drop(refused(made, "config", parts)),
        }
    }
    // the second one is the culprit
    let canvases = vec![Canvas::open(16), Canvas::prompt(&[1; 15], 16).unwrap()];
    let made = model.sampler_batch(canvases, &regex("ab*c")).map(|_| ());
    refused(made, "config", &["canvas 1", "1 tokens"]);
    // nothing is open, so nothing is asked of it
    let full = Canvas::prompt(&[1; 16], 16).unwrap();
    model.sampler(full, &regex("ab*c")).unwrap();
}

#[test]
fn constraints_that_are_too_large() {
    let mut model = load(Executor::CpuF32.shared(), &small(16), None);
    for (text, part) in [
        ("[ab]*a[ab]{22}", "65536 states"),
        ("(?:a{1000}){100}", "65536 states"),
    ] {
        let made = model.sampler(Canvas::open(16), &regex(text)).map(|_| ());
        refused(made, "config", &["sampling.regex", part]);
    }
    let config = ModelConfig::preset("nano").unwrap();
    let config = ModelConfig {
        vocab_size: 258,
        mask_index: 257,
        ..config
    };
    // without a tokenizer there is no text
    let mut bare = block_on(Model::new(Executor::CpuF32.shared(), &config, 1)).unwrap();
    let made = bare.sampler(Canvas::open(8), &regex("a")).map(|_| ());
    refused(made, "argument", &["tokenizer"]);
    // a long text of a large vocabulary would take too long
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tokenizer = Tokenizer::from_file(&path.join("corpora/gpt2.tokenizer.json.gz")).unwrap();
    let facts = Facts {
        vocab_size: tokenizer.vocab_size(),
        mask_index: tokenizer.mask_index(),
        tokenizer: Some(tokenizer),
        ..model.facts()
    };
    let canvas = vec![Canvas::open(16)];
    let made = Sampler::new(Silent(facts), canvas, &regex("[a-z ]{0,60000}")).map(|_| ());
    refused(made, "config", &["states for 50256 tokens"]);
}
