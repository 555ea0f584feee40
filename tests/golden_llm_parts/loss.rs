//! Losses of the published recipes and the gradient of every parameter.

use crate::common::Executor;
use crate::common::close::{Report, rel_l2};
use crate::common::fixtures::Fixture;
use crate::recipe::{Batch, Recipe, Share, Weights, numbers, tokens};
use crate::{FIXTURES, bound};
use mdlm::config::Recompute;
use mdlm::io::files::Folder;
use mdlm::model::pretrained::{Pretrained, load};
use mdlm::model::{Network, Options, Pass, Positions, Sights, TrainGraph, adapters};
use mdlm::objective::beside_clean;
use mdlm_engine::graph::{BACKWARD, FORWARD, GRADS, PARAMS, Session, Storage};
use mdlm_engine::ops::{AdamwConfig, PARTS, RowLoss, Rule, SEGMENTS};
use mdlm_engine::program::{Element, Step};
use serde_json::Value;
use std::path::Path;

/// The pass of a fixture and how its graph is built.
fn pass_of(fixture: &Fixture, model: &Pretrained) -> Option<(Pass, Options)> {
    let batch = Batch::of(fixture)?;
    let length = batch.length();
    let trunk = &*model.network.trunk;
    let mask = fixture.number(&["mask_id"]) as u32;
    let mut pass = Recipe::PLAIN.pass(&batch, mask, trunk.vocab_size());
    let mut options = options(&batch);
    if let Some(block) = fixture.json["block_size"].as_u64() {
        pass = beside_clean(pass, &batch.x0, length, block as usize);
        options.length = 2 * length;
        options.positions = Positions::Period(length);
        options.sights = Sights::Given { rows: 2 * length };
    } else if let Some(mask) = fixture.find("attention_mask") {
        without_pads(&mut pass, &mut options, model, mask);
    }
    if let Some(golden) = fixture.tokens("model_input_ids") {
        assert_eq!(pass.xt, golden, "the noisy tokens");
    }
    Some((pass, options))
}

fn options(batch: &Batch) -> Options {
    Options {
        batch: batch.sequences(),
        length: batch.length(),
        ..Options::default()
    }
}

/// Pads are not seen.
fn without_pads(pass: &mut Pass, options: &mut Options, model: &Pretrained, mask: &[f64]) {
    let mask: Vec<bool> = mask.iter().map(|&x| x != 0.0).collect();
    pass.sights = model.network.trunk.padded(&mask, options.length);
    options.sights = Sights::Given { rows: mask.len() };
}

pub async fn loss_and_gradients(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let Some(folder) = FIXTURES.folder_of(fixture.json["model_dir"].as_str().unwrap()) else {
        return;
    };
    let mut model = load(executor.shared(), &folder, Element::F32)
        .await
        .unwrap();
    if let Some(adapter) = fixture.json["adapter_dir"].as_str() {
        let Some(adapter) = FIXTURES.folder_of(adapter) else {
            return;
        };
        (model.network, model.storage) = adapted(executor, &model, &folder, &adapter).await;
    }
    let Some((pass, options)) = pass_of(&fixture, &model) else {
        return;
    };
    let (loss, grads) = run(&model, executor, pass.clone(), options).await;
    let options = Options {
        recompute: Recompute::Blocks,
        ..options
    };
    let again = run(&model, executor, pass, options).await;
    assert!((loss, &grads) == (again.0, &again.1), "computed again");

    let mut report = Report::new(name, executor);
    if let Some(golden) = fixture.get("loss") {
        let error = (loss / golden[0] - 1.0).abs();
        report.note("loss", error, bound(executor, 5e-6));
    }
    let (mut all, mut all_golden) = (Vec::new(), Vec::new());
    for (key, got) in model.network.layout.keys().iter().zip(grads) {
        let name = match model.network.layout.is_frozen(key) {
            true => {
                assert!(got.is_empty(), "{} is frozen", key.key);
                continue;
            }
            false if key.key.contains(".lora_") => {
                let inner = key.key.replace(".weight", ".default.weight");
                format!("grad.base_model.model.{inner}")
            }
            false => format!("grad.{}", key.key),
        };
        let Some(golden) = fixture.get(&name) else {
            continue;
        };
        report.relative_to_max(&key.key, &got, golden, bound(executor, 3e-5));
        all.extend(got);
        all_golden.extend_from_slice(golden);
    }
    let whole = rel_l2(&all, &all_golden);
    report.note("whole gradient", whole, bound(executor, 1.5e-5));
    report.finish();
}

/// The network of a model with adapters on it, and its weights.
async fn adapted(
    executor: Executor,
    model: &Pretrained,
    folder: &Path,
    adapter: &Path,
) -> (Network, Storage) {
    let device = executor.shared();
    let lora = adapters::read_config(adapter).unwrap();
    assert_eq!((lora.rank, lora.scale()), (4, 2.0));
    let trunk = model.described.trunk.clone();
    let network = Network::adapted(trunk, device.slab_limit(), Element::F32, &lora).unwrap();
    let storage = Storage::new(device, &network.layout, &[PARAMS]).await;
    let mut storage = storage.unwrap();
    let folder = Folder(folder.to_owned());
    let loaded = network.load(&folder, "model.safetensors", &mut storage);
    loaded.await.unwrap();
    let path = adapter.join(adapters::WEIGHTS);
    let loaded = adapters::load(&network, &path, &mut storage);
    loaded.await.unwrap();
    (network, storage)
}

/// The loss of a pass, and the gradient of every parameter.
async fn run(
    model: &Pretrained,
    executor: Executor,
    mut pass: Pass,
    options: Options,
) -> (f64, Vec<Vec<f64>>) {
    let device = executor.shared();
    pass.for_training(model.network.trunk.frozen_token());
    let adamw = AdamwConfig {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
    };
    let network = &model.network;
    let mut graph = TrainGraph::new(
        network,
        options,
        RowLoss::Subs,
        None,
        0.0,
        &Rule::adamw(adamw),
    )
    .unwrap();
    let arenas = &mdlm_engine::ops::TRAINING;
    let mut storage = Storage::new(device, &network.layout, arenas).await.unwrap();
    let weights = model.storage.read(PARAMS).await.unwrap();
    storage.fill(PARAMS, &weights).unwrap();
    let outputs = [graph.loss];
    let made = Session::new(device, &mut graph.graph, &storage, PARAMS, &outputs);
    let mut session = made.await.unwrap();
    let mut step = Step::default()
        .with(PARTS, pass.segments.part_count())
        .with(SEGMENTS, pass.segments.segment_count());
    graph
        .call
        .write(&mut session, &*network.trunk, &pass)
        .unwrap();
    graph.inputs.write(&mut session, &pass, &mut step).unwrap();
    session
        .write_uint(graph.inputs.list.row_of, &pass.row_of)
        .unwrap();
    let run = session.run(&mut storage, &step, &[FORWARD, BACKWARD]);
    let loss = run.await.unwrap()[0];
    (loss, storage.read(GRADS).await.unwrap())
}

/// The bound of f32, or of f64 for a golden number that is not rounded.
fn whole(executor: Executor, f32_bound: f64) -> f64 {
    match executor {
        Executor::CpuF64 => 1e-12,
        _ => f32_bound,
    }
}

/// A fixture that is JSON alone, and the model that it is about.
async fn described(name: &str, executor: Executor) -> Option<(Value, Pretrained)> {
    let json = FIXTURES.describe(name)?;
    let folder = FIXTURES.folder_of(json["model_dir"].as_str().unwrap())?;
    let model = load(executor.shared(), &folder, Element::F32).await;
    Some((json, model.unwrap()))
}

/// The losses of a recipe's other settings: weights, schedules, what the sum is divided by, rows that predict what
/// comes after them.
pub async fn variants(name: &str, executor: Executor) {
    let Some((json, model)) = described(name, executor).await else {
        return;
    };
    let id = |key: &str| json[key].as_u64().unwrap() as u32;
    let mut report = Report::new(name, executor);
    for (variant, golden) in json["variants"].as_object().unwrap() {
        let bos = variant == "pretrain_right_shift_bos";
        let (fixture, settings) = match bos {
            true => ("loss_mdlm_qwen3", "scheduler.token.linear.right_shift"),
            false => (json["batch"].as_str().unwrap(), variant.as_str()),
        };
        let Some(fixture) = FIXTURES.load(fixture) else {
            continue;
        };
        let Some(mut batch) = Batch::of(&fixture) else {
            continue;
        };
        if bos {
            batch = batch.after(id("bos_id"));
        }
        let vocab_size = model.network.trunk.vocab_size();
        let mut pass = Recipe::named(settings).pass(&batch, id("mask_id"), vocab_size);
        let mut options = options(&batch);
        if let Some(mask) = fixture.find("attention_mask") {
            without_pads(&mut pass, &mut options, &model, mask);
        }
        match bos {
            true => assert_eq!(pass.xt, tokens(&golden["model_input_ids"])),
            false => assert_eq!(pass.rows.len() as u64, golden["masked_tokens"]),
        }
        let loss = run(&model, executor, pass, options).await.0;
        let error = (loss / golden["loss"].as_f64().unwrap() - 1.0).abs();
        report.note(variant, error, whole(executor, 5e-6));
    }
    report.finish();
}

/// Dream's recipe: weights by the distance of what is known, rows that predict what comes after them.
pub async fn cart(name: &str, executor: Executor) {
    let Some((json, model)) = described(name, executor).await else {
        return;
    };
    let batch = Batch::described(&json);
    let p = json["geo_p"].as_f64().unwrap();
    let recipe = Recipe {
        weights: Weights::Cart { p },
        share: Share::Token,
        shift: true,
        ..Recipe::PLAIN
    };
    let (mask, trunk) = (json["mask_id"].as_u64().unwrap(), &*model.network.trunk);
    let pass = recipe.pass(&batch, mask as u32, trunk.vocab_size());
    assert_eq!(pass.xt, tokens(&json["model_input_ids"]));

    let mut report = Report::new(name, executor);
    let maskable = numbers(&json["labels"])
        .iter()
        .filter(|&&x| x >= 0.0)
        .count() as f64;
    let mut weights = numbers(&json["loss_weights"]);
    weights.retain(|&w| w > 0.0);
    let got: Vec<f64> = pass.weights.iter().map(|w| w * maskable).collect();
    report.relative_to_max("weights", &got, &weights, 1e-8);
    let (loss, grads) = run(&model, executor, pass, options(&batch)).await;
    let error = (loss / json["loss_f64"].as_f64().unwrap() - 1.0).abs();
    report.note("loss", error, whole(executor, 5e-6));
    let width = model.network.layout.keys()[0].shape[1];
    let frozen = trunk.frozen_token().unwrap() as usize;
    assert!(
        grads[0][frozen * width..][..width]
            .iter()
            .all(|&x| x == 0.0)
    );
    for (key, grad) in model.network.layout.keys().iter().zip(grads) {
        let golden = json["grad_l2"][&key.key].as_f64();
        let golden = golden.unwrap_or_else(|| panic!("no gradient of {}", key.key));
        let norm = grad.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = (norm / golden - 1.0).abs();
        report.note(&key.key, error, bound(executor, 1.5e-5));
    }
    report.finish();
}
