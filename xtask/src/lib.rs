//! What the project's tasks share with the checks of the page.

pub mod server;
