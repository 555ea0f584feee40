//! Weights at rest: in half precision, in 8 and in 4 bits.

use std::sync::Arc;

use crate::common::Executor;
use crate::common::case::random;
use crate::common::close::{Kernel, Report};
use mdlm_engine::graph::{FORWARD, Graph, Key, Layout, PARAMS, Session, Storage};
use mdlm_engine::ops::{Dropout, Form};
use mdlm_engine::program::{Element, Step};
use pollster::block_on;

/// Odd sizes: every executor against the f64 twin over the same weights.
#[test]
fn weights_at_rest() {
    for executor in [Executor::Gpu, Executor::Borrowed, Executor::CpuF32] {
        let mut report = Report::new("linear, weights at rest", executor);
        for (element, _) in &Element::WEIGHTS[1..] {
            let element = *element;
            for [rows, n, k] in [
                [1, 1, 1],
                [3, 7, 5],
                [65, 67, 33],
                [2, 130, 129],
                [70, 1, 64],
                // more than the twin unpacks at a time
                [2, 1031, 37],
            ] {
                let got = at_rest(executor, element, [rows, n, k]);
                let oracle = at_rest(Executor::CpuF64, element, [rows, n, k]);
                let name = format!("{element:?} {rows}x{n}x{k}");
                let bound = Kernel::Activation.bound(k);
                report.relative_to_max(&name, &got, &oracle, bound);
            }
        }
        report.finish();
    }
}

/// A row of a table, what a layer with GELU and a residual makes of it, and a gradient that goes back through a layer,
/// all weights in an element.
fn at_rest(executor: Executor, element: Element, [rows, n, k]: [usize; 3]) -> Vec<f64> {
    let device = executor.shared();
    let mut layout = Layout::builder(device.slab_limit());
    let mut add = |name: &str, shape: &[usize]| {
        let parts = [(name.to_owned(), shape.to_vec())];
        layout.stacked(name, shape, element, &parts).unwrap()
    };
    let ids = [add("table", &[5, k]), add("w", &[n, k]), add("v", &[n, n])];
    let layout = Arc::new(layout.finish(|_| 0));
    let mut g = Graph::new(layout.clone());
    let [table, w, v] = ids.map(|id| g.param(id));
    let tokens = g.input_uint("tokens", &[rows]);
    let x = g.embedding("x", tokens, table, None).unwrap();
    let [u, h] = g.linear_gelu(["u", "h"], x, w, None).unwrap();
    let none = Dropout::default();
    let [_, y] = g
        .linear_residual(["b", "y"], h, v, None, u, None, none)
        .unwrap();
    let dy = g.matmul("dy", Form::Nn, y, v).unwrap();
    let mut storage = block_on(Storage::new(device, &layout, &[PARAMS])).unwrap();
    let values = |index: usize, key: &Key| Ok(random(index as u64, key.len(), 1.0));
    storage.write(PARAMS, values).unwrap();
    let mut session =
        block_on(Session::new(device, &mut g, &storage, PARAMS, &[x, y, dy])).unwrap();
    let ids: Vec<u32> = (0..rows as u32).map(|row| row * 3 % 5).collect();
    session.write_uint(tokens, &ids).unwrap();
    block_on(session.run(&mut storage, &Step::default(), &[FORWARD]))
        .unwrap()
        .to_vec()
}
