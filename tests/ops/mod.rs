//! One file an operation: `suites!` lists its suites of cases, each a name, what it is called in reports and the kind of
//! kernel that bounds its errors. `tests/ops.rs` runs and checks them; `tests/common/catalogue.rs` takes the shaders of
//! their graphs. A new operation has a line in each of the two lists below.

use super::{case, suite};

mod add_rows;
mod attention;
mod categorical;
mod elementwise;
mod embedding;
mod gated;
mod gather_rows;
pub mod half;
mod head_loss;
mod linear;
mod norm;
mod roofline;
mod rotary;
mod store_rows;
mod subs;
mod weighted_sum;

/// Every case of every operation.
pub fn collect(suite: &mut suite::Suite) {
    let all = [
        add_rows::collect,
        attention::collect,
        categorical::collect,
        elementwise::collect,
        embedding::collect,
        gated::collect,
        gather_rows::collect,
        half::collect,
        head_loss::collect,
        linear::collect,
        norm::collect,
        roofline::collect,
        rotary::collect,
        store_rows::collect,
        subs::collect,
        weighted_sum::collect,
    ];
    all.into_iter().for_each(|cases| cases(suite));
}
