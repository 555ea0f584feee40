//! Attention of a new token over cached keys and values.

use crate::common::case::{Case, Made, Suite};
use crate::common::close::Kernel;

#[test]
fn positions_and_widths() {
    let mut suite = Suite::new("cached_attention", Kernel::Softmax);
    for (heads, dim) in [(1, 16), (3, 32), (2, 64), (1, 128)] {
        for (batch, length) in [(1, 1), (2, 7), (3, 300)] {
            for position in [0, length / 2, length - 1] {
                // every sequence at a place of its own
                let at = |b: usize| (position + b * length / 3) % length;
                let positions: Vec<u32> = (0..batch).map(|b| at(b) as u32).collect();
                let name = format!("{batch} x {heads} x {dim}, position {position} of {length}");
                let mut case = Case::new(name);
                case.input("qkv", &[batch, 3 * heads * dim], 2.0)
                    .input("cache", &[batch, length, 2 * heads * dim], 2.0)
                    .uint("positions", &[batch], &positions);
                suite.check(&case, length.max(dim), &|g, t, _| {
                    let (qkv, at, cache) = (t["qkv"], t["positions"], t["cache"]);
                    let o = g.cached_attention("o", qkv, at, cache, heads)?;
                    let outputs = [o, cache];
                    Ok(Made::new(g, &outputs).without_gradient())
                });
            }
        }
    }
    suite.finish();
}
