//! What blocks compute in half precision: each operation between others that read and write f16.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::{Attend, Dropout, Modulation, Norm, Seen, inv_freq};
use mdlm_engine::program::Element;

suites! {
    products: "half precision, products", Half;
    branches: "half precision, branches", Half;
    heads: "half precision, heads", Half;
}

/// Rows of a norm, `[rows, width]`, and a step in which everything that may be is f16.
fn begin(name: String, rows: usize, width: usize) -> Case {
    let mut case = Case::new(name);
    case.param("x", &[rows, width], 2.0)
        .param("norm", &[width], 1.0);
    case
}

fn set(g: &mut Graph) {
    g.set_precision(Element::F16);
}

/// Back to f32, so that the gradient that the test begins with is not rounded before it is met.
fn end(g: &mut Graph) {
    g.set_precision(Element::F32);
}

/// Sizes of the paths of the products: prime, in fours, of large tiles, and of sums in planes. There are few, since
/// software drivers compile conversions slowly.
fn products(suite: &mut Suite) {
    for [rows, n, k] in [
        [7, 5, 3],
        [65, 36, 20],
        [513, 516, 20],
        [2051, 66, 33],
        [2048, 32, 36],
    ] {
        let mut case = begin(format!("{rows}x{n}x{k}"), rows, k);
        case.param("w", &[n, k], 1.0)
            .param("b", &[n], 1.0)
            .param("out", &[3, n], 1.0);
        case.differences = rows.max(n).max(k) < 500;
        suite.check(&case, rows.max(n).max(k), &|g, t, _| {
            set(g);
            let h = g.norm("h", t["x"], Norm::layer(t["norm"]))?;
            let y = g.linear("y", h, t["w"], Some(t["b"]))?;
            end(g);
            let z = g.linear("z", y, t["out"], None)?;
            Ok(Made::new(g, &[z]))
        });
    }
}

/// GELU between two products, and a gated residual with dropout behind them.
pub fn branches(suite: &mut Suite) {
    for [samples, sample_rows, width] in [[3, 7, 5], [2, 65, 64]] {
        let rows = samples * sample_rows;
        let name = format!("{samples} samples of {sample_rows}x{width}");
        let mut case = begin(name, rows, width);
        let stride = 3 * width + 1;
        case.param("up", &[2 * width, width], 1.0)
            .param("b", &[2 * width], 1.0)
            .param("down", &[width, 2 * width], 0.5)
            .param("modulation", &[samples, stride], 1.0);
        let at = |column: usize| Modulation {
            sample_rows,
            stride,
            column,
        };
        suite.check(&case, rows.max(2 * width), &|g, t, _| {
            set(g);
            let norm = Norm::layer(t["norm"]).modulated(Some((t["modulation"], at(0))));
            let h = g.norm("h", t["x"], norm)?;
            let [_, h] = g.linear_gelu(["u", "gelu"], h, t["up"], Some(t["b"]))?;
            let gate = Some((t["modulation"], at(2 * width)));
            let dropout = Dropout { p: 0.3, site: 5 };
            let names = ["branch", "y"];
            let [_, y] = g.linear_residual(names, h, t["down"], None, t["x"], gate, dropout)?;
            end(g);
            Ok(Made::new(g, &[y]))
        });
    }
}

/// q, k and v of a product, rotated, and attention over them: of one query, of several, of more than a block.
fn heads(suite: &mut Suite) {
    for ([batch, length, heads, dim], seen) in [
        ([2, 1, 2, 12], Seen::All),
        ([3, 7, 2, 16], Seen::All),
        ([1, 130, 2, 12], Seen::Causal),
    ] {
        let (rows, width) = (batch * length, heads * dim);
        let name = format!("batch {batch}, length {length}, {heads} heads of {dim}, {seen:?}");
        let mut case = begin(name, rows, width);
        case.param("qkv", &[3 * width, width], 0.5)
            .param("out", &[width, width], 1.0);
        // the code for hardware once
        let long = length != 7;
        suite.check_code(&case, rows.max(3 * width), long, &|g, t, _| {
            let frequencies: Vec<f64> = inv_freq(dim).map(f64::from).collect();
            let table = g.rotary_table(length, &frequencies);
            set(g);
            let h = g.norm("h", t["x"], Norm::layer(t["norm"]))?;
            let qkv = g.linear("qkv", h, t["qkv"], None)?;
            let qkv = g.rotary("rotated", qkv, table, 2 * heads, dim)?;
            let o = g.attention("o", &Attend::fused(qkv, batch, heads, dim, seen))?;
            end(g);
            let y = g.linear("y", o, t["out"], None)?;
            Ok(Made::new(g, &[y]))
        });
    }
}
