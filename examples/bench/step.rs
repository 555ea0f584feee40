//! A whole optimiser step, or a forward pass.

use mdlm::Device;
use mdlm::blocking::wait;
use mdlm::config::{NoiseConfig, ObjectiveConfig, OptimConfig};
use mdlm::model::{Backbone, LogitsGraph, Options, Pass};
use mdlm::objective;
use mdlm::objective::Clean;
use mdlm::train::TrainSession;
use mdlm_engine::graph::FORWARD;
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::{Session, Storage};
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::TRAINING;
use mdlm_engine::ops::{BIAS1, BIAS2, EMA_DECAY, LR};
use mdlm_engine::program::Step;
use mdlm_engine::rng::{Rng, Stream};
use serde_json::json;

use crate::kernels::multiply_add;
use crate::{Mode, Shape, median, number, random, row, time};

pub fn run(shape: Shape, device: &Device, seconds: f64) -> anyhow::Result<()> {
    let model = shape.model();
    let backbone = Backbone::new(&model, device.slab_limit())?;
    let mut rng = Rng::new(1, Stream::Mask, 0);
    let rows = shape.batch * shape.length;
    let x0: Vec<u32> = (0..rows)
        .map(|_| rng.below(shape.vocab as u64 - 1) as u32)
        .collect();
    let t: Vec<f64> = (0..shape.batch)
        .map(|i| (i as f64 + 0.5) / shape.batch as f64)
        .collect();
    let mask = |(i, &id): (usize, &u32)| {
        if rng.uniform() < t[i / shape.length] {
            model.mask_index
        } else {
            id
        }
    };
    let xt: Vec<u32> = x0.iter().enumerate().map(mask).collect();
    let mut storage = wait(Storage::new(device, &backbone.layout, &TRAINING))?;
    let keys = backbone.layout.keys().len();
    let mut index = 0;
    storage.write(PARAMS, |_, key| {
        index += 1;
        Ok(random(key.len())
            .iter()
            .map(|x| 0.05 * x * index as f64 / keys as f64)
            .collect())
    })?;
    let values = Step::default()
        .with(LR, 1e-5)
        .with(BIAS1, 0.1)
        .with(BIAS2, 0.1)
        .with(EMA_DECAY, 0.9);
    let (name, times, flops, report, host_ms);
    let mut ahead = Vec::new();
    if shape.mode == Mode::Train {
        let optim = OptimConfig::default();
        let mut train = wait(TrainSession::new(
            device,
            &backbone.network,
            &storage,
            &optim,
            RowLoss::Subs,
            Options::of(shape.batch, shape.length),
            None,
        ))?;
        let objective =
            objective::make(&model, &NoiseConfig::default(), &ObjectiveConfig::default())?;
        let clean = Clean {
            x0: &x0,
            attention_mask: None,
            total: rows as f64,
        };
        let batch = objective.training_passes(clean, xt, &t, None)?.remove(0);
        times = time(seconds, || {
            wait(train.run(&mut storage, &batch, values.clone(), true))?;
            Ok(())
        })?;
        host_ms = train.session().host_ms();
        // each step is given away before the last one's numbers are read
        let mut running = None;
        ahead = time(seconds, || {
            let next = wait(train.submit(&mut storage, &batch, values.clone(), true))?;
            if let Some(last) = running.replace(next) {
                wait(train.finish(last))?;
            }
            Ok(())
        })?;
        if let Some(last) = running {
            wait(train.finish(last))?;
        }
        (name, flops) = ("train_step", 3 * shape.forward_flops());
        report = train.graph.graph.report(device.class(), &TRAINING)?;
    } else {
        let options = Options::of(shape.batch, shape.length);
        let mut graph = LogitsGraph::new(&backbone.network, options)?;
        let mut session = wait(Session::new(
            device,
            &mut graph.graph,
            &storage,
            PARAMS,
            &[],
        ))?;
        let pass = Pass {
            conditioning: vec![0.0; shape.batch],
            ..Pass::of(&x0)
        };
        graph
            .call
            .write(&mut session, &*backbone.network.trunk, &pass)?;
        times = time(seconds, || {
            session.write_uint(graph.call.xt, &xt)?;
            wait(session.run(&mut storage, &values, &[FORWARD]))?;
            // a read waits for the device
            wait(session.read(&storage, graph.logits, 1))?;
            Ok(())
        })?;
        (name, flops) = ("forward", shape.forward_flops());
        report = graph.graph.report(device.class(), &[PARAMS])?;
        host_ms = session.host_ms();
    }
    let mut line = row(name, &shape.label(), device, &times, flops, 0);
    let peak = number(&multiply_add(device, seconds)?, "gflops");
    for (key, value) in [
        ("peak_fraction", json!(number(&line, "gflops") / peak)),
        ("tokens_per_s", json!(rows as f64 / median(&times) * 1e3)),
        ("dispatches", json!(report.dispatches)),
        ("moved_bytes", json!(report.moved_bytes)),
        ("least_bytes", json!(report.least_bytes)),
        ("peak_bytes", json!(report.total_bytes)),
        ("params", json!(backbone.layout.parameters())),
        ("host_ms", json!(host_ms)),
    ] {
        line[key] = value;
    }
    // of training only
    line["ahead_median_ms"] = json!((!ahead.is_empty()).then(|| median(&ahead)));
    println!("{line}");
    Ok(())
}
