//! Attention, in both directions and causal.

use crate::common::case::{Case, Made, Suite};
use crate::common::close::Kernel;
use mdlm::rng::{Rng, Stream};

fn check(suite: &mut Suite, [batch, length, heads, dim]: [usize; 4], causal: bool) {
    let mut case = Case::new(format!(
        "batch {batch}, length {length}, {heads} heads of {dim}, causal {causal}"
    ));
    // scores up to about 8
    case.param("qkv", &[batch * length, 3 * heads * dim], 2.0);
    suite.check(&case, length.max(dim), &|g, t, _| {
        let o = g.attention("o", t["qkv"], length, heads, causal)?;
        Ok(Made::new(g, &[o]))
    });
}

/// 65 and 130: more than one block of queries and of keys, and of the twin's rows. The mask of
/// causal attention does not depend on the width: two widths do, as compiling wide heads takes a
/// software driver half a minute.
#[test]
fn lengths_and_widths() {
    let mut suite = Suite::new("attention", Kernel::Softmax);
    for length in [1, 7, 64, 65, 130] {
        let (batch, heads) = if length < 65 { (3, 2) } else { (1, 1) };
        for dim in [16, 32, 64, 128] {
            check(&mut suite, [batch, length, heads, dim], false);
        }
        for dim in [16, 32] {
            check(&mut suite, [batch, length, heads, dim], true);
        }
    }
    suite.finish();
}

#[test]
fn random_shapes() {
    let seed = 21;
    println!("seed {seed}");
    let mut suite = Suite::new("attention, random shapes", Kernel::Softmax);
    for i in 0..12 {
        let mut rng = Rng::new(seed, Stream::Shuffle, i);
        let mut below = |n| 1 + rng.below(n) as usize;
        let (batch, length, heads) = (below(3), below(140), below(3));
        check(&mut suite, [batch, length, heads, 16], i % 2 == 0);
    }
    suite.finish();
}
