//! The library's graphs over configurations that differ in whatever changes a graph or a kernel.

use mdlm::config::{ModelConfig, ModelKind};
use mdlm::graph::Graph;
use mdlm::model::{Backbone, DrawGraph, EvalGraph, LogitsGraph, TrainGraph};
use mdlm::ops::AdamwConfig;

pub const ADAMW: AdamwConfig = AdamwConfig {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.0,
};

/// What a graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Train,
    Eval,
    Logits,
    Draw,
}

pub const PURPOSES: [Purpose; 4] = [
    Purpose::Train,
    Purpose::Eval,
    Purpose::Logits,
    Purpose::Draw,
];

/// A graph, and the tensor that the host reads if there is one of its own.
pub fn build(config: &ModelConfig, purpose: Purpose, batch: usize, length: usize) -> Graph {
    let backbone = Backbone::new(config, usize::MAX).unwrap();
    match purpose {
        Purpose::Train => {
            let g = TrainGraph::new(&backbone, batch, length, Some(64), 1.0, ADAMW).unwrap();
            let (mut graph, outputs) = (g.graph, [g.loss, g.stats]);
            outputs.into_iter().for_each(|t| graph.keep(t));
            graph
        }
        Purpose::Eval => EvalGraph::new(&backbone, batch, length).unwrap().graph,
        Purpose::Logits => {
            LogitsGraph::new(&backbone, batch, length, false)
                .unwrap()
                .graph
        }
        Purpose::Draw => DrawGraph::new(&backbone, batch, length).unwrap().graph,
    }
}

/// Configurations with every head width, with and without time conditioning and dropout.
pub fn configs() -> Vec<ModelConfig> {
    let mut all = Vec::new();
    for (hidden_size, n_heads) in [(48, 3), (64, 2), (64, 1), (128, 1)] {
        for time_conditioning in [false, true] {
            for dropout in [0.0, 0.1] {
                all.push(ModelConfig {
                    kind: ModelKind::Dit,
                    vocab_size: 301,
                    mask_index: 300,
                    hidden_size,
                    n_blocks: 2,
                    n_heads,
                    cond_dim: 32,
                    length: 64,
                    dropout,
                    time_conditioning,
                });
            }
        }
    }
    all
}
