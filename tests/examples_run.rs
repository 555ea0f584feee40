//! The examples as a user runs them. `cargo test` builds them; nothing is built here.
#![allow(clippy::unwrap_used)]

mod common;

mod examples_run {
    mod bench;
    mod embed;
    mod instruct;
    mod published;
    mod settings;
    mod talk;
    mod train;
}
