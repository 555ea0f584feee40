//! The samplers of published programs, token for token: every canvas of every run.

use crate::FIXTURES;
use crate::common::Executor;
use crate::common::fixtures::Fixture;
use mdlm::config::Cache;
use mdlm::model::Load;
use mdlm::{Canvas, Model, SampleConfig, SamplerKind};
use serde_json::Value;

/// A model of the fixtures without its tokenizer, so that every row of its head may be drawn as there.
async fn load(executor: Executor, name: &str, json: &Value, run: &Value) -> Option<Model> {
    let from = FIXTURES.folder_of(told(json, run, "model_dir").as_str().unwrap())?;
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.to_str().unwrap().contains("tokenizer") {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    let how = Load {
        mask: told(json, run, "mask_id").as_u64().map(|id| id as u32),
        shift: run["right_shift_logits"].as_bool(),
        block: (name == "dllm_bd3lm_sampler").then(|| number(run, "block_size").unwrap()),
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

/// A canvas as a fixture has it: what is no mask was given.
fn begun(tokens: &[u32], mask: u32) -> Canvas {
    let open = tokens
        .iter()
        .map(|&id| (Some(id).filter(|&id| id != mask), true));
    Canvas::of(open)
}

/// Samples from the first canvases of several rows on in one batch, of whatever lengths, and compares the last ones.
async fn together(model: &mut Model, what: &str, rows: &[Vec<Vec<u32>>], config: &SampleConfig) {
    let mask = model.mask_index();
    let canvases = rows.iter().map(|row| begun(&row[0], mask)).collect();
    let sampler = model.sampler_batch(canvases, config).unwrap();
    let filled = sampler
        .finish_all(|_| std::ops::ControlFlow::Continue(()))
        .await
        .unwrap();
    for (row, (filled, expected)) in filled.iter().zip(rows).enumerate() {
        let last = expected.last().unwrap();
        assert_eq!(&filled.tokens(mask), last, "{what}, row {row} in a batch");
    }
}

/// Samples from the first canvas of a row on and compares every one after it; says which ones there were.
async fn goes(
    model: &mut Model,
    fixture: &Fixture,
    run: &str,
    row: usize,
    kept: std::ops::Range<usize>,
    config: &SampleConfig,
) -> Vec<Vec<u32>> {
    let expected = canvases(fixture, run, row, kept);
    let mask = model.mask_index();
    let canvas = begun(&expected[0], mask);
    let mut sampler = model.sampler(canvas, config).unwrap();
    let mut seen = vec![expected[0].clone()];
    while sampler.step().await.unwrap().is_some() {
        seen.push(sampler.canvas().tokens(mask));
    }
    seen.dedup();
    assert_eq!(seen, expected, "{run}, row {row}");
    expected
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
        suppress: listed(&run["suppress_tokens"]),
        late: listed(&run["begin_suppress_tokens"]),
        ..SampleConfig::default()
    }
}

/// The ids of a list, or none.
fn listed(json: &Value) -> Vec<u32> {
    let ids = json.as_array().into_iter().flatten();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Runs of a fixture, by name.
fn runs(json: &Value) -> Vec<(String, Value)> {
    let runs = json["runs"].as_object().unwrap();
    runs.iter()
        .map(|(name, run)| (name.clone(), run.clone()))
        .collect()
}

/// What a run says, or else the fixture for all of them.
fn told<'a>(json: &'a Value, run: &'a Value, key: &str) -> &'a Value {
    run.get(key).unwrap_or(&json[key])
}

/// LLaDA's and Fast-dLLM's `generate`, without and with a cache. Where the network would rather write a mask (`mask_predicted`),
/// the published code leaves it there; here a token is written, so that run is not compared.
pub async fn llada(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let mut compared = 0;
    for (what, run) in runs(&fixture.json) {
        if what == "mask_predicted" {
            continue;
        }
        let Some(mut model) = load(executor, name, &fixture.json, &run).await else {
            return;
        };
        let size = |key| number(&run, key).unwrap();
        let (block, steps) = (size("block_length"), size("steps"));
        let steps = steps / (size("gen_length") / block);
        let mut config = match run["threshold"].as_f64() {
            Some(threshold) => {
                greedy(SamplerKind::THRESHOLD, 1, block, &run).with("threshold", threshold)
            }
            None => greedy(SamplerKind::CONFIDENCE, steps, block, &run),
        };
        config.cache = match run["function"].as_str() {
            Some("generate_with_prefix_cache") => Cache::Prefix,
            Some("generate_with_dual_cache") => Cache::Dual,
            _ => Cache::Exact,
        };
        let mut all = Vec::new();
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
            all.push(goes(&mut model, &fixture, &what, row, pads..length, &config).await);
            compared += 1;
        }
        together(&mut model, &what, &all, &config).await;
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
    for (what, run) in runs(&fixture.json) {
        let Some(mut model) = load(executor, name, &fixture.json, &run).await else {
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
        let mut all = Vec::new();
        for (row, prompt) in prompts.iter().enumerate() {
            let length = prompt.as_array().unwrap().len() + new;
            all.push(goes(&mut model, &fixture, &what, row, 0..length, &config).await);
            compared += 1;
        }
        together(&mut model, &what, &all, &config).await;
    }
    assert!(compared >= 2, "{compared} runs");
}

/// Dream's `diffusion_generate`, but for the run that truncates by top-p before top-k.
pub async fn dream(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    for (what, run) in runs(&fixture.json) {
        let sampler = match run["alg"].as_str().unwrap() {
            "maskgit_plus" => SamplerKind::DREAM,
            "topk_margin" => SamplerKind::DREAM_MARGIN,
            "entropy" if run.get("top_p").is_none() => SamplerKind::DREAM_ENTROPY,
            _ => continue,
        };
        let Some(mut model) = load(executor, name, &fixture.json, &run).await else {
            return;
        };
        let config = greedy(sampler, number(&run, "steps").unwrap(), 0, &run);
        let mut all = Vec::new();
        for (row, last) in run["final"].as_array().unwrap().iter().enumerate() {
            let length = last.as_array().unwrap().len();
            let pads = if what.contains("left_padded") && row == 0 {
                3
            } else {
                0
            };
            all.push(goes(&mut model, &fixture, &what, row, pads..length, &config).await);
        }
        together(&mut model, &what, &all, &config).await;
    }
}

/// dllm's sampler of block diffusion, whose keys and values are kept. Rows are padded on the left to whole blocks, and
/// blocks appended as they are begun.
pub async fn blocks(name: &str, executor: Executor) {
    let Some(json) = FIXTURES.describe(name) else {
        return;
    };
    let mut compared = 0;
    for (what, run) in runs(&json) {
        let Some(mut model) = load(executor, name, &json, &run).await else {
            return;
        };
        let [new, block] = ["max_new_tokens", "block_size"].map(|key| number(&run, key).unwrap());
        let steps = number(&run, "steps_per_block");
        let steps = steps.unwrap_or(number(&run, "steps").unwrap().div_ceil(new.div_ceil(block)));
        let tokens = listed;
        let prompts: Vec<Vec<u32>> = run["prompts"]
            .as_array()
            .unwrap()
            .iter()
            .map(tokens)
            .collect();
        let mut config = greedy(SamplerKind::SCHEDULED, steps, block, &run);
        // a row of several goes on until all have ended
        let eos = number(&run, "eos_id").filter(|_| prompts.len() == 1);
        config.ends = eos.map(|id| id as u32).into_iter().collect();
        let mask = model.mask_index();
        let mut all = Vec::new();
        for (row, prompt) in prompts.iter().enumerate() {
            let listed = run["canvases"].as_array().unwrap().iter();
            let pads = run["canvases"][0][row].as_array().unwrap().len() - prompt.len();
            let mut expected: Vec<Vec<u32>> = listed
                .map(|all| tokens(&all[row])[pads..].to_vec())
                .collect();
            assert_eq!(expected.remove(0), *prompt);
            expected.dedup();
            let canvas = Canvas::prompt(prompt, prompt.len() + new).unwrap();
            let mut finals = Vec::new();
            for cache in [Cache::Exact, Cache::Off] {
                let config = SampleConfig {
                    cache,
                    ..config.clone()
                };
                let mut sampler = model.sampler(canvas.clone(), &config).unwrap();
                let mut steps = expected.iter();
                while let Some(report) = sampler.step().await.unwrap() {
                    let expected = steps.next().unwrap();
                    let seen = sampler.canvas().tokens(mask);
                    assert_eq!(
                        seen[..expected.len()],
                        expected[..],
                        "{what}, row {row}, {cache}"
                    );
                    // every step computes its block, and the first of a block what has been filled before it besides
                    assert!(report.network_calls == report.step || cache == Cache::Exact);
                }
                assert!(steps.next().is_none(), "{what}, row {row}, {cache}");
                finals.push(sampler.canvas().clone());
                compared += 1;
            }
            let last = expected.last().unwrap();
            assert_eq!(finals[0], finals[1], "{what}, row {row}");
            assert_eq!(&finals[0].tokens(mask), last, "{what}, row {row}");
            all.push(vec![canvas.tokens(mask), last.clone()]);
        }
        together(&mut model, &what, &all, &config).await;
    }
    assert!(compared >= 12, "{compared} runs");
}
