//! An operation on its own, launched and timed.

use std::sync::Arc;

use mdlm::Device;
use mdlm::blocking::wait;
use mdlm_engine::graph::FORWARD;
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::{Graph, Layout, ParamId, Session, Storage, Tensor};
use mdlm_engine::ops::TRAINING;
use mdlm_engine::ops::{BIAS1, BIAS2, LR, ROWS};
use mdlm_engine::program::{Extent, Step};

use crate::{random, time};

/// Launches of a kernel in one run, so that submission and waiting weigh little.
const REPEAT: usize = 4;

/// What a kernel runs with, beside random numbers.
pub struct Feed {
    pub step: Step,
    pub integers: Vec<(&'static str, Vec<u32>)>,
}

impl Default for Feed {
    fn default() -> Self {
        let step = Step::default()
            .with(ROWS, u32::MAX)
            .with(LR, 1e-3)
            .with(BIAS1, 0.1)
            .with(BIAS2, 0.1);
        Self {
            step,
            integers: Vec::new(),
        }
    }
}

/// Times a graph that `build` makes of one operation, repeated; milliseconds of one.
pub fn kernel(
    device: &Device,
    seconds: f64,
    layout: &Arc<Layout>,
    feed: &Feed,
    mut build: impl FnMut(&mut Graph) -> mdlm::Result<Tensor>,
) -> anyhow::Result<Vec<f64>> {
    let mut graph = Graph::new(layout.clone());
    let mut last = build(&mut graph)?;
    for _ in 1..REPEAT {
        last = build(&mut graph)?;
    }
    let mut storage = wait(Storage::new(device, layout, &TRAINING))?;
    let mut session = wait(Session::new(device, &mut graph, &storage, PARAMS, &[]))?;
    for name in ["a", "b", "w"] {
        if let Some(input) = graph.find(name) {
            session.write(input, &random(graph.len(input)))?;
        }
    }
    for (name, values) in &feed.integers {
        if let Some(input) = graph.find(name) {
            session.write_uint(input, values)?;
        }
    }
    let times = time(seconds, || {
        wait(session.run(&mut storage, &feed.step, &[FORWARD]))?;
        wait(session.read(&storage, last, 1))?;
        Ok(())
    })?;
    Ok(times.into_iter().map(|ms| ms / REPEAT as f64).collect())
}

/// An input of that name, made once for all repetitions.
pub fn input(g: &mut Graph, name: &str, shape: &[usize]) -> Tensor {
    g.find(name).unwrap_or_else(|| g.input(name, shape))
}

/// As [`input`], for integers.
pub fn integers(g: &mut Graph, name: &str, shape: &[usize]) -> Tensor {
    g.find(name).unwrap_or_else(|| g.input_uint(name, shape))
}

/// A sum of y, weighted by the input `w`, and its gradient.
pub fn differentiate(g: &mut Graph, y: Tensor) -> mdlm::Result<Tensor> {
    let n = g.len(y);
    let w = input(g, "w", &[n]);
    let loss = g.weighted_sum("loss", y, w, Extent::Fixed(n))?;
    g.backward(loss)?;
    Ok(loss)
}

/// Parameters of these shapes.
pub fn parameters(
    device: &Device,
    shapes: &[(&str, &[usize])],
) -> mdlm::Result<(Vec<ParamId>, Arc<Layout>)> {
    let mut builder = Layout::builder(device.slab_limit());
    let ids = shapes
        .iter()
        .map(|(name, shape)| builder.tensor(name, shape));
    let ids = ids.collect::<mdlm::Result<_>>()?;
    Ok((ids, Arc::new(builder.finish(|_| 0))))
}
