//! The kernels of training and of sampling at two sizes.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use mdlm::config::{ModelConfig, ModelKind, TrainConfig};
use mdlm::model::{Among, Backbone, DrawGraph, Options, TrainGraph};
use mdlm::train::rule;
use mdlm_engine::gpu::{Cooperative, DeviceClass, Dispatch, Tuning};
use mdlm_engine::graph::{Graph, Plan};
use mdlm_engine::ops::{ROWS, RowLoss};
use mdlm_engine::program::{Element, Step};

use crate::listing::Vendor;

/// A kernel to compile.
pub struct Source {
    pub label: String,
    pub entry: &'static str,
    pub text: String,
}

/// A network and what it is given at a time.
pub struct Size {
    pub hidden_size: usize,
    n_blocks: usize,
    n_heads: usize,
    length: usize,
    vocab_size: usize,
    batch: usize,
}

pub static SIZES: [Size; 2] = [
    Size {
        hidden_size: 256,
        n_blocks: 4,
        n_heads: 4,
        length: 128,
        vocab_size: 2049,
        batch: 32,
    },
    Size {
        hidden_size: 768,
        n_blocks: 12,
        n_heads: 12,
        length: 1024,
        vocab_size: 50258,
        batch: 8,
    },
];

/// The matrix units of the chips that have some: 16 x 16, by waves of 64 lanes or of 32.
pub fn units(vendor: Vendor) -> Cooperative {
    Cooperative {
        side: 16,
        lanes: match vendor {
            Vendor::Amd => 64,
            Vendor::Nvidia => 32,
        },
    }
}

/// A discrete GPU with these units.
fn discrete(cooperative: Option<Cooperative>) -> Tuning {
    Tuning {
        cooperative,
        ..Tuning::of(DeviceClass::Desktop)
    }
}

/// With heads of 128.
const WIDE: Size = Size {
    hidden_size: 512,
    n_blocks: 1,
    n_heads: 4,
    length: 128,
    vocab_size: 2049,
    batch: 8,
};

impl Size {
    /// What a step of training with blocks in `precision` launches on a discrete GPU with these units, and its scalars: half
    /// of the tokens are masked.
    pub fn training(
        &self,
        precision: Element,
        units: Option<Cooperative>,
    ) -> Result<(Vec<Dispatch>, Step)> {
        let [full, half, _] = self.graphs()?;
        let graph = if precision == Element::F16 {
            half
        } else {
            full
        };
        let program = Plan::new(&graph, true)?.lower_gpu(&graph, &discrete(units))?;
        let mut step = Step::default();
        step.set(ROWS, (self.batch * self.length / 2) as u32);
        Ok((program.dispatches, step))
    }

    /// The graphs of training, in f32 and with blocks in f16, and of sampling.
    fn graphs(&self) -> Result<[Graph; 3]> {
        let config = ModelConfig {
            kind: ModelKind::Dit,
            vocab_size: self.vocab_size,
            mask_index: self.vocab_size as u32 - 1,
            hidden_size: self.hidden_size,
            n_blocks: self.n_blocks,
            n_heads: self.n_heads,
            length: self.length,
            dropout: 0.1,
            ..ModelConfig::default()
        };
        let network = Backbone::new(&config, usize::MAX)?.network;
        let options = Options::of(self.batch, self.length);
        let mut settings = TrainConfig::default();
        settings.resolve();
        let rule = |name: &str, _: &[usize]| rule(&settings.optim, network.group(name));
        let train = |precision| {
            let options = Options {
                precision,
                ..options
            };
            let made = TrainGraph::new(&network, options, RowLoss::Subs, None, 1.0, &rule)?;
            let (mut graph, kept) = (made.graph, [made.loss, made.stats]);
            kept.into_iter().for_each(|tensor| graph.keep(tensor));
            Ok::<_, mdlm::Error>(graph)
        };
        Ok([
            train(Element::F32)?,
            train(Element::F16)?,
            DrawGraph::new(&network, options, Among::all(&*network.trunk))?.graph,
        ])
    }
}

/// Each kernel once, in the order of their labels; those of discrete GPUs also for these units.
pub fn sources(units: Option<Cooperative>) -> Result<Vec<Source>> {
    let mut seen = HashSet::new();
    let plain = [DeviceClass::Desktop, DeviceClass::Portable].map(Tuning::of);
    let tunings: Vec<_> = plain
        .into_iter()
        .chain(units.map(|units| discrete(Some(units))))
        .collect();
    for size in SIZES.iter().chain([&WIDE]) {
        for graph in size.graphs()? {
            for tuning in &tunings {
                seen.extend(graph.sources(tuning)?);
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
