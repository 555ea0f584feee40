//! Activations of every layer, with and without padding.

use crate::common::Executor;
use crate::common::close::Report;
use crate::common::fixtures::Fixture;
use crate::{FIXTURES, bound};
use mdlm::model::pretrained::{Pretrained, load};
use mdlm::model::{LogitsGraph, Options, Pass, Positions, Sights};
use mdlm_engine::graph::{FORWARD, PARAMS, Session};
use mdlm_engine::program::{Element, Step};

/// The network's name of a fixture's tensor.
fn tensor_of(key: &str) -> String {
    key.replace("block.", "layer.").replace(".ff_out", ".mlp")
}

/// What a fixture ran: everything, or one of the paddings by its prefix.
struct Variant<'a> {
    prefix: &'a str,
    xt: Vec<u32>,
    mask: Option<Vec<bool>>,
    positions: Option<Vec<u32>>,
}

fn variant<'a>(fixture: &Fixture, prefix: &'a str) -> Option<Variant<'a>> {
    let find = |part: &str| fixture.find(&format!("{prefix}{part}"));
    let ids = |values: &[f64]| values.iter().map(|&x| x as u32).collect::<Vec<_>>();
    let mask = find("attention_mask").map(|m| m.iter().map(|&x| x != 0.0).collect());
    if !prefix.is_empty() && mask.is_none() {
        return None;
    }
    let xt = find("input_ids").or(fixture.get("input_ids"))?;
    Some(Variant {
        prefix,
        xt: ids(xt),
        mask,
        positions: find("position_ids").map(ids),
    })
}

/// A pass over tokens, at the times that the fixture has, if the network is told them.
fn told(fixture: &Fixture, xt: &[u32]) -> Pass {
    Pass {
        conditioning: fixture.find("t").unwrap_or_default().to_vec(),
        ..Pass::of(xt)
    }
}

pub async fn every_layer(name: &str, executor: Executor) {
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let Some(folder) = FIXTURES.folder_of(fixture.json["model_dir"].as_str().unwrap()) else {
        return;
    };
    let device = executor.shared();
    let mut model = load(device, &folder, Element::F32).await.unwrap();
    let shape = &fixture.json["tensors"]["input_ids"]["shape"];
    let [batch, length] = [0, 1].map(|i| shape[i].as_u64().unwrap() as usize);
    let mut report = Report::new(name, executor);
    for prefix in ["", "right_pad.", "left_pad."] {
        if let Some(v) = variant(&fixture, prefix) {
            check(
                &mut model,
                executor,
                &fixture,
                &v,
                [batch, length],
                &mut report,
            )
            .await;
        }
    }
    report.finish();
}

async fn check(
    model: &mut Pretrained,
    executor: Executor,
    fixture: &Fixture,
    v: &Variant<'_>,
    [batch, length]: [usize; 2],
    report: &mut Report,
) {
    let rows = batch * length;
    let options = Options {
        batch,
        length,
        positions: match v.positions {
            Some(_) => Positions::Given,
            None => Positions::Plain,
        },
        sights: match v.mask {
            Some(_) => Sights::Given { rows },
            None => Sights::Own,
        },
        keep_all: true,
        ..Options::default()
    };
    let mut pass = told(fixture, &v.xt);
    pass.positions = v.positions.clone().unwrap_or_default();
    if let Some(mask) = &v.mask {
        pass.sights = model.network.trunk.padded(mask, length);
    }
    let mut graph = LogitsGraph::new(&model.network, options).unwrap();
    let made = Session::new(
        executor.shared(),
        &mut graph.graph,
        &model.storage,
        PARAMS,
        &[],
    );
    let mut session = made.await.unwrap();
    let trunk = &*model.network.trunk;
    graph.call.write(&mut session, trunk, &pass).unwrap();
    let step = Step::default();
    let run = session.run(&mut model.storage, &step, &[FORWARD]);
    run.await.unwrap();
    let mut keys: Vec<&str> = fixture.keys().collect();
    keys.sort_unstable();
    for key in keys {
        let role = &fixture.json["tensors"][key]["role"];
        let part = key.strip_prefix(v.prefix);
        let Some(part) = part.filter(|p| role != "input" && !p.contains("_pad.")) else {
            continue;
        };
        let tensor = graph.graph.find(&tensor_of(part));
        let tensor = tensor.unwrap_or_else(|| panic!("no tensor for {key}"));
        let len = graph.graph.len(tensor);
        let got = session.read(&model.storage, tensor, len).await.unwrap();
        let mut golden = fixture.get(key).unwrap().to_vec();
        let width = len / rows;
        for row in (0..rows).filter(|&row| v.mask.as_ref().is_some_and(|mask| !mask[row])) {
            // some fixtures hold zeros where there are pads, whatever the network computes there
            let golden = &mut golden[row * width..][..width];
            if golden.iter().all(|&x| x == 0.0) {
                golden.copy_from_slice(&got[row * width..][..width]);
            }
        }
        report.relative_to_max(key, &got, &golden, bound(executor, 2e-5));
    }
}

/// Weights in half precision: the executor against the f64 twin over the same weights, as strictly as in f32, and the
/// twin against the golden numbers.
///
/// Rounding moves a weight by at most u of itself (2^-11 in f16, 2^-8 in bf16), independently of the others, so that a
/// layer's output moves by u / sqrt(3) of its size, and the layers of a path add up as roots of squares. The largest of
/// many such errors is some 4 of their deviations: 2.3 u sqrt(matrices) if the largest output were as small as their
/// deviation; norms and softmax raise an error by less than that: 4 u sqrt(matrices) for both.
pub async fn at_rest(name: &str, executor: Executor) {
    let name = name.trim_start_matches("half_");
    let Some(fixture) = FIXTURES.load(name) else {
        return;
    };
    let Some(folder) = FIXTURES.folder_of(fixture.json["model_dir"].as_str().unwrap()) else {
        return;
    };
    let Some(golden) = fixture.get("logits") else {
        return;
    };
    let mut report = Report::new(&format!("{name}, weights at rest in"), executor);
    for &(element, _) in &Element::WEIGHTS[1..] {
        let got = logits(&fixture, &folder, executor, element).await;
        let twin = logits(&fixture, &folder, Executor::CpuF64, element).await;
        let kind = format!("{element:?}");
        if executor != Executor::CpuF64 {
            report.relative_to_max(&format!("{kind} and its twin"), &got.0, &twin.0, 2e-5);
        }
        // four bits leave little of what a random network says
        if element != Element::Q4 {
            // of 32 numbers the largest is about three times a typical one
            let typical = if element == Element::Q8 { 12.0 } else { 4.0 };
            let bound = typical * element.rounding() * (got.1 as f64).sqrt();
            report.relative_to_max(&format!("{kind} and f64"), &got.0, golden, bound);
        }
    }
    report.finish();
}

/// Logits, and the number of matrices; the memory is checked to be what the layout says.
async fn logits(
    fixture: &Fixture,
    folder: &std::path::Path,
    executor: Executor,
    element: Element,
) -> (Vec<f64>, usize) {
    let mut model = load(executor.shared(), folder, element).await.unwrap();
    let shape = &fixture.json["tensors"]["input_ids"]["shape"];
    let [batch, length] = [0, 1].map(|i| shape[i].as_u64().unwrap() as usize);
    let options = Options {
        batch,
        length,
        ..Options::default()
    };
    let network = &model.network;
    let matrices =
        |key: &&mdlm_engine::graph::Key| network.layout.slabs()[key.slab].element == element;
    let keys = network.layout.keys();
    let packed = keys.iter().filter(matrices).count();
    let bytes =
        |key: &mdlm_engine::graph::Key| network.layout.slabs()[key.slab].element.bytes(key.len());
    let least: u64 = keys.iter().map(bytes).sum();
    let slabs = network.layout.slabs().iter();
    let held: u64 = slabs.map(|s| s.bytes_in(PARAMS)).sum();
    // between tensors 64 blocks at most
    let gaps = 64 * element.bytes(element.block().0) * keys.len() as u64;
    assert!(held >= least && held < least + gaps);
    let mut graph = LogitsGraph::new(network, options).unwrap();
    let outputs = [graph.logits];
    let device = executor.shared();
    let made = Session::new(device, &mut graph.graph, &model.storage, PARAMS, &outputs);
    let mut session = made.await.unwrap();
    let pass = told(fixture, &fixture.tokens("input_ids").unwrap());
    graph
        .call
        .write(&mut session, &*network.trunk, &pass)
        .unwrap();
    let step = Step::default();
    let run = session.run(&mut model.storage, &step, &[FORWARD]);
    (run.await.unwrap().to_vec(), packed)
}
