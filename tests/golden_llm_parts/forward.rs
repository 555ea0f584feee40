//! Activations of every layer, with and without padding.

use crate::common::Executor;
use crate::common::close::Report;
use crate::common::fixtures::Fixture;
use crate::{FIXTURES, bound};
use mdlm::graph::{FORWARD, PARAMS, Session};
use mdlm::model::pretrained::{Pretrained, load};
use mdlm::model::{LogitsGraph, Options, Pass, Positions, Sights};
use mdlm::program::{Element, Step};

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
        ..Options::default()
    };
    let mut pass = Pass::of(&v.xt);
    pass.positions = v.positions.clone().unwrap_or_default();
    if let Some(mask) = &v.mask {
        pass.sights = model.network.trunk.padded(mask, length);
    }
    let mut graph = LogitsGraph::new(&model.network, options, true).unwrap();
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
