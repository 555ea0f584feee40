//! What a constraint costs on the host: its automaton over a vocabulary, and the sets of each step.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mdlm::blocking::wait;
use mdlm::config::Parameterization;
use mdlm::process::Schedule;
use mdlm::rules::Draw;
use mdlm::sample::{Denoiser, DrawOptions, Drawn, Facts, Sampler};
use mdlm::{Canvas, Result, SampleConfig, SamplerKind, Tokenizer};
use mdlm_engine::rng::{Rng, Stream};
use serde_json::{Value, json};

use crate::support;

/// The vocabulary and the canvas.
#[derive(clap::Args)]
pub struct Options {
    /// A tokenizer.json, plain or packed, instead of a made-up vocabulary.
    #[arg(long)]
    tokenizer: Option<String>,
    /// Ids of a made-up byte-level vocabulary.
    #[arg(long, default_value_t = 126_000, value_parser = clap::value_parser!(u32).range(512..=1_000_000))]
    vocab: u32,
    /// Open positions.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    length: u32,
}

const PERSON: &str = r#"{"type": "object", "properties": {
    "name": {"type": "string"}, "email": {"type": "string", "pattern": "^[a-z.]+@[a-z]+\\.[a-z]{2,3}$"},
    "age": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"enum": ["Rome", "Paris"]}},
        "required": ["street"]}}, "required": ["name", "age", "tags"]}"#;

/// What texts must be.
fn constraints() -> [(&'static str, SampleConfig); 5] {
    let regex = |text: &str| SampleConfig {
        regex: text.to_owned(),
        ..SampleConfig::default()
    };
    let schema = |text: &str| SampleConfig {
        json_schema: text.to_owned(),
        ..SampleConfig::default()
    };
    [
        ("a date", regex("[0-9]{4}-[0-9]{2}-[0-9]{2}")),
        ("sentences", regex("([A-Z][a-z]*( [a-z]+)*[.!?] ?)+")),
        ("an object of five properties", schema(PERSON)),
        (
            "a string of at most 200",
            schema(r#"{"type": "string", "maxLength": 200}"#),
        ),
        ("any object", schema(r#"{"type": "object"}"#)),
    ]
}

/// A vocabulary of that many tokens: bytes, then words, numbers and marks as real ones have them.
fn made_up(size: u32) -> Result<Tokenizer> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut hidden = 0x100;
    let letters: Vec<char> = (0..=u8::MAX)
        .map(|byte| match printable(&byte) {
            true => char::from(byte),
            false => {
                hidden += 1;
                char::from_u32(hidden - 1).unwrap_or(' ')
            }
        })
        .collect();
    let mut names: Vec<String> = letters.iter().map(char::to_string).collect();
    let mut known: HashSet<String> = names.iter().cloned().collect();
    let mut rng = Rng::new(1, Stream::Init, 0);
    while names.len() < size as usize - 1 {
        let count = 1 + rng.below(9);
        let kind = rng.below(20);
        let letter = |rng: &mut Rng| match kind {
            0 => char::from(b'0' + rng.below(10) as u8),
            1 => char::from(b"{}[]\":,.-_ "[rng.below(10) as usize]),
            2 => letters[128 + rng.below(128) as usize],
            _ => char::from(b'a' + rng.below(26) as u8),
        };
        let mut name: String = (0..count).map(|_| letter(&mut rng)).collect();
        if rng.below(2) == 0 {
            name.insert(0, letters[usize::from(b' ')]);
        }
        if known.insert(name.clone()) {
            names.push(name);
        }
    }
    let end = "<|endoftext|>";
    names.push(end.to_owned());
    let id = names.len() - 1;
    let vocab: serde_json::Map<String, Value> = names
        .into_iter()
        .enumerate()
        .map(|(id, name)| (name, id.into()))
        .collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "added_tokens": [{"id": id, "content": end, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "merges": [], "vocab": vocab},
    });
    Tokenizer::from_json(json.to_string().as_bytes())
}

/// A denoiser that takes any allowed token, and notes how long that takes.
struct Chance {
    tokenizer: Tokenizer,
    rng: Rng,
    spent: Duration,
}

impl Denoiser for Chance {
    fn facts(&self) -> Facts {
        Facts {
            vocab_size: self.tokenizer.vocab_size(),
            mask_index: self.tokenizer.mask_index(),
            length: 1 << 16,
            schedule: Schedule::default(),
            parameterization: Parameterization::Subs,
            hybrid: None,
            autoregressive: false,
            blocks: None,
            tokenizer: Some(self.tokenizer.clone()),
        }
    }

    async fn draw(
        &mut self,
        _: &[u32],
        _: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let begin = Instant::now();
        let ids = self.tokenizer.vocab_size() as u32;
        let mut draws = Vec::new();
        for row in 0..rows.len() {
            let start = self.rng.below(u64::from(ids)) as u32;
            let allowed = |id: &u32| options.allowed.allows(row, *id);
            let token = (start..ids).chain(0..start).find(allowed);
            draws.push(Draw {
                token: token.unwrap_or(0),
                probability: self.rng.uniform(),
                entropy: 1.0,
                log_total: 0.0,
                margin: 0.5,
                drift: 0.0,
                stood: None,
            });
        }
        self.spent += begin.elapsed();
        Ok(Drawn { draws, calls: 1 })
    }
}

/// Prints a line for each constraint: milliseconds until the sampler is ready, and of a step without its network call.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::from_spec(&support::find(path), "")?,
        None => made_up(options.vocab)?,
    };
    let ms = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    let begin = Instant::now();
    tokenizer.vocabulary()?;
    let line = json!({"name": "vocabulary", "ids": tokenizer.ids(), "once_ms": ms(begin)});
    println!("{line}");
    for (name, config) in constraints() {
        let config = SampleConfig {
            sampler: SamplerKind::CONFIDENCE,
            steps: 32,
            ..config
        };
        let begin = Instant::now();
        let chance = Chance {
            tokenizer: tokenizer.clone(),
            rng: Rng::new(2, Stream::Init, 0),
            spent: Duration::ZERO,
        };
        let canvas = Canvas::open(options.length as usize);
        let mut sampler = Sampler::new(chance, vec![canvas], &config)?;
        let ready = ms(begin);
        let mut steps = Vec::new();
        loop {
            let begin = Instant::now();
            let more = wait(sampler.step())?.is_some();
            if !more {
                break;
            }
            steps.push(ms(begin));
        }
        let (chance, canvases) = sampler.into_parts();
        let drawing = chance.spent.as_secs_f64() * 1e3 / steps.len() as f64;
        let mean = steps.iter().sum::<f64>() / steps.len() as f64 - drawing;
        let text = canvases[0].text(&tokenizer);
        let shown: String = text.chars().take(60).collect();
        let line = json!({
            "name": name, "ids": tokenizer.ids(), "length": options.length, "ready_ms": ready, "steps": steps.len(),
            "step_ms": mean, "text": shown,
        });
        println!("{line}");
    }
    Ok(())
}
