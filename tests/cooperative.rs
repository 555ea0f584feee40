//! Products of f16 on matrix units, against the f64 twin: on an adapter that has such units.
#![allow(clippy::unwrap_used)]

mod common;

/// Each suite's cases, for a suite of ours.
macro_rules! suites {
    ($($name:ident: $label:literal, $kernel:ident;)*) => {
        pub fn collect(suite: &mut super::suite::Suite) {
            $($name(suite);)*
        }
    };
}

#[allow(dead_code)] // the other operations
#[path = "ops/mod.rs"]
mod ops;

use common::close::Kernel;
use common::suite::Suite;
use common::{Executor, borrowed, case, suite};
use mdlm_engine::gpu::{Cooperative, DeviceClass, Tuning};
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::Norm;
use mdlm_engine::program::Element;

/// Rows that fit no tile, and sides in fours that are no multiple of the matrices' or of a slice's depth; both tiles; sums
/// in planes.
const SIZES: [[usize; 3]; 7] = [
    [1, 4, 4],
    [7, 20, 12],
    [65, 36, 20],
    [130, 64, 64],
    [513, 516, 44],
    [2051, 68, 36],
    [640, 580, 96],
];

fn products(suite: &mut Suite, sizes: &[[usize; 3]]) {
    for &[rows, n, k] in sizes {
        let mut case = case::Case::new(format!("{rows}x{n}x{k}"));
        case.param("x", &[rows, k], 2.0)
            .param("norm", &[k], 1.0)
            .param("w", &[n, k], 1.0)
            .param("b", &[n], 1.0)
            .param("out", &[4, n], 1.0);
        // the twin's are checked elsewhere
        case.differences = false;
        suite.check(&case, rows.max(n).max(k), &|g: &mut Graph, t, _| {
            g.set_precision(Element::F16);
            let h = g.norm("h", t["x"], Norm::layer(t["norm"]))?;
            let y = g.linear("y", h, t["w"], Some(t["b"]))?;
            g.set_precision(Element::F32);
            let z = g.linear("z", y, t["out"], None)?;
            Ok(case::Made::new(g, &[z]))
        });
    }
}

/// With as many subgroups as parts, with half as many, and with twice as many. `cargo xtask test cooperative` has an
/// adapter with units, and says so.
#[test]
fn products_of_half_precision() {
    if !borrowed::has_units() {
        assert!(
            std::env::var_os("MDLM_UNITS").is_none(),
            "there are no matrix units"
        );
        println!("this adapter has no matrix units: nothing was multiplied on them");
        return;
    }
    let mut suite = Suite::on("matrix units", Kernel::Half, &[Executor::Cooperative(8)]);
    products(&mut suite, &SIZES);
    ops::half::branches(&mut suite);
    suite.finish();
    let others = [4, 16].map(Executor::Cooperative);
    let mut suite = Suite::on("other subgroups", Kernel::Half, &others);
    products(&mut suite, &SIZES[2..5]);
    suite.finish();
}

/// Shaders of a product in a precision, on a device with units of 16 x 16.
fn shaders(precision: Element) -> Vec<&'static str> {
    let mut graph = Graph::new(Default::default());
    let x = graph.input("x", &[64, 64]);
    let w = graph.input("w", &[64, 64]);
    graph.set_precision(precision);
    let half = graph.linear("half", x, w, None).unwrap();
    let y = graph.linear("y", half, w, None).unwrap();
    graph.keep(y);
    let units = Cooperative {
        side: 16,
        lanes: 32,
    };
    let tuning = Tuning {
        cooperative: Some(units),
        ..Tuning::of(DeviceClass::Desktop)
    };
    let sources = graph.sources(&tuning).unwrap();
    sources.iter().map(|source| source.shader.name).collect()
}

#[test]
fn products_of_f16_are_the_units() {
    assert_eq!(shaders(Element::F32), ["matmul", "matmul"]);
    assert_eq!(shaders(Element::F16), ["matmul", "matmul_cooperative"]);
}
