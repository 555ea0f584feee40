//! The tokens that a sampler allows, against all texts of a small vocabulary.

use std::ops::ControlFlow;

use mdlm::data::Tokenizer;
use mdlm::error::Result;
use mdlm::rules::{ALL, Draw};
use mdlm::sample::{Canvas, Denoiser, DrawOptions, Drawn, Facts, Sampler};
use mdlm::{SampleConfig, SamplerKind};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;
use serde_json::json;

/// Letters, a word of two of them, two halves of é, and a token of one and a half characters; then what ends a text.
fn tokenizer() -> Tokenizer {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "added_tokens": [{"id": 6, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "merges": [],
            "vocab": {"a": 0, "b": 1, "ab": 2, "Ã": 3, "©": 4, "aÃ": 5, "<|endoftext|>": 6}},
    });
    Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
}

const BYTES: [&[u8]; 6] = [b"a", b"b", b"ab", &[0xC3], &[0xA9], &[b'a', 0xC3]];
const END: u32 = 6;
const MASK: u32 = 7;

/// All fillings of `length` positions that are a text of the expression, ends behind it.
fn fillings(pattern: &str, length: usize, may_end: bool, drawn: &[u32]) -> Vec<Vec<u32>> {
    let whole = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    let base = drawn.len();
    let filling = |mut index: usize| -> Vec<u32> {
        let digit = |_| {
            let digit = index % base;
            index /= base;
            drawn[digit]
        };
        (0..length).map(digit).collect()
    };
    let fits = |tokens: &Vec<u32>| {
        let end = tokens.iter().position(|&id| id == END).unwrap_or(length);
        let bytes: Vec<u8> = tokens[..end]
            .iter()
            .flat_map(|&id| BYTES[id as usize])
            .copied()
            .collect();
        let ended = tokens[end..].iter().all(|&id| id == END) && (may_end || end == length);
        ended && String::from_utf8(bytes).is_ok_and(|text| whole.is_match(&text))
    };
    (0..base.pow(length as u32))
        .map(filling)
        .filter(fits)
        .collect()
}

/// A denoiser that draws any of the allowed tokens, after checking that they are those that lead to a filling.
struct Spy {
    tokenizer: Tokenizer,
    start: usize,
    fillings: Vec<Vec<u32>>,
    rng: Rng,
    rows: usize,
}

impl Denoiser for Spy {
    fn facts(&self) -> Facts {
        Facts {
            vocab_size: 8,
            mask_index: MASK,
            length: 16,
            schedule: mdlm::process::Schedule::default(),
            parameterization: mdlm::config::Parameterization::Subs,
            hybrid: None,
            autoregressive: false,
            blocks: None,
            tokenizer: Some(self.tokenizer.clone()),
        }
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        _: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        assert_eq!(options.allowed.rows(), rows.len());
        let agrees = |filling: &&Vec<u32>| {
            let written = xt[self.start..].iter().zip(filling.iter());
            written
                .into_iter()
                .all(|(x, token)| *x == MASK || x == token)
        };
        let left: Vec<_> = self.fillings.iter().filter(agrees).collect();
        let mut draws = Vec::new();
        for (i, &row) in rows.iter().enumerate() {
            let at = row as usize - self.start;
            let mut tokens: Vec<u32> = left.iter().map(|filling| filling[at]).collect();
            tokens.sort_unstable();
            tokens.dedup();
            let allowed: Vec<u32> = (0..8).filter(|&id| options.allowed.allows(i, id)).collect();
            match xt[row as usize] {
                MASK => assert_eq!(allowed, tokens, "position {row} of {xt:?}"),
                token => assert!(allowed.contains(&token), "position {row} of {xt:?}"),
            }
            self.rows += 1;
            draws.push(Draw {
                token: tokens[self.rng.below(tokens.len() as u64) as usize],
                probability: self.rng.uniform(),
                entropy: self.rng.uniform(),
                log_total: 2.0,
                margin: self.rng.uniform(),
                drift: self.rng.uniform(),
                stood: Some(xt[row as usize]).filter(|&token| token != MASK),
            });
        }
        Ok(Drawn { draws, calls: 1 })
    }
}

/// Fills a canvas by a sampler and checks every set on the way, and what comes out.
fn check(
    pattern: &str,
    before: &[u32],
    length: usize,
    behind: &[u32],
    sampler: SamplerKind,
    seed: u64,
) -> usize {
    let config = SampleConfig {
        sampler,
        seed,
        steps: 3,
        regex: pattern.to_owned(),
        suppress: if seed % 3 == 2 {
            vec![0, 4]
        } else {
            Vec::new()
        },
        ..SampleConfig::default()
    };
    let drawn: Vec<u32> = (0..7).filter(|id| !config.suppress.contains(id)).collect();
    let may_end = behind.iter().all(|&id| id == END);
    let spy = Spy {
        tokenizer: tokenizer(),
        start: before.len(),
        fillings: fillings(pattern, length, may_end, &drawn),
        rng: Rng::new(seed, Stream::Init, 0),
        rows: 0,
    };
    let fillings = spy.fillings.clone();
    let frozen = |ids: &[u32]| Canvas::of(ids.iter().map(|&id| (Some(id), true)));
    let mut canvas = frozen(before);
    canvas.append(Canvas::open(length));
    canvas.append(frozen(behind));
    let made = Sampler::new(spy, vec![canvas], &config);
    if fillings.is_empty() {
        let error = made.map(drop).unwrap_err();
        assert!(error.to_string().contains("no such text"), "{error}");
        return 0;
    }
    let mut sampler = made.unwrap();
    let mut steps = 0;
    while block_on(sampler.step()).unwrap().is_some() {
        steps += 1;
        assert!(
            steps < 200,
            "{pattern} does not end under {}",
            config.sampler.name
        );
    }
    let (spy, canvases) = sampler.into_parts();
    let tokens = canvases[0].tokens(MASK);
    let written = &tokens[before.len()..][..length];
    assert!(
        fillings.iter().any(|filling| filling == written),
        "{pattern}: {tokens:?}"
    );
    spy.rows
}

#[test]
fn allowed_are_the_tokens_that_lead_to_a_text() {
    let patterns = [
        "(ab)*",
        "a*b?",
        "[ab]*é",
        "é+",
        ".*",
        "(a|é){3}",
        "a?b?a?",
        "(aa|bab|ébé)+",
        "b",
        "(a|)",
        "a{6,9}",
        "[^a]*",
    ];
    let mut rows = 0;
    for (i, pattern) in patterns.into_iter().cycle().take(24).enumerate() {
        for (j, &sampler) in ALL.iter().enumerate() {
            let seed = (31 * i + j) as u64;
            for (before, behind) in [
                (&[][..], &[][..]),
                (&[0, 3], &[END]),
                (&[END, 1], &[1, END]),
            ] {
                rows += check(pattern, before, 1 + (i + j) % 5, behind, sampler, seed);
            }
        }
    }
    println!("{rows} sets");
    assert!(rows > 3000);
}

#[test]
fn what_stands_between_gaps_counts() {
    // a gap, "b", a gap: the stretch is all three
    let config = |regex: &str| SampleConfig {
        regex: regex.to_owned(),
        ..SampleConfig::default()
    };
    let between = || {
        Canvas::of([
            (Some(0), true),
            (None, false),
            (Some(1), true),
            (None, false),
            (None, false),
        ])
    };
    let fill = |regex: &str| -> Result<Vec<u32>> {
        let all = fillings(regex, 4, true, &[0, 1, 2, 3, 4, 5, END]);
        let spy = Spy {
            tokenizer: tokenizer(),
            start: 1,
            fillings: all,
            rng: Rng::new(5, Stream::Init, 0),
            rows: 0,
        };
        let sampler = Sampler::new(spy, vec![between()], &config(regex))?;
        Ok(block_on(sampler.finish(|_| ControlFlow::Continue(())))?.tokens(MASK))
    };
    let tokens = fill("abab").unwrap();
    assert_eq!(tokens[..3], [0, 0, 1]);
    assert!(
        [[2, END], [0, 1]].contains(&[tokens[3], tokens[4]]),
        "{tokens:?}"
    );
    assert!(fill("aab").is_err());
}
