//! How often a harness of docs/reliability.md does what it does: a few times among the tests, often when
//! `cargo xtask reliability` asks for it.

/// Set by `cargo xtask reliability`.
const TRIALS: &str = "MDLM_TRIALS";

/// How many trials there are, `few` unless more are asked for; printed with what they are and their seed.
pub fn trials(what: &str, few: u64, seed: u64) -> u64 {
    let count = std::env::var(TRIALS).map_or(few, |n| n.parse().unwrap());
    println!("{what}: N = {count}, seed {seed}");
    count
}
