#![doc = include_str!("../README.md")]
//!
//! From below: [`program`] is what an executor runs; [`gpu`] and [`cpu`] are the executors; [`device`] picks one;
//! [`graph`] builds, differentiates and plans; [`ops`] are the operations.

pub mod cpu;
pub mod device;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod program;
pub mod rng;

pub use error::{Error, Result};
