//! What every section checks its values with.

use crate::error::{Error, Result};

/// Largest integer that TOML can hold; seeds and counts stay below it so that they can be saved.
pub(super) const MAX_INTEGER: u64 = i64::MAX as u64;

/// Checks `value` with `holds`; a NaN holds nothing.
pub(super) fn check(
    key: &str,
    value: f64,
    holds: impl FnOnce(f64) -> bool,
    problem: &str,
) -> Result<()> {
    if value.is_finite() && holds(value) {
        return Ok(());
    }
    Err(Error::config(key, value, problem))
}

/// Checks that a count lies in a range.
pub(super) fn check_range(
    key: &str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(Error::config(
        key,
        value,
        format!("must be in {low}..={high}"),
    ))
}
