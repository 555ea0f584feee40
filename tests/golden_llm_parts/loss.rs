//! Losses of the published recipes and the gradient of every parameter.

use crate::common::Executor;
use crate::common::close::{Report, rel_l2};
use crate::common::fixtures::Fixture;
use crate::{FIXTURES, bound};
use mdlm::model::pretrained::{Pretrained, load};
use mdlm::model::{Options, Pass, Positions, Sights, TrainGraph};
use mdlm::objective::beside_clean;
use mdlm_engine::graph::{BACKWARD, FORWARD, GRADS, PARAMS, Session, Storage};
use mdlm_engine::ops::{AdamwConfig, PARTS, RowLoss, Rule, SEGMENTS};
use mdlm_engine::program::{Element, Step};

/// Noise of the linear schedule: a position that may be masked is, with probability t, and its weight is 1 / (t + 1e-6)
/// over the number of those that may be.
fn masked(fixture: &Fixture, vocab_size: usize, length: usize) -> Option<(Pass, Vec<u32>)> {
    let mask = fixture.number(&["mask_id"]) as u32;
    let x0 = fixture.tokens("input_ids")?;
    let (labels, u_mask) = (fixture.get("labels")?, fixture.get("u_mask")?);
    let t: Vec<f64> = fixture
        .get("u_t")?
        .iter()
        .map(|u| 1e-3 + (1.0 - 1e-3) * u)
        .collect();
    let maskable = labels.iter().filter(|&&label| label != -100.0).count() as f64;
    let chosen = |row: usize| labels[row] != -100.0 && u_mask[row] < t[row / length];
    let xt = (0..x0.len()).map(|row| if chosen(row) { mask } else { x0[row] });
    let target = |row: usize| chosen(row).then(|| x0[row]);
    let mut pass = Pass::listing(&x0, xt.collect(), vocab_size, target).unwrap();
    let weight = |&row: &u32| 1.0 / (t[row as usize / length] + 1e-6) / maskable;
    pass.weights = pass.rows.iter().map(weight).collect();
    Some((pass, x0))
}

/// The pass of a fixture and how its graph is built.
fn pass_of(fixture: &Fixture, model: &Pretrained) -> Option<(Pass, Options)> {
    let shape = &fixture.json["tensors"]["input_ids"]["shape"];
    let [batch, length] = [0, 1].map(|i| shape[i].as_u64().unwrap() as usize);
    let trunk = &*model.network.trunk;
    let (mut pass, x0) = masked(fixture, trunk.vocab_size(), length)?;
    let mut options = Options {
        batch,
        length,
        ..Options::default()
    };
    if let Some(block) = fixture.json["block_size"].as_u64() {
        pass = beside_clean(pass, &x0, length, block as usize);
        options.length = 2 * length;
        options.positions = Positions::Period(length);
        options.sights = Sights::Given { rows: 2 * length };
    } else if let Some(mask) = fixture.find("attention_mask") {
        let mask: Vec<bool> = mask.iter().map(|&x| x != 0.0).collect();
        pass.sights = trunk.padded(&mask, length);
        options.sights = Sights::Given { rows: mask.len() };
    }
    if let Some(golden) = fixture.tokens("model_input_ids") {
        assert_eq!(pass.xt, golden, "the noisy tokens");
    }
    pass.for_training(trunk.frozen_token());
    Some((pass, options))
}

pub async fn loss_and_gradients(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let Some(folder) = FIXTURES.folder_of(fixture.json["model_dir"].as_str().unwrap()) else {
        return;
    };
    let device = executor.shared();
    let model = load(device, &folder, Element::F32).await.unwrap();
    let Some((pass, options)) = pass_of(&fixture, &model) else {
        return;
    };
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

    let mut report = Report::new(name, executor);
    if let Some(golden) = fixture.get("loss") {
        let error = (loss / golden[0] - 1.0).abs();
        report.note("loss", error, bound(executor, 5e-6));
    }
    let grads = storage.read(GRADS).await.unwrap();
    let (mut all, mut all_golden) = (Vec::new(), Vec::new());
    for (key, got) in network.layout.keys().iter().zip(grads) {
        let Some(golden) = fixture.get(&format!("grad.{}", key.key)) else {
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
