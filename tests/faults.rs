//! What a disk, a device, numbers and a careless program can do to a run: each is a typed error, and the run goes on with
//! the bits of one that was left alone.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "faults/device.rs"]
mod device;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/dropped.rs"]
mod dropped;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[path = "faults/io.rs"]
mod io;
#[path = "faults/numbers.rs"]
mod numbers;
