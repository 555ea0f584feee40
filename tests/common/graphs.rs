//! The library's graphs over configurations that differ in whatever changes a graph or a kernel.

use mdlm::config::{ModelConfig, ModelKind, Recipe, Recompute, TrainConfig};
use mdlm::model::{Among, Backbone, DrawGraph, EvalGraph, LogitsGraph, Options, TrainGraph};
use mdlm::train::rule;
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::{AdamwConfig, RowLoss};
use mdlm_engine::program::Element;

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
    /// As `Train`, what is inside of blocks computed again in the backward pass.
    TrainAgain,
    /// As `Train`, what is inside of blocks kept in f16.
    TrainHalf,
    Eval,
    Logits,
    Draw,
    /// The next token of autoregressive models, keys and values cached.
    Decode,
}

/// What a model of this configuration has graphs for.
pub fn purposes(config: &ModelConfig) -> Vec<Purpose> {
    use Purpose::{Decode, Draw, Eval, Logits, Train, TrainAgain, TrainHalf};
    let mut all = vec![Train, TrainAgain, TrainHalf, Eval, Logits, Draw];
    if config.kind == ModelKind::Ar {
        all.push(Decode);
    }
    all
}

/// Every loss that has a kernel of its own, spread over [`configs`].
fn row_loss(config: &ModelConfig) -> RowLoss {
    match (config.time_conditioning, config.dropout > 0.0) {
        (true, true) => RowLoss::Sedd,
        (true, false) => RowLoss::D3pm,
        (false, _) => RowLoss::Subs,
    }
}

/// A graph over `batch` sequences of `length` tokens, of which decoding takes one at a time.
pub fn build(config: &ModelConfig, purpose: Purpose, batch: usize, length: usize) -> Graph {
    let network = Backbone::new(config, usize::MAX).unwrap().network;
    let decode = purpose == Purpose::Decode;
    let options = Options {
        batch,
        length: if decode { 1 } else { length },
        kept: if decode { config.length } else { 0 },
        recompute: match purpose {
            Purpose::TrainAgain => Recompute::Blocks,
            _ => Recompute::None,
        },
        precision: match purpose {
            Purpose::TrainHalf => Element::F16,
            _ => Element::F32,
        },
        ..Options::default()
    };
    match purpose {
        Purpose::Train | Purpose::TrainAgain | Purpose::TrainHalf => {
            let loss = row_loss(config);
            // both recipes, spread over the configurations too
            let recipe = match config.time_conditioning {
                true => Recipe::Reference,
                false => Recipe::Fast,
            };
            let mut settings = TrainConfig::default();
            settings.optim.recipe = recipe;
            settings.resolve();
            let rule = |name: &str, _: &[usize]| rule(&settings.optim, network.group(name));
            let g = TrainGraph::new(&network, options, loss, Some(64), 1.0, &rule).unwrap();
            let (mut graph, outputs) = (g.graph, [g.loss, g.stats]);
            outputs.into_iter().for_each(|t| graph.keep(t));
            graph
        }
        Purpose::Eval => {
            EvalGraph::new(&network, options, row_loss(config))
                .unwrap()
                .graph
        }
        Purpose::Logits => {
            let mut made = LogitsGraph::new(&network, options).unwrap();
            if config.kind == ModelKind::Dit {
                made.log_probs(&network).unwrap();
            }
            made.graph
        }
        Purpose::Draw | Purpose::Decode => {
            DrawGraph::new(&network, options, Among::all(&*network.trunk))
                .unwrap()
                .graph
        }
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
                    vocab_multiple: 1,
                    adaln: true,
                });
            }
        }
    }
    all.push(ModelConfig {
        kind: ModelKind::Ar,
        time_conditioning: false,
        ..all[1].clone()
    });
    all
}
