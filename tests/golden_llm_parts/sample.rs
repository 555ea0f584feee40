//! The samplers of published programs, token for token: every canvas of every run.

use crate::FIXTURES;
use crate::common::Executor;
use crate::common::fixtures::Fixture;
use mdlm::model::Load;
use mdlm::{Canvas, Model, SampleConfig, SamplerKind};
use serde_json::Value;

/// A model of the fixtures without its tokenizer, so that every row of its head may be drawn as there.
async fn load(executor: Executor, fixture: &Fixture, run: &Value) -> Option<Model> {
    let from = FIXTURES.folder_of(told(fixture, run, "model_dir").as_str().unwrap())?;
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.to_str().unwrap().contains("tokenizer") {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    let how = Load {
        mask: told(fixture, run, "mask_id").as_u64().map(|id| id as u32),
        shift: run["right_shift_logits"].as_bool(),
        ..Load::default()
    };
    let model = Model::load_with(executor.shared(), dir.path(), &how);
    Some(model.await.unwrap())
}

/// The shape of a fixture's tensor.
fn size_of(fixture: &Fixture, key: &str) -> Vec<usize> {
    let shape = fixture.json["tensors"][key]["shape"].as_array().unwrap();
    shape.iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// What a row of a batch goes through alone: its canvases, each once, without pads.
fn canvases(
    fixture: &Fixture,
    run: &str,
    row: usize,
    kept: std::ops::Range<usize>,
) -> Vec<Vec<u32>> {
    let key = format!("{run}.canvas");
    let [_, rows, length] = size_of(fixture, &key)[..] else {
        panic!("{key} is no list of canvases");
    };
    let tokens = fixture.tokens(&key).unwrap();
    let of_row = tokens
        .chunks_exact(rows * length)
        .map(|all| &all[row * length..][..length]);
    let mut found: Vec<Vec<u32>> = of_row.map(|canvas| canvas[kept.clone()].to_vec()).collect();
    found.dedup();
    found
}

/// Samples from the first canvas of a row on and compares every one after it.
async fn goes(
    model: &mut Model,
    fixture: &Fixture,
    run: &str,
    row: usize,
    kept: std::ops::Range<usize>,
    config: &SampleConfig,
) {
    let expected = canvases(fixture, run, row, kept);
    let mask = model.mask_index();
    let open = expected[0]
        .iter()
        .map(|&id| (Some(id).filter(|&id| id != mask), true));
    let mut sampler = model.sampler(Canvas::of(open), config).unwrap();
    let mut seen = vec![expected[0].clone()];
    while sampler.step().await.unwrap().is_some() {
        seen.push(sampler.canvas().tokens(mask));
    }
    seen.dedup();
    assert_eq!(seen, expected, "{run}, row {row}");
}

fn number(run: &Value, key: &str) -> Option<usize> {
    run[key].as_u64().map(|x| x as usize)
}

fn greedy(sampler: SamplerKind, steps: usize, block: usize, run: &Value) -> SampleConfig {
    SampleConfig {
        sampler,
        steps,
        block,
        temperature: 0.0,
        guidance: run["cfg_scale"].as_f64().unwrap_or(0.0),
        ..SampleConfig::default()
    }
}

/// Runs of a fixture, by name.
fn runs(fixture: &Fixture) -> Vec<(String, Value)> {
    let runs = fixture.json["runs"].as_object().unwrap();
    runs.iter()
        .map(|(name, run)| (name.clone(), run.clone()))
        .collect()
}

/// What a run says, or else the fixture for all of them.
fn told<'a>(fixture: &'a Fixture, run: &'a Value, key: &str) -> &'a Value {
    run.get(key).unwrap_or(&fixture.json[key])
}

/// LLaDA's and Fast-dLLM's `generate` without a cache. Where the network would rather write a mask (`mask_predicted`),
/// the published code leaves it there; here a token is written, so that run is not compared.
pub async fn llada(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let mut compared = 0;
    for (what, run) in runs(&fixture) {
        if what == "mask_predicted" || what.contains("_cache_") && !what.starts_with("no_cache") {
            continue;
        }
        let Some(mut model) = load(executor, &fixture, &run).await else {
            return;
        };
        let size = |key| number(&run, key).unwrap();
        let (block, steps) = (size("block_length"), size("steps"));
        let steps = steps / (size("gen_length") / block);
        let config = match run["threshold"].as_f64() {
            Some(threshold) => {
                greedy(SamplerKind::THRESHOLD, 1, block, &run).with("threshold", threshold)
            }
            None => greedy(SamplerKind::CONFIDENCE, steps, block, &run),
        };
        let rows = run["final"].as_array().unwrap();
        let mask = fixture.find(&format!("{what}.attention_mask"));
        let prompt = size_of(&fixture, &format!("{what}.prompt"))[1];
        for (row, last) in rows.iter().enumerate() {
            let length = last.as_array().unwrap().len();
            let pad = |mask: &[f64]| {
                mask[row * prompt..][..prompt]
                    .iter()
                    .filter(|&&m| m == 0.0)
                    .count()
            };
            let pads = mask.map_or(0, pad);
            goes(&mut model, &fixture, &what, row, pads..length, &config).await;
            compared += 1;
        }
    }
    assert!(compared >= 2, "{compared} runs");
}

/// dllm's MDLM and Fast-dLLM samplers: rows of a batch are padded on the right. The run that suppresses some tokens
/// for their confidence alone has no counterpart.
pub async fn dllm(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let mut compared = 0;
    for (what, run) in runs(&fixture) {
        if run.get("begin_suppress_tokens").is_some() {
            continue;
        }
        let Some(mut model) = load(executor, &fixture, &run).await else {
            return;
        };
        let prompts = run["prompts"].as_array().unwrap();
        let longest = run["final"][0].as_array().unwrap().len();
        let new = number(&run, "max_new_tokens").unwrap_or(0);
        let filled = if new > 0 { new } else { longest };
        let block = number(&run, "block_size").unwrap_or(filled);
        let steps = number(&run, "steps")
            .unwrap()
            .div_ceil(filled.div_ceil(block));
        let config = match (run["threshold"].as_f64(), run["factor"].as_f64()) {
            (Some(threshold), _) => {
                greedy(SamplerKind::THRESHOLD, 1, block, &run).with("threshold", threshold)
            }
            (_, Some(factor)) => greedy(SamplerKind::FACTOR, 1, block, &run).with("factor", factor),
            _ => greedy(SamplerKind::SCHEDULED, steps, block, &run),
        };
        for (row, prompt) in prompts.iter().enumerate() {
            let length = prompt.as_array().unwrap().len() + new;
            goes(&mut model, &fixture, &what, row, 0..length, &config).await;
            compared += 1;
        }
    }
    assert!(compared >= 2, "{compared} runs");
}

/// Dream's `diffusion_generate` without what truncates or compares two probabilities.
pub async fn dream(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    for (what, run) in runs(&fixture) {
        let sampler = match run["alg"].as_str().unwrap() {
            "maskgit_plus" => SamplerKind::DREAM,
            "entropy" if run.get("top_p").is_none() => SamplerKind::DREAM_ENTROPY,
            _ => continue,
        };
        let Some(mut model) = load(executor, &fixture, &run).await else {
            return;
        };
        let config = greedy(sampler, number(&run, "steps").unwrap(), 0, &run);
        for (row, last) in run["final"].as_array().unwrap().iter().enumerate() {
            let length = last.as_array().unwrap().len();
            let pads = if what.contains("left_padded") && row == 0 {
                3
            } else {
                0
            };
            goes(&mut model, &fixture, &what, row, pads..length, &config).await;
        }
    }
}
