//! The kernels of training and of sampling at two sizes.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use mdlm::config::{ModelConfig, ModelKind, TrainConfig};
use mdlm::model::{Backbone, DrawGraph, Options, TrainGraph};
use mdlm::train::rule;
use mdlm_engine::gpu::DeviceClass;
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::RowLoss;

/// A kernel to compile.
pub struct Source {
    pub label: String,
    pub entry: &'static str,
    pub text: String,
}

/// Hidden size, heads, length, vocabulary and sequences at a time.
const SIZES: [(usize, usize, usize, usize, usize); 2] =
    [(256, 4, 128, 2049, 32), (768, 12, 1024, 50258, 8)];

/// Each kernel once, in the order of their labels.
pub fn sources() -> Result<Vec<Source>> {
    let mut seen = HashSet::new();
    for size in SIZES {
        for graph in graphs(size)? {
            for class in [DeviceClass::Desktop, DeviceClass::Portable] {
                seen.extend(graph.sources(class)?);
            }
        }
    }
    let source = |source: &mdlm_engine::gpu::Source| {
        let text = source
            .expand()
            .map_err(|e| anyhow!("{}: {e}", source.label()))?;
        Ok(Source {
            label: source.label(),
            entry: source.entry,
            text,
        })
    };
    let mut all = seen.iter().map(source).collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| (&a.label, &a.text).cmp(&(&b.label, &b.text)));
    // scalars of the program are numbered anew in each: a kernel is its label
    all.dedup_by(|a, b| a.label == b.label);
    Ok(all)
}

fn graphs(
    (hidden_size, n_heads, length, vocab_size, batch): (usize, usize, usize, usize, usize),
) -> Result<[Graph; 2]> {
    let config = ModelConfig {
        kind: ModelKind::Dit,
        vocab_size,
        mask_index: vocab_size as u32 - 1,
        hidden_size,
        // as many more would add no kernel
        n_blocks: 1,
        n_heads,
        length,
        dropout: 0.1,
        ..ModelConfig::default()
    };
    let network = Backbone::new(&config, usize::MAX)?.network;
    let options = Options {
        batch,
        length,
        ..Options::default()
    };
    let mut settings = TrainConfig::default();
    settings.resolve();
    let rule = |name: &str, _: &[usize]| rule(&settings.optim, network.group(name));
    let training = TrainGraph::new(&network, options, RowLoss::Subs, None, 1.0, &rule)?;
    let (mut train, kept) = (training.graph, [training.loss, training.stats]);
    kept.into_iter().for_each(|tensor| train.keep(tensor));
    Ok([train, DrawGraph::new(&network, options)?.graph])
}
