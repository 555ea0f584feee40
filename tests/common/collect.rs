//! What stands for a [`super::suite`] where cases are not run: it keeps their graphs.

use mdlm_engine::graph::Graph;

use super::case::{Build, Case};

/// The graphs of many cases.
#[derive(Default)]
pub struct Suite(pub Vec<Graph>);

impl Suite {
    pub fn check(&mut self, case: &Case, _: usize, build: Build<'_>) {
        self.unrun(case, build);
    }

    /// A case whose code may be long.
    pub fn check_code(&mut self, case: &Case, _: usize, _: bool, build: Build<'_>) {
        self.unrun(case, build);
    }

    /// A case that is not run where they are checked.
    pub fn unrun(&mut self, case: &Case, build: Build<'_>) {
        self.0.push(case.graph(usize::MAX, true, build).graph);
    }
}
