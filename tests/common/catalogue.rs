//! Every shader in every specialisation that the library uses: those of the cases that its operations are checked on,
//! and of its models' graphs.

/// Each suite's graphs.
macro_rules! suites {
    ($($name:ident: $label:literal, $kernel:ident;)*) => {
        pub fn collect(suite: &mut super::suite::Suite) {
            $($name(suite);)*
        }
    };
}

#[allow(dead_code)] // what checks results
#[path = "case.rs"]
mod case;
#[path = "../ops/mod.rs"]
mod ops;
#[path = "collect.rs"]
mod suite;

use std::collections::HashSet;
use std::sync::Arc;

use mdlm::config::ModelConfig;
use mdlm::model::trunks::{Bert, BertKind, Llama, Names};
use mdlm::model::{Among, DrawGraph, Network, Options, TrainGraph, Trunk};
use mdlm_engine::gpu::{Cooperative, DeviceClass, Source, Tuning};
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::{RowLoss, Rule};
use mdlm_engine::program::{Element, Room};

use crate::graphs::{ADAMW, build, configs, purposes};

/// Labels and texts of every shader that a graph of the library uses on any class of device.
pub fn catalogue() -> Vec<(String, String)> {
    use DeviceClass::{Desktop, Portable, Software};
    shaders(&[Software, Portable, Desktop].map(Tuning::of))
}

/// Those that matrix units have of their own, of every kind that there is.
pub fn cooperative() -> Vec<(String, String)> {
    let units = [(16, 32), (16, 64), (8, 32)].map(|(side, lanes)| Tuning {
        cooperative: Some(Cooperative { side, lanes }),
        ..Tuning::of(DeviceClass::Desktop)
    });
    let mut all = shaders(&units);
    all.retain(|(label, _)| label.starts_with("matmul_cooperative"));
    all
}

fn shaders(tunings: &[Tuning]) -> Vec<(String, String)> {
    let mut sources = HashSet::new();
    for graph in library() {
        for tuning in tunings {
            sources.extend(graph.sources(tuning).unwrap());
        }
    }
    let text = |source: &Source| (source.label(), source.expand().unwrap());
    let mut all: Vec<_> = sources.iter().map(text).collect();
    all.sort();
    all
}

fn library() -> Vec<Graph> {
    let mut operations = suite::Suite::default();
    ops::collect(&mut operations);
    let mut graphs = operations.0;
    graphs.extend(published());
    let large = configs().into_iter().map(|config| ModelConfig {
        hidden_size: 512,
        n_heads: 512 / config.head_dim(),
        n_blocks: 1,
        vocab_size: 2049,
        length: 256,
        ..config
    });
    let vocabularies = [2, 28, 100].map(|vocab_size| ModelConfig {
        vocab_size,
        mask_index: 0,
        ..configs().remove(0)
    });
    for (config, batch) in configs()
        .into_iter()
        .chain(vocabularies)
        .map(|config| (config, 3))
        .chain(large.map(|config| (config, 16)))
    {
        for purpose in purposes(&config) {
            graphs.push(build(&config, purpose, batch, config.length));
        }
    }
    graphs
}

/// Networks of published models, in training, and drawing from weights in half precision.
fn published() -> Vec<Graph> {
    let llama = Llama {
        vocab_size: 301,
        hidden_size: 48,
        n_blocks: 1,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        mlp_size: 80,
        length: 64,
        eps: 1e-6,
        rotary_base: 1e4,
        rotary_dim: 8,
        qkv_bias: true,
        qk_norm: true,
        tied: true,
        causal: false,
        windows: vec![Some(3)],
        frozen_token: None,
        blind_pads: false,
        names: Names::HuggingFace,
    };
    let bert = |kind| Bert {
        vocab_size: 301,
        hidden_size: 32,
        n_blocks: 2,
        n_heads: 2,
        mlp_size: 48,
        length: 64,
        eps: 1e-5,
        kind,
    };
    let modern = BertKind::Modern {
        global_every: 2,
        reach: 3,
        bases: [1e4, 1e5],
    };
    let trunks: [Arc<dyn Trunk>; 3] = [
        Arc::new(llama),
        Arc::new(bert(BertKind::Classic { types: 2 })),
        Arc::new(bert(modern)),
    ];
    let options = Options::of(2, 33);
    let mut graphs = Vec::new();
    for trunk in trunks {
        let network = Network::new(trunk.clone(), usize::MAX, Element::F32).unwrap();
        let train = TrainGraph::new(
            &network,
            options,
            RowLoss::Subs,
            None,
            1.0,
            &Rule::adamw(ADAMW),
        );
        graphs.push(train.unwrap().graph);
        let kept = Options {
            kept: 33,
            ..options
        };
        let draw = DrawGraph::of_widths(&network, kept, &[5, 33], Among::all(&*network.trunk));
        graphs.push(draw.unwrap().graph);
        // tables that are taken in parts
        for (element, _) in Element::WEIGHTS {
            let room = Room {
                binding: element.bytes(128 * 48) as usize / 4,
                buffer: usize::MAX / 8,
            };
            let network = Network::new(trunk.clone(), room, element).unwrap();
            let draw = DrawGraph::new(&network, options, Among::all(&*network.trunk));
            graphs.push(draw.unwrap().graph);
        }
        for &(element, _) in &Element::WEIGHTS[1..] {
            let network = Network::new(trunk.clone(), usize::MAX, element).unwrap();
            graphs.push(
                DrawGraph::new(&network, options, Among::all(&*network.trunk))
                    .unwrap()
                    .graph,
            );
        }
    }
    graphs
}
