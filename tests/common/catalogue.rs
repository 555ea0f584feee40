//! Every shader in every specialisation that the library uses.

use std::collections::HashSet;
use std::sync::Arc;

use mdlm::config::ModelConfig;
use mdlm::model::trunks::{Bert, BertKind, Llama, Names};
use mdlm::model::{DrawGraph, Network, Options, TrainGraph, Trunk};
use mdlm_engine::gpu::{DeviceClass, Source};
use mdlm_engine::graph::{Graph, Layout, Tensor};
use mdlm_engine::ops::Norm;
use mdlm_engine::ops::{Attend, Seen};
use mdlm_engine::ops::{Dropout, Form};
use mdlm_engine::ops::{RowLoss, Rule};
use mdlm_engine::program::Element;
use mdlm_engine::program::Extent;

use crate::graphs::{ADAMW, build, configs, purposes};

/// Labels and texts of every shader that a graph of the library uses on any class of device.
pub fn catalogue() -> Vec<(String, String)> {
    let mut sources = HashSet::new();
    for graph in library() {
        for class in [
            DeviceClass::Software,
            DeviceClass::Portable,
            DeviceClass::Desktop,
        ] {
            sources.extend(graph.sources(class).unwrap());
        }
    }
    let text = |source: &Source| (source.label(), source.expand().unwrap());
    let mut all: Vec<_> = sources.iter().map(text).collect();
    all.sort();
    all
}

fn library() -> Vec<Graph> {
    let mut graphs = vec![operations()];
    for seen in [Some(Seen::All), Some(Seen::Causal), None] {
        graphs.extend([16, 48, 64, 128].map(|dim| attention(dim, 65, seen)));
    }
    graphs.extend([16, 48, 64, 256].map(|dim| attention(dim, 1, None)));
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

/// What no model of the library reaches: operations on their own, and gradients that meet.
fn operations() -> Graph {
    let mut layout = Layout::builder(usize::MAX);
    let mut param = |name: &str, shape: &[usize]| layout.tensor(name, shape).unwrap();
    let [x, w, b] = [
        param("x", &[64, 96]),
        param("w", &[96, 96]),
        param("b", &[96]),
    ];
    let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
    let [x, w, b] = [x, w, b].map(|id| g.param(id));
    for form in [Form::Nt, Form::Nn, Form::Tn] {
        g.matmul("product", form, w, w).unwrap();
    }
    for rounds in [0, 2] {
        g.roofline(x, rounds).unwrap();
    }
    let none = Dropout::default();
    let some = Dropout { p: 0.1, site: 0 };
    let mut y = x;
    for (bias, dropout) in [(None, none), (Some(b), none), (None, some), (Some(b), some)] {
        let n = g.norm("n", y, Norm::layer(b).modulated(None)).unwrap();
        let s = g.silu("s", n).unwrap();
        let [_, r] = g
            .linear_residual(["branch", "r"], s, w, bias, n, None, dropout)
            .unwrap();
        let [_, u] = g.linear_gelu(["u", "gelu"], r, w, bias).unwrap();
        y = g.linear("y", u, w, bias).unwrap();
    }
    // a second reader of one input, whose gradient is then added to
    let s = g.silu("s", y).unwrap();
    let [_, y] = g
        .linear_residual(["branch", "r"], s, w, None, y, None, none)
        .unwrap();
    differentiate(g, y)
}

/// Attention of two sequences with its gradient; by given sights if `seen` does not say.
fn attention(head_dim: usize, length: usize, seen: Option<Seen>) -> Graph {
    let mut layout = Layout::builder(usize::MAX);
    let shape = [2 * length, 3 * head_dim];
    let qkv = layout.tensor("qkv", &shape).unwrap();
    let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
    let qkv = g.param(qkv);
    let sights = g.input_uint("sights", &[length, 4]);
    let by = Seen::By {
        queries: sights,
        keys: sights,
    };
    let attend = Attend::fused(qkv, 2, 1, head_dim, seen.unwrap_or(by));
    let o = g.attention("o", &attend).unwrap();
    differentiate(g, o)
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
    let options = Options {
        batch: 2,
        length: 33,
        ..Options::default()
    };
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
        for element in [Element::F16, Element::Bf16] {
            let network = Network::new(trunk.clone(), usize::MAX, element).unwrap();
            graphs.push(DrawGraph::new(&network, options).unwrap().graph);
        }
    }
    graphs
}

/// With the gradient of the sum over all elements, weighted.
fn differentiate(mut g: Graph, y: Tensor) -> Graph {
    let n = g.len(y);
    let weights = g.input("weights", &[n]);
    let loss = g
        .weighted_sum("loss", y, weights, Extent::Fixed(n))
        .unwrap();
    g.backward(loss).unwrap();
    g
}
