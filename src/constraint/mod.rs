//! Constraints on what is written: regular expressions, and JSON schemas, which become such.
//!
//! Both say which texts are allowed, byte by byte. What that means for tokens is the business of
//! [`sample`](crate::sample).

mod automaton;
mod json;
mod schema;
mod strings;

pub use automaton::Automaton;
pub use json::Json;
pub use schema::pattern;
