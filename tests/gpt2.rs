//! GPT-2 as a judge: against an implementation of plain loops, on a tiny model with random weights.
#![allow(clippy::unwrap_used)]

mod common;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use common::Executor;
use common::case::random;
use common::runs::refused;
use mdlm::io::safetensors::{Precision, TensorSpec, write_file};
use mdlm::model::{Gpt2, Load, inspect};
use mdlm::{Canvas, Model};
use pollster::block_on;

const D: usize = 32;
const HEADS: usize = 2;
const BLOCKS: usize = 2;
const POSITIONS: usize = 70;
const VOCAB: usize = 23;

type Weights = HashMap<String, (Vec<usize>, Vec<f64>)>;

fn weights() -> Weights {
    let mut shapes = vec![
        ("wte.weight".to_owned(), vec![VOCAB, D]),
        ("wpe.weight".to_owned(), vec![POSITIONS, D]),
        ("ln_f.weight".to_owned(), vec![D]),
        ("ln_f.bias".to_owned(), vec![D]),
    ];
    for i in 0..BLOCKS {
        for (name, shape) in [
            ("ln_1.weight", vec![D]),
            ("ln_1.bias", vec![D]),
            ("attn.c_attn.weight", vec![D, 3 * D]),
            ("attn.c_attn.bias", vec![3 * D]),
            ("attn.c_proj.weight", vec![D, D]),
            ("attn.c_proj.bias", vec![D]),
            ("ln_2.weight", vec![D]),
            ("ln_2.bias", vec![D]),
            ("mlp.c_fc.weight", vec![D, 4 * D]),
            ("mlp.c_fc.bias", vec![4 * D]),
            ("mlp.c_proj.weight", vec![4 * D, D]),
            ("mlp.c_proj.bias", vec![D]),
        ] {
            shapes.push((format!("h.{i}.{name}"), shape));
        }
    }
    let numbered = shapes.into_iter().enumerate();
    numbered
        .map(|(i, (name, shape))| {
            let values = random(i as u64, shape.iter().product(), 0.4);
            (name, (shape, values))
        })
        .collect()
}

/// The folder of a GPT-2 whose tensors are called otherwise.
fn write_as(dir: &Path, weights: &Weights, called: impl Fn(&str) -> String) {
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    let specs: Vec<TensorSpec> = names
        .iter()
        .map(|&name| TensorSpec::new(called(name), weights[name].0.clone()))
        .collect();
    write_file(
        &dir.join("model.safetensors"),
        &specs,
        Precision::F32,
        |i| {
            let values = &weights[names[i]].1;
            Ok(Cow::Owned(values.iter().map(|&x| x as f32).collect()))
        },
    )
    .unwrap();
    let config = serde_json::json!({
        "model_type": "gpt2", "n_embd": D, "n_layer": BLOCKS, "n_head": HEADS, "n_ctx": POSITIONS,
        "vocab_size": VOCAB, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn write(dir: &Path, weights: &Weights, prefix: &str) {
    write_as(dir, weights, |name| format!("{prefix}{name}"));
}

/// The logits of each token's row, by plain loops.
fn naive(w: &Weights, tokens: &[u32], causal: bool) -> Vec<Vec<f64>> {
    let get = |name: &str| &w[name].1;
    let norm = |x: &[f64], name: &str| -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / D as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / D as f64;
        let (g, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        (0..D)
            .map(|i| (x[i] - mean) / (variance + 1e-5).sqrt() * g[i] + b[i])
            .collect()
    };
    let linear = |x: &[f64], name: &str| -> Vec<f64> {
        let (w, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        let n = b.len();
        (0..n)
            .map(|j| b[j] + (0..x.len()).map(|i| x[i] * w[i * n + j]).sum::<f64>())
            .collect()
    };
    let gelu = |x: f64| {
        let k = (2.0 / std::f64::consts::PI).sqrt();
        0.5 * x * (1.0 + (k * (x + 0.044715 * x.powi(3))).tanh())
    };
    let (wte, wpe) = (get("wte.weight"), get("wpe.weight"));
    let mut x: Vec<Vec<f64>> = tokens
        .iter()
        .enumerate()
        .map(|(p, &t)| {
            (0..D)
                .map(|i| wte[t as usize * D + i] + wpe[p * D + i])
                .collect()
        })
        .collect();
    let add = |x: &mut Vec<f64>, y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    for block in 0..BLOCKS {
        let name = |part: &str| format!("h.{block}.{part}");
        let qkv: Vec<Vec<f64>> = x
            .iter()
            .map(|x| linear(&norm(x, &name("ln_1")), &name("attn.c_attn")))
            .collect();
        let dim = D / HEADS;
        for p in 0..x.len() {
            let mut a = vec![0.0; D];
            for h in 0..HEADS {
                let score = |j: usize| {
                    let dot = |i| qkv[p][h * dim + i] * qkv[j][D + h * dim + i];
                    (0..dim).map(dot).sum::<f64>() / (dim as f64).sqrt()
                };
                let seen = if causal { p + 1 } else { x.len() };
                let e: Vec<f64> = (0..seen).map(|j| score(j).exp()).collect();
                let sum: f64 = e.iter().sum();
                for (j, e) in e.iter().enumerate() {
                    for i in 0..dim {
                        a[h * dim + i] += e / sum * qkv[j][2 * D + h * dim + i];
                    }
                }
            }
            add(&mut x[p], linear(&a, &name("attn.c_proj")));
        }
        for x in &mut x {
            let h = linear(&norm(x, &name("ln_2")), &name("mlp.c_fc"));
            let h: Vec<f64> = h.into_iter().map(gelu).collect();
            add(x, linear(&h, &name("mlp.c_proj")));
        }
    }
    x.iter()
        .map(|x| {
            let h = norm(x, "ln_f");
            let logit = |v: usize| (0..D).map(|i| h[i] * wte[v * D + i]).sum();
            (0..VOCAB).map(logit).collect()
        })
        .collect()
}

/// The nll of each token but the first.
fn likelihoods(w: &Weights, tokens: &[u32]) -> Vec<f64> {
    let logits = naive(w, tokens, true);
    let rows = logits.iter().zip(&tokens[1..]);
    rows.map(|(row, &token)| {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        sum.ln() - row[token as usize]
    })
    .collect()
}

#[test]
fn likelihoods_equal_plain_loops() {
    let weights = weights();
    for (executor, bound) in [
        (Executor::CpuF64, 1e-9),
        (Executor::CpuF32, 1e-4),
        (Executor::Gpu, 1e-4),
    ] {
        for prefix in ["", "transformer."] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &weights, prefix);
            let mut model = block_on(Gpt2::load(executor.shared(), dir.path())).unwrap();
            for n in [2, 7, 65, POSITIONS] {
                let tokens: Vec<u32> = (0..n as u32).map(|i| i * 7 % VOCAB as u32).collect();
                let got = block_on(model.nll(&tokens)).unwrap();
                let exact = likelihoods(&weights, &tokens);
                assert_eq!(got.len(), exact.len());
                for (got, exact) in got.iter().zip(&exact) {
                    assert!(
                        (got - exact).abs() < bound * exact,
                        "{executor:?} {got} {exact}"
                    );
                }
            }
            assert!(block_on(model.nll(&[1])).unwrap().is_empty());
        }
    }
}

#[test]
fn other_models_are_refused() {
    let device = Executor::CpuF32.shared();
    let dir = tempfile::tempdir().unwrap();
    let mut weights = weights();
    write(dir.path(), &weights, "");
    let mut model = block_on(Gpt2::load(device, dir.path())).unwrap();
    let long = vec![0; POSITIONS + 1];
    refused(block_on(model.nll(&long)), "argument", &["70 positions"]);
    refused(
        block_on(model.nll(&[0, 23])),
        "token",
        &["token 23 at position 1"],
    );
    let load = || block_on(Gpt2::load(device, dir.path())).map(|_| ());
    let check = |weights: &Weights, parts: &[&str]| {
        write(dir.path(), weights, "");
        let parts = [&["model.safetensors"], parts].concat();
        refused(load(), "checkpoint", &parts);
    };
    // a product stored the other way round, as other libraries do
    let mut transposed = weights.clone();
    let name = "h.1.attn.c_attn.weight";
    transposed.get_mut(name).unwrap().0 = vec![3 * D, D];
    check(&transposed, &[name, "expected [32, 96]"]);
    let mut more = weights.clone();
    more.insert("h.2.ln_1.bias".to_owned(), (vec![D], vec![0.0; D]));
    check(&more, &["h.2.ln_1.bias", "unexpected"]);
    weights.remove("ln_f.bias");
    check(&weights, &["ln_f.bias", "missing"]);
    let path = dir.path().join("config.json");
    let right: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value, part) in [
        ("model_type", "bert".into(), "model_type is bert"),
        ("activation_function", "relu".into(), "gelu_new"),
        ("layer_norm_epsilon", 1e-6.into(), "1e-5"),
        ("n_head", 3.into(), "sizes"),
        ("n_layer", 0.into(), "sizes"),
        ("n_embd", "wide".into(), "invalid type"),
    ] {
        let mut wrong = right.clone();
        wrong[key] = value;
        std::fs::write(&path, wrong.to_string()).unwrap();
        refused(load(), "checkpoint", &["config.json", part]);
    }
    std::fs::write(&path, r#"{"model_type":"gpt2"}"#).unwrap();
    refused(load(), "checkpoint", &["config.json", "missing field"]);
}

/// DiffuGPT is a GPT-2 that sees both ways, in parts that have other names.
#[test]
fn a_denoiser_equals_plain_loops() {
    let mut weights = weights();
    // what files may hold besides: the tied head, and what was the causal mask
    let head = weights["wte.weight"].clone();
    weights.insert("lm_head.weight".to_owned(), head);
    let bias = (vec![1, 1, 4, 4], vec![1.0; 16]);
    weights.insert("h.0.attn.bias".to_owned(), bias);
    let dir = tempfile::tempdir().unwrap();
    write_as(dir.path(), &weights, |name| match name {
        "wte.weight" => "embed_tokens.weight".to_owned(),
        "lm_head.weight" => name.to_owned(),
        part => format!("denoise_model.{part}"),
    });
    let plain = Load {
        mask: Some(22),
        ..Load::default()
    };
    let load = |executor: Executor, how: &Load| {
        block_on(Model::load_with(executor.shared(), dir.path(), how))
    };
    let parts = ["gpt2", "autoregressive", "diffugpt"];
    refused(load(Executor::CpuF32, &plain), "checkpoint", &parts);
    let how = Load {
        model_type: Some("diffugpt".to_owned()),
        ..plain
    };
    for (executor, bound) in [
        (Executor::CpuF64, 1e-7),
        (Executor::CpuF32, 1e-4),
        (Executor::Gpu, 1e-4),
    ] {
        let mut model = load(executor, &how).unwrap();
        for n in [1, 7, POSITIONS] {
            let tokens: Vec<u32> = (0..n as u32).map(|i| i * 7 % VOCAB as u32).collect();
            let got = block_on(model.logits(&tokens, &[0.0])).unwrap();
            let exact = naive(&weights, &tokens, false).concat();
            let top = exact.iter().fold(0f64, |top, x| top.max(x.abs()));
            assert_eq!(got.len(), exact.len());
            for (&got, exact) in got.iter().zip(&exact) {
                let error = (f64::from(got) - exact).abs();
                assert!(error < bound * top, "{executor:?} {got} {exact}");
            }
        }
        let config = model.sampling();
        assert_eq!(
            (config.steps, config.temperature, config.top_p),
            (64, 0.95, 0.9)
        );
        let canvas = Canvas::prompt(&[1, 2, 3], 12).unwrap();
        let sampler = model.sampler(canvas, &config).unwrap();
        let made = block_on(sampler.finish(|_| std::ops::ControlFlow::Continue(())));
        assert!(made.unwrap().tokens(22).iter().all(|&token| token < 22));
    }
    let found = inspect(dir.path(), &how).unwrap();
    assert_eq!((found.shift, found.length), (true, POSITIONS));
}
