//! Constraints: what may be written is what leads to an allowed text, no less and no more.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "constraint/every_sampler.rs"]
mod every_sampler;
#[path = "constraint/law.rs"]
mod law;
#[path = "../examples/ablate/oracle.rs"]
#[allow(dead_code)] // the law of a chain is enough
mod oracle;
#[path = "constraint/refused.rs"]
mod refused;
#[path = "constraint/schema.rs"]
mod schema;
#[path = "constraint/sets.rs"]
mod sets;
