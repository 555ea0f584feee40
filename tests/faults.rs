//! What a disk, a device and numbers can do to a run: each is a typed error, and the run goes on with the bits of one
//! that was left alone.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "faults/device.rs"]
mod device;
#[path = "faults/numbers.rs"]
mod numbers;
