//! Input, files and devices that cannot work: each is an error that names the culprit, nothing
//! panics and nothing is left half-written.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../examples/bench/reference.rs"]
mod reference;

mod bad_input {
    mod checkpoints;
    mod devices;
    #[cfg(unix)]
    mod disk;
    mod foreign;
    mod gguf;
    mod published;
    mod sampling;
    mod settings;
    mod values;
}
