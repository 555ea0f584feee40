//! Every sampler over real networks: what comes out is always a text of the constraint.

use std::ops::ControlFlow;
use std::path::Path;

use mdlm::config::Cache;
use mdlm::constraint::{Automaton, pattern};
use mdlm::data::Tokenizer;
use mdlm::model::Model;
use mdlm::rules::ALL;
use mdlm::{Canvas, SampleConfig, SamplerKind};
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::{load, small};

/// A name with an age, perhaps a list of pets.
const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer"},
        "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 2}
    },
    "required": ["name", "age"],
    "additionalProperties": false
}"#;

fn opened(dir: &str, executor: Executor) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    block_on(Model::load(executor.shared(), &path)).unwrap()
}

/// The text of the tokens of a canvas from `first` to `end`, up to what ends it; nothing but ends may stand behind.
fn text(tokenizer: &Tokenizer, canvas: &Canvas, first: usize, end: usize) -> String {
    let tokens = &canvas.tokens(tokenizer.mask_index())[first..end.min(canvas.len())];
    let ends: Vec<u32> = tokenizer
        .ends()
        .into_iter()
        .chain(tokenizer.pad())
        .collect();
    let at = tokens
        .iter()
        .position(|id| ends.contains(id))
        .unwrap_or(tokens.len());
    assert!(
        tokens[at..].iter().all(|id| ends.contains(id)),
        "{tokens:?}"
    );
    tokenizer.decode(&tokens[..at])
}

fn run(model: &mut Model, canvases: &[Canvas], config: &SampleConfig) -> Vec<Canvas> {
    let sampler = model.sampler_batch(canvases.to_vec(), config).unwrap();
    let mut calls = 0;
    let filled = block_on(sampler.finish_all(|report| {
        calls += 1;
        assert!(calls < 2000, "{} does not end", config.sampler.name);
        assert!(
            report
                .revealed
                .iter()
                .all(|r| r.probability > 0.0 && r.probability <= 1.0 + 1e-6)
        );
        ControlFlow::Continue(())
    }));
    let filled = filled.unwrap();
    assert!(
        filled.iter().all(|canvas| canvas.masked().is_empty()),
        "{}",
        config.sampler.name
    );
    filled
}

fn settings(sampler: SamplerKind, seed: u64) -> SampleConfig {
    let mut config = SampleConfig {
        sampler,
        seed,
        steps: 6,
        ..SampleConfig::default()
    };
    for choice in sampler.options {
        let value = match choice.key {
            "tokens_per_call" => 4.0,
            "eta" => 0.08,
            "corrections" => 4.0,
            _ => continue,
        };
        config = config.with(choice.key, value);
    }
    config
}

#[test]
fn the_pages_model_keeps_to_an_expression_and_a_schema() {
    let mut model = opened("web/model/mdlm", Executor::CpuF32);
    let tokenizer = model.tokenizer().unwrap().clone();
    let prompt = |text: &str, open: usize| {
        let mut ids = vec![tokenizer.bos()];
        ids.extend(tokenizer.encode_part(text, false, true).unwrap());
        (Canvas::prompt(&ids, ids.len() + open).unwrap(), ids.len())
    };
    let expression = " [A-Z][a-z]+( (and|or) [A-Z][a-z]+){0,3}[.!?]";
    let whole = Automaton::new(expression).unwrap();
    let valid = Automaton::new(&pattern(SCHEMA).unwrap()).unwrap();
    for (number, &sampler) in ALL.iter().enumerate() {
        let (first, begun) = prompt("Once upon a time there were", 10);
        let (second, other) = prompt("Mom met", 13);
        let config = SampleConfig {
            regex: expression.to_owned(),
            temperature: [1.0, 0.0, 0.7][number % 3],
            top_p: if number % 3 == 2 { 0.9 } else { 1.0 },
            ..settings(sampler, number as u64)
        };
        let filled = run(&mut model, &[first, second], &config);
        for (canvas, first) in filled.iter().zip([begun, other]) {
            let text = text(&tokenizer, canvas, first, usize::MAX);
            assert!(whole.accepts(&text), "{}: {text}", sampler.name);
        }
        let (canvas, first) = prompt("The answer is", 40);
        let config = SampleConfig {
            json_schema: SCHEMA.to_owned(),
            top_k: if number % 2 == 0 { 0 } else { 20 },
            block: if number % 2 == 0 { 0 } else { 8 },
            cache: if number % 4 == 1 {
                Cache::Prefix
            } else {
                Cache::Exact
            },
            ..settings(sampler, 100 + number as u64)
        };
        let filled = run(&mut model, &[canvas], &config);
        let text = text(&tokenizer, &filled[0], first, usize::MAX);
        assert!(valid.accepts(&text), "{}: {text}", sampler.name);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value["age"].is_i64() && value["name"].as_str().unwrap().chars().count() <= 6);
        if number < 3 {
            println!("{}: {text}", sampler.name);
        }
    }
}

#[test]
fn gaps_are_filled_to_the_last_token() {
    let mut model = opened("web/model/mdlm", Executor::CpuF32);
    let tokenizer = model.tokenizer().unwrap().clone();
    let template = "Tom had a [MASK:2] dog. It was [MASK].";
    for seed in 0..8 {
        let config = SampleConfig {
            regex: " (big|small|red) [a-z]+ dog\\. It was [a-z]+| [a-z]+ [a-z]+ dog\\. It was (fun|sad)".into(),
            ..settings(ALL[seed % ALL.len()], seed as u64)
        };
        let canvas = Canvas::parse(template, &tokenizer).unwrap();
        let filled = run(&mut model, std::slice::from_ref(&canvas), &config);
        let (masked, tokens) = (canvas.masked(), filled[0].tokens(tokenizer.mask_index()));
        let text = tokenizer.decode(&tokens[masked[0]..masked[masked.len() - 1] + 1]);
        assert!(
            Automaton::new(&config.regex).unwrap().accepts(&text),
            "{text}"
        );
    }
}

/// Published layouts: byte-level tokens and words with and without spaces, caches, blocks, guidance, ragged batches.
#[test]
fn published_layouts_keep_to_theirs() {
    for (dir, executor) in [
        ("llada", Executor::CpuF32),
        ("llada", Executor::Gpu),
        ("dream", Executor::CpuF32),
        ("qwen3_a2d", Executor::CpuF64),
        ("bert", Executor::CpuF32),
        ("modernbert", Executor::CpuF32),
    ] {
        let mut model = opened(&format!("tests/golden_llm/{dir}"), executor);
        let tokenizer = model.tokenizer().unwrap().clone();
        let words = tokenizer.encode("{").is_err() || dir.contains("bert");
        let prompt = tokenizer.encode("the cat").unwrap();
        let (expression, schema) = match words {
            true => ("[a-z]{3,}( [a-z]+)*( [0-9]+)?", ""),
            false => ("(the|a) [b-d]+( é|!)", SCHEMA),
        };
        for (number, &sampler) in ALL.iter().enumerate() {
            let mut lengths = [9 + number % 3, 24];
            let mut config = SampleConfig {
                regex: expression.to_owned(),
                block: [0, 5, 8][number % 3],
                cache: [Cache::Exact, Cache::Dual, Cache::Prefix][number % 3],
                guidance: if number % 4 == 3 { 0.5 } else { 0.0 },
                ..settings(sampler, number as u64)
            };
            if number % 2 == 1 && !schema.is_empty() {
                (config.regex, config.json_schema) = (String::new(), schema.to_owned());
                lengths = [50, 90];
            }
            let canvases = lengths.map(|n| Canvas::prompt(&prompt, prompt.len() + n).unwrap());
            let filled = run(&mut model, &canvases, &config);
            let automaton = config.constraint().unwrap().unwrap();
            for canvas in &filled {
                let text = text(&tokenizer, canvas, prompt.len(), usize::MAX);
                assert!(
                    automaton.accepts(&text),
                    "{dir}, {}: {text:?}",
                    sampler.name
                );
            }
        }
    }
}

#[test]
fn a_bound_canvas_becomes_what_it_becomes_alone() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(24), None);
        let canvases = [9, 17, 24].map(|n| Canvas::prompt(&[2, 1], n).unwrap());
        for (number, &sampler) in ALL.iter().enumerate() {
            let config = SampleConfig {
                regex: "(a|bc|d+e)*".to_owned(),
                temperature: 0.0,
                block: if number % 2 == 0 { 0 } else { 4 },
                ..settings(sampler, 7)
            };
            let together = run(&mut model, &canvases, &config);
            let drawn_by_chance = ["ancestral", "analytic", "first-hitting", "hybrid"]
                .contains(&sampler.name)
                || sampler.name.starts_with("remdm");
            for (number, canvas) in canvases.iter().enumerate() {
                let alone = run(&mut model, std::slice::from_ref(canvas), &config);
                // chance is keyed by the place in the batch
                if number == 0 || !drawn_by_chance {
                    assert_eq!(
                        alone[0], together[number],
                        "{} on {executor:?}",
                        sampler.name
                    );
                }
            }
        }
    }
}

/// What one sampler was held to is nothing to the next one.
#[test]
fn a_free_canvas_stays_what_it_was() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let mut model = load(executor.shared(), &small(24), None);
        let fill = |model: &mut Model, config: &SampleConfig| {
            let mut reports = Vec::new();
            let sampler = model.sampler(Canvas::open(24), config).unwrap();
            let filled = block_on(sampler.finish(|report| {
                reports.push(report.clone());
                ControlFlow::Continue(())
            }));
            (filled.unwrap(), reports)
        };
        let free = SampleConfig {
            top_p: 0.9,
            ..settings(SamplerKind::CONFIDENCE, 3)
        };
        let bound = SampleConfig {
            regex: "[a-c]*".into(),
            ..free.clone()
        };
        let before = fill(&mut model, &free);
        let held = fill(&mut model, &bound);
        assert_ne!(held.0, before.0);
        assert_eq!(fill(&mut model, &free), before, "{executor:?}");
        // from three letters and the end a draw is surer than from all
        let entropy = held
            .1
            .iter()
            .flat_map(|report| &report.revealed)
            .map(|r| r.entropy);
        assert!(entropy.fold(0.0, f64::max) <= 4f64.ln() + 1e-6);
    }
}

/// Windows over a canvas that is longer than the model.
#[test]
fn a_longer_canvas_keeps_to_it_as_a_whole() {
    let mut model = load(Executor::CpuF32.shared(), &small(8), None);
    for (seed, &sampler) in ALL.iter().enumerate() {
        let config = SampleConfig {
            regex: "(ab|cde)+".to_owned(),
            ..settings(sampler, seed as u64)
        };
        let filled = run(&mut model, &[Canvas::open(21)], &config);
        let tokenizer = crate::common::models::tokenizer();
        let text = text(&tokenizer, &filled[0], 0, 21);
        assert!(
            Automaton::new(&config.regex).unwrap().accepts(&text),
            "{}: {text}",
            sampler.name
        );
    }
}
