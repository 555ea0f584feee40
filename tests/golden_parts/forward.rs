//! The forward pass: every intermediate, and a published checkpoint.

use crate::common::Executor;
use crate::common::close::Report;
use crate::common::fixtures::GOLDEN;
use crate::common::fixtures::short;
use crate::common::fixtures::{Fixture, load, load_as};
use mdlm::config::{ModelConfig, ModelKind};
use mdlm::device::Device;
use mdlm::model::{Backbone, LogitsGraph, Options, Pass};
use mdlm_engine::graph::FORWARD;
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::{Graph, Session, Storage, Tensor};
use mdlm_engine::ops::Norm;
use mdlm_engine::program::Element;
use mdlm_engine::program::Step;

/// Repeats the single row that a model without time conditioning computes.
fn expand(got: Vec<f64>, len: usize) -> Vec<f64> {
    if got.len() < len {
        got.repeat(len / got.len())
    } else {
        got
    }
}

struct Forward {
    graph: LogitsGraph,
    log_probs: Option<Tensor>,
    session: Session,
    storage: Storage,
}

async fn forward(
    device: &Device,
    backbone: &Backbone,
    storage: Storage,
    xt: &[u32],
    sigma: &[f64],
    precision: Element,
) -> Forward {
    let length = xt.len() / sigma.len();
    let options = Options {
        batch: sigma.len(),
        length,
        precision,
        keep_all: true,
        ..Options::default()
    };
    let network = &backbone.network;
    let mut graph = LogitsGraph::new(network, options).unwrap();
    let log_probs =
        (backbone.config.kind == ModelKind::Dit).then(|| graph.log_probs(network).unwrap());
    let mut session = Session::new(device, &mut graph.graph, &storage, PARAMS, &[])
        .await
        .unwrap();
    let pass = Pass {
        conditioning: sigma.to_vec(),
        ..Pass::of(xt)
    };
    graph
        .call
        .write(&mut session, &*network.trunk, &pass)
        .unwrap();
    let mut storage = storage;
    session
        .run(&mut storage, &Step::default(), &[FORWARD])
        .await
        .unwrap();
    Forward {
        graph,
        log_probs,
        session,
        storage,
    }
}

impl Forward {
    async fn read(&self, tensor: Tensor) -> Vec<f64> {
        let len = self.graph.graph.len(tensor);
        self.session.read(&self.storage, tensor, len).await.unwrap()
    }

    async fn named(&self, name: &str) -> Vec<f64> {
        self.read(
            self.graph
                .graph
                .find(name)
                .unwrap_or_else(|| panic!("no tensor {name}")),
        )
        .await
    }
}

/// The reference's norm without modulation, on its own: our kernel fuses the two.
async fn norm_alone(
    device: &Device,
    backbone: &Backbone,
    storage: &mut Storage,
    x: &[f64],
    block: Option<(usize, bool)>,
) -> Vec<f64> {
    let d = backbone.config.hidden_size;
    let mut g = Graph::new(backbone.layout.clone());
    let input = g.input("x", &[x.len() / d, d]);
    let name = match block {
        Some((i, true)) => format!("backbone.blocks.{i}.norm1.weight"),
        Some((i, false)) => format!("backbone.blocks.{i}.norm2.weight"),
        None => "backbone.output_layer.norm_final.weight".to_owned(),
    };
    let weight = g.layout().find(&name).unwrap();
    let weight = g.param(weight);
    let y = g
        .norm("norm", input, Norm::layer(weight).modulated(None))
        .unwrap();
    let mut session = Session::new(device, &mut g, storage, PARAMS, &[y])
        .await
        .unwrap();
    session.write(input, x).unwrap();
    session
        .run(storage, &Step::default(), &[FORWARD])
        .await
        .unwrap()
        .to_vec()
}

pub async fn dit_forward(executor: Executor) {
    dit_forward_in(executor, Element::F32, executor.bound(1e-5)).await;
}

/// What blocks compute, in f16: 11 bits a number, through two blocks: 1.6e-3 at most, as measured.
pub async fn dit_forward_half(executor: Executor) {
    dit_forward_in(executor, Element::F16, 3e-3).await;
}

async fn dit_forward_in(executor: Executor, precision: Element, bound: f64) {
    let (Some(fixture), Some(params)) =
        (Fixture::load("A_dit_forward"), Fixture::load("params_dit"))
    else {
        return;
    };
    for time_conditioning in [false, true] {
        let prefix = if time_conditioning {
            "tc_true"
        } else {
            "tc_false"
        };
        let mut report = Report::new(&format!("A_dit_forward {prefix} {precision}"), executor);
        let (Some(xt), Some(sigma)) = (fixture.tokens("x"), fixture.get("sigma")) else {
            continue;
        };
        let device = executor.device();
        let (backbone, storage) = load(&device, &params, time_conditioning).await;
        let mut run = forward(&device, &backbone, storage, &xt, sigma, precision).await;
        let (d, blocks) = (backbone.config.hidden_size, backbone.config.n_blocks);
        let adaln = run.named("adaLN").await;
        let mut keys: Vec<String> = fixture
            .keys()
            .filter_map(|k| Some(k.strip_prefix(prefix)?.strip_prefix('.')?.to_owned()))
            .collect();
        keys.sort();
        for key in keys {
            let golden = fixture.get(&format!("{prefix}.{key}")).unwrap();
            let block = key
                .strip_prefix("blocks.")
                .map(|r| r.split('.').next().unwrap().parse::<usize>().unwrap());
            let part = key.rsplit('.').next().unwrap();
            let got = match (part, block) {
                ("adaLN", Some(i)) => {
                    let rows = adaln.chunks((6 * blocks + 2) * d);
                    rows.flat_map(|row| row[6 * i * d..6 * (i + 1) * d].to_vec())
                        .collect()
                }
                ("norm1", Some(i)) => {
                    let x = if i == 0 {
                        "vocab_embed".into()
                    } else {
                        format!("blocks.{}.out", i - 1)
                    };
                    let x = run.named(&x).await;
                    norm_alone(&device, &backbone, &mut run.storage, &x, Some((i, true))).await
                }
                ("norm2", Some(i)) => {
                    let x = run.named(&format!("blocks.{i}.x_mid")).await;
                    norm_alone(&device, &backbone, &mut run.storage, &x, Some((i, false))).await
                }
                ("final_norm", _) => {
                    let x = run.named(&format!("blocks.{}.out", blocks - 1)).await;
                    norm_alone(&device, &backbone, &mut run.storage, &x, None).await
                }
                ("rotary_cos" | "rotary_sin", _) => {
                    let offset = usize::from(part == "rotary_sin");
                    run.named("rotary")
                        .await
                        .into_iter()
                        .skip(offset)
                        .step_by(2)
                        .collect()
                }
                ("subs_log_probs", _) => {
                    let got = run.read(run.log_probs.unwrap()).await;
                    report.with_sentinels(&key, &got, golden, bound);
                    continue;
                }
                _ => run.named(&key).await,
            };
            report.relative_to_max(&key, &expand(got, golden.len()), golden, bound);
        }
        report.finish();
    }
}

pub async fn published_layout(executor: Executor) {
    let Some(fixture) = Fixture::load("G_hf_expected") else {
        return;
    };
    let Some(checkpoint) = GOLDEN.folder_of("G_hf_checkpoint") else {
        return;
    };
    let (Some(x), mut report) = (fixture.tokens("x"), Report::new("G", executor)) else {
        return;
    };
    let device = executor.device();
    let (_, backbone, storage) = mdlm::model::load_published(&device, &checkpoint)
        .await
        .unwrap();
    let batch = fixture.size("batch");
    let run = forward(
        &device,
        &backbone,
        storage,
        &x,
        &vec![0.0; batch],
        Element::F32,
    )
    .await;
    let bound = executor.bound(1e-5);
    if let Some(golden) = fixture.get("logits") {
        report.relative_to_max("logits", &run.read(run.graph.logits).await, golden, bound);
    }
    if let Some(golden) = fixture.get("subs_log_probs") {
        report.with_sentinels(
            "subs_log_probs",
            &run.read(run.log_probs.unwrap()).await,
            golden,
            bound,
        );
    }
    report.finish();
}

/// The autoregressive baseline's intermediates, logits and log-probabilities.
pub async fn autoregressive_forward(executor: Executor) {
    let (Some(fixture), Some(params)) = (Fixture::load("D_ar"), Fixture::load("params_ar")) else {
        return;
    };
    let Some(x0) = fixture.tokens("x0") else {
        return;
    };
    let mut report = Report::new("D_ar forward", executor);
    let device = executor.shared();
    let model = ModelConfig {
        kind: ModelKind::Ar,
        ..params.model(false)
    };
    let vocab = model.vocab_size;
    let (backbone, storage) = load_as(device, &params, model).await;
    let batch = fixture.size("batch");
    let length = x0.len() / batch;
    let xt: Vec<u32> = x0
        .chunks_exact(length)
        .flat_map(|row| row[..length - 1].to_vec())
        .collect();
    let run = forward(
        device,
        &backbone,
        storage,
        &xt,
        &vec![0.0; batch],
        Element::F32,
    )
    .await;
    let bound = executor.bound(1e-5);
    for key in ["vocab_embed", "blocks.0.out", "blocks.1.out", "logits"] {
        if let Some(golden) = fixture.get(key) {
            report.relative_to_max(key, &run.named(key).await, golden, bound);
        }
    }
    if let Some(golden) = fixture.get("logprobs") {
        let mask = backbone.config.mask_index as usize;
        // the reference's stand-in for minus infinity, -1000, is ours' absence
        let without = |row: &[f64]| [&row[..mask], &row[mask + 1..]].concat();
        let log_softmax = |row: &[f64]| {
            let row = without(row);
            let top = row.iter().copied().fold(f64::MIN, f64::max);
            let lse = top + row.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
            row.iter().map(|z| z - lse).collect::<Vec<_>>()
        };
        let got: Vec<f64> = run
            .named("logits")
            .await
            .chunks(vocab)
            .flat_map(log_softmax)
            .collect();
        let golden: Vec<f64> = golden.chunks(vocab).flat_map(without).collect();
        report.relative_to_max("logprobs", &got, &golden, bound);
    }
    report.finish();
}

/// The denoiser with its matrices in half precision: the executor against the f64 twin over the same weights, and both
/// against the golden logits within the bound of rounding, 4 u sqrt(matrices) of the largest (see
/// `golden_llm_parts/forward.rs`).
pub async fn weights_at_rest(executor: Executor) {
    let (Some(fixture), Some(params)) =
        (Fixture::load("A_dit_forward"), Fixture::load("params_dit"))
    else {
        return;
    };
    let mut report = Report::new("A, weights at rest in", executor);
    for time_conditioning in [false, true] {
        let prefix = if time_conditioning {
            "tc_true"
        } else {
            "tc_false"
        };
        let Some(golden) = fixture.get(&format!("{prefix}.logits")) else {
            continue;
        };
        for &(element, _) in &Element::WEIGHTS[1..] {
            let (got, matrices) =
                at_rest(&fixture, &params, time_conditioning, executor, element).await;
            let (twin, _) = at_rest(
                &fixture,
                &params,
                time_conditioning,
                Executor::CpuF64,
                element,
            )
            .await;
            let kind = format!("{element:?}, {prefix}");
            report.relative_to_max(
                &format!("{kind} and its twin"),
                &got,
                &twin,
                executor.bound(2e-5),
            );
            // four bits leave little of what a random network says
            if element != Element::Q4 {
                // of 32 numbers the largest is about three times a typical one
                let typical = if element == Element::Q8 { 12.0 } else { 4.0 };
                let bound = typical * element.rounding() * (matrices as f64).sqrt();
                report.relative_to_max(&format!("{kind} and f64"), &got, golden, bound);
            }
        }
    }
    report.finish();
}

async fn at_rest(
    fixture: &Fixture,
    params: &Fixture,
    time_conditioning: bool,
    executor: Executor,
    element: Element,
) -> (Vec<f64>, usize) {
    let device = executor.shared();
    let config = params.model(time_conditioning);
    let backbone = Backbone::with_weights(&config, device.slab_limit(), element).unwrap();
    let mut storage = Storage::new(device, &backbone.layout, &[PARAMS])
        .await
        .unwrap();
    let values =
        |_: usize, key: &mdlm_engine::graph::Key| Ok(params.get(short(&key.key)).unwrap().to_vec());
    storage.write(PARAMS, values).unwrap();
    let half =
        |key: &&mdlm_engine::graph::Key| backbone.layout.slabs()[key.slab].element == element;
    let matrices = backbone.layout.keys().iter().filter(half).count();
    let (xt, sigma) = (fixture.tokens("x").unwrap(), fixture.get("sigma").unwrap());
    let run = forward(device, &backbone, storage, &xt, sigma, Element::F32).await;
    (run.read(run.graph.logits).await, matrices)
}
