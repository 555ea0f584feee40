//! Every operation: its kernels and its f32 twin against its f64 twin, its backward rule against
//! central differences, on sizes that fit no tile.
#![allow(clippy::unwrap_used)]

mod common;

/// Each suite a test.
macro_rules! suites {
    ($($name:ident: $label:literal, $kernel:ident;)*) => {
        pub fn collect(suite: &mut super::suite::Suite) {
            $($name(suite);)*
        }

        mod checks {
            use crate::common::close::Kernel;
            use crate::common::suite::Suite;

            $(
                #[test]
                fn $name() {
                    let mut suite = Suite::new($label, Kernel::$kernel);
                    super::$name(&mut suite);
                    suite.finish();
                }
            )*
        }
    };
}

#[path = "ops/adamw.rs"]
mod adamw;
#[path = "ops/at_rest.rs"]
mod at_rest;
#[path = "ops/grad_norm.rs"]
mod grad_norm;
#[path = "ops/muon.rs"]
mod muon;
#[allow(dead_code)] // what collects the cases instead of checking them
#[path = "ops/mod.rs"]
mod ops;
#[path = "ops/optimiser.rs"]
mod optimiser;
#[path = "ops/parts.rs"]
mod parts;

use common::{case, suite};
