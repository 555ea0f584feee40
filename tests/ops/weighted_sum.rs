//! The weighted sum at the end of a loss.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::ROWS;
use mdlm_engine::program::Extent;

suites! {
    fixed_and_dynamic: "weighted_sum", Sum;
    scaled_and_summed: "weighted_sum, scaled and summed", Sum;
}

fn fixed_and_dynamic(suite: &mut Suite) {
    for n in [1, 7, 255, 256, 257, 5003] {
        let mut case = Case::new(format!("{n}"));
        case.param("x", &[n], 1.0).input("w", &[n], 1.0);
        suite.check(&case, n, &|g, t, _| {
            let y = g.weighted_sum("y", t["x"], t["w"], Extent::Fixed(n))?;
            Ok(Made::new(g, &[]).loss(y))
        });
        for listed in [0, 1, n / 2, n, n + 9] {
            let mut case = Case::new(format!("{listed} of {n}"));
            case.step.set(ROWS, listed as u32);
            case.input("x", &[n], 1.0).input("w", &[n], 1.0);
            suite.check(&case, n, &|g, t, _| {
                let y = g.weighted_sum("y", t["x"], t["w"], Extent::counted(ROWS, 0, n))?;
                Ok(Made::new(g, &[y]).without_gradient())
            });
        }
    }
}

/// Losses that are scaled and summed, an input of both among them.
fn scaled_and_summed(suite: &mut Suite) {
    for n in [1, 67, 1031] {
        let mut case = Case::new(format!("{n}"));
        case.param("x", &[n], 1.0)
            .param("z", &[n], 1.0)
            .input("v", &[n], 1.0)
            .input("w", &[n], 1.0);
        suite.check(&case, n, &|g, t, _| {
            let a = g.weighted_sum("a", t["x"], t["v"], Extent::Fixed(n))?;
            let both = g.add("both", t["x"], t["z"])?;
            let b = g.weighted_sum("b", both, t["w"], Extent::Fixed(n))?;
            let b = g.scale("half b", b, -0.5)?;
            let loss = g.add("a + b", a, b)?;
            Ok(Made::new(g, &[loss]).loss(loss))
        });
    }
}
