//! Rotary position embedding.

use crate::common::case::{Case, Made, Suite};
use crate::common::close::Kernel;

#[test]
fn lengths_and_widths() {
    let mut suite = Suite::new("rotary", Kernel::Sum);
    for (batch, length, heads, dim) in [
        (1, 1, 1, 16),
        (3, 7, 2, 16),
        (2, 65, 3, 32),
        (1, 130, 1, 128),
        (5, 13, 3, 64),
    ] {
        let mut case = Case::new(format!(
            "batch {batch}, length {length}, {heads} heads of {dim}"
        ));
        case.param("qkv", &[batch * length, 3 * heads * dim], 1.0);
        suite.check(&case, 2, &|g, t, _| {
            let table = g.rotary_table(length, dim);
            let y = g.rotary("y", t["qkv"], table, heads)?;
            Ok(Made::new(g, &[y]))
        });
    }
    suite.finish();
}
