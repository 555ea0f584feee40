//! SiLU and the small operations of backward rules.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::Dropout;

suites! {
    silu: "silu", Activation;
    silu_of_a_shared_input: "silu, twice", Activation;
    zero: "zero", Copy;
}

fn silu(suite: &mut Suite) {
    for n in [1, 7, 255, 256, 257, 1031] {
        for scale in [3.0, 100.0] {
            let mut case = Case::new(format!("{n} up to {scale}"));
            case.param("x", &[n], scale);
            suite.check(&case, 1, &|g, t, _| {
                let y = g.silu("y", t["x"])?;
                Ok(Made::new(g, &[y]))
            });
        }
    }
}

/// The gradient of an intermediate result that two operations read: overwritten, then added to.
fn silu_of_a_shared_input(suite: &mut Suite) {
    let mut case = Case::new("17x17");
    case.param("x", &[17, 17], 1.0).param("w", &[17, 17], 1.0);
    suite.check(&case, 64, &|g, t, _| {
        let u = g.linear("u", t["x"], t["w"], None)?;
        let a = g.silu("a", u)?;
        let none = Dropout::default();
        let [_, y] = g.linear_residual(["b", "y"], a, t["w"], None, u, None, none)?;
        Ok(Made::new(g, &[y]))
    });
}

fn zero(suite: &mut Suite) {
    // more elements than one dimension of a grid holds
    for n in [1, 257, 256 * 32768 + 3] {
        let mut case = Case::new(format!("{n}"));
        case.input("x", &[n], 1.0);
        suite.check(&case, 1, &|g, t, _| {
            let y = g.silu("y", t["x"])?;
            g.zero(y)?;
            Ok(Made::new(g, &[y]).without_gradient())
        });
    }
}
