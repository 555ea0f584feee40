//! The executors against the reference implementation's numbers (see `tests/golden/README.md`).
#![allow(clippy::unwrap_used)]

mod common;

use common::Executor;
use common::close::{Report, rel_l2};
use common::fixtures::{Fixture, load, short};
use mdlm::config::{LrSchedule, OptimConfig};
use mdlm::device::Device;
use mdlm::device::program::{Arena, Step};
use mdlm::diffusion::{Loglinear, stratified};
use mdlm::graph::{Graph, Session, Storage, Tensor};
use mdlm::model::{Dit, LogitsGraph, time_embedding};
use mdlm::train::{Batch, TrainSession, ema_decay, learning_rate};

/// One test for each executor.
macro_rules! executors {
    ($name:ident, $check:ident) => {
        mod $name {
            #[test]
            fn gpu() {
                pollster::block_on(super::$check(super::Executor::Gpu));
            }
            #[test]
            fn cpu_f32() {
                pollster::block_on(super::$check(super::Executor::CpuF32));
            }
            #[test]
            fn cpu_f64() {
                pollster::block_on(super::$check(super::Executor::CpuF64));
            }
        }
    };
}

executors!(a_dit_forward, dit_forward);
executors!(b_losses_and_gradients, losses_and_gradients);
executors!(c_train_ref, train_ref);
executors!(c_train_fast, train_fast);
executors!(g_published_layout, published_layout);

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
    session: Session,
    storage: Storage,
}

async fn forward(
    device: &Device,
    dit: &Dit,
    storage: Storage,
    xt: &[u32],
    sigma: &[f64],
) -> Forward {
    let length = xt.len() / sigma.len();
    let mut graph = LogitsGraph::new(dit, sigma.len(), length, true).unwrap();
    let mut session = Session::new(device, &mut graph.graph, &storage, Arena::Params, &[])
        .await
        .unwrap();
    let mut time = Vec::new();
    for &sigma in &sigma[..dit.cond_rows(sigma.len())] {
        time_embedding(
            if dit.config.time_conditioning {
                sigma
            } else {
                0.0
            },
            &mut time,
        );
    }
    session.write_uint(graph.trunk.xt, xt).unwrap();
    session.write(graph.trunk.time, &time).unwrap();
    let mut storage = storage;
    session
        .run(&mut storage, &Step::default(), false)
        .await
        .unwrap();
    Forward {
        graph,
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
    dit: &Dit,
    storage: &mut Storage,
    x: &[f64],
    block: Option<(usize, bool)>,
) -> Vec<f64> {
    let d = dit.config.hidden_size;
    let mut g = Graph::new(dit.layout.clone());
    let input = g.input("x", &[x.len() / d, d]);
    let weight = match block {
        Some((i, first)) => {
            if first {
                dit.params.blocks[i].norm1
            } else {
                dit.params.blocks[i].norm2
            }
        }
        None => dit.params.norm_final,
    };
    let weight = g.param(weight);
    let y = g.layer_norm("norm", input, weight, None).unwrap();
    let mut session = Session::new(device, &mut g, storage, Arena::Params, &[y])
        .await
        .unwrap();
    session.write(input, x).unwrap();
    session
        .run(storage, &Step::default(), false)
        .await
        .unwrap()
        .to_vec()
}

async fn dit_forward(executor: Executor) {
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
        let mut report = Report::new(&format!("A_dit_forward {prefix}"), executor);
        let (Some(xt), Some(sigma)) = (fixture.tokens("x"), fixture.get("sigma")) else {
            continue;
        };
        let device = executor.device();
        let (dit, storage) = load(&device, &params, time_conditioning).await;
        let mut run = forward(&device, &dit, storage, &xt, sigma).await;
        let bound = executor.bound(1e-5);
        let (d, blocks) = (dit.config.hidden_size, dit.config.n_blocks);
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
                    norm_alone(&device, &dit, &mut run.storage, &x, Some((i, true))).await
                }
                ("norm2", Some(i)) => {
                    let x = run.named(&format!("blocks.{i}.x_mid")).await;
                    norm_alone(&device, &dit, &mut run.storage, &x, Some((i, false))).await
                }
                ("final_norm", _) => {
                    let x = run.named(&format!("blocks.{}.out", blocks - 1)).await;
                    norm_alone(&device, &dit, &mut run.storage, &x, None).await
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
                    let got = run.read(run.graph.log_probs).await;
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

async fn losses_and_gradients(executor: Executor) {
    let (Some(fixture), Some(params)) = (Fixture::load("B_losses"), Fixture::load("params_dit"))
    else {
        return;
    };
    for variant in ["subs_loglinear", "subs_loglinear_tc", "subs_loglinear_edge"] {
        let key = |name: &str| format!("{variant}.{name}");
        let inputs = (
            fixture.tokens("x0"),
            fixture.tokens(&key("xt")),
            fixture.get(&key("t")),
        );
        let (Some(x0), Some(xt), Some(t)) = inputs else {
            continue;
        };
        let mut report = Report::new(&format!("B {variant}"), executor);
        let device = executor.device();
        let tc = variant.ends_with("_tc");
        let length = x0.len() / t.len();
        for attended in [true, false] {
            let (dit, mut storage) = load(&device, &params, tc).await;
            let mask = if attended {
                fixture.get("attention_mask")
            } else {
                None
            };
            let total = mask.map_or(x0.len() as f64, |m| m.iter().sum());
            let batch = Batch::new(&dit.config, &x0, xt.clone(), t, mask, total).unwrap();
            let optim = OptimConfig::default();
            let mut train =
                TrainSession::new(&device, &dit, &storage, &optim, t.len(), length, Some(64))
                    .await
                    .unwrap();
            let outcome = train
                .run(&mut storage, &batch, Step::default(), false)
                .await
                .unwrap();
            let name = if attended { "loss_att" } else { "loss" };
            if let Some(golden) = fixture.get(&key(name)) {
                report.note(
                    name,
                    (outcome.loss / golden[0] - 1.0).abs(),
                    executor.bound(1e-5),
                );
            }
            if attended {
                continue;
            }
            let nll = train
                .session()
                .read(&storage, train.graph.nll, batch.noised.rows.len())
                .await
                .unwrap();
            let mut per_token = vec![0.0; x0.len()];
            for (&row, nll) in batch.noised.rows.iter().zip(nll) {
                per_token[row as usize] = nll * Loglinear.weight(t[row as usize / length]);
            }
            if let Some(golden) = fixture.get(&key("nll_per_token")) {
                report.relative_to_max("nll_per_token", &per_token, golden, executor.bound(2e-5));
            }
            for (name, f) in [
                ("sigma", Loglinear::sigma as fn(_, f64) -> f64),
                ("dsigma", Loglinear::dsigma),
                ("move_chance", Loglinear::move_chance),
            ] {
                if let Some(golden) = fixture.get(&key(name)) {
                    let got: Vec<_> = t.iter().map(|&t| f(Loglinear, t)).collect();
                    report.relative_to_max(name, &got, golden, 1e-6);
                }
            }
            // the edge variant comes without gradients
            if variant != "subs_loglinear_edge"
                && let Some(grads) = Fixture::load(&format!("B_grads_{variant}"))
            {
                compare_gradients(&mut report, executor, &storage, &grads).await;
            }
        }
        report.finish();
    }
}

async fn compare_gradients(
    report: &mut Report,
    executor: Executor,
    storage: &Storage,
    golden: &Fixture,
) {
    let (mut all, mut all_golden) = (vec![], vec![]);
    let grads = storage.read(Arena::Grads).await.unwrap();
    for (key, got) in storage.layout().keys().iter().zip(grads) {
        let Some(golden) = golden.get(short(&key.key)) else {
            continue;
        };
        report.relative_to_max(
            &format!("d {}", key.key),
            &got,
            golden,
            executor.bound(3e-5),
        );
        all.extend(got);
        all_golden.extend_from_slice(golden);
    }
    report.note(
        "the whole gradient",
        rel_l2(&all, &all_golden),
        executor.bound(1e-5),
    );
}

async fn train_ref(executor: Executor) {
    train(executor, "C_train_ref").await;
}

async fn train_fast(executor: Executor) {
    train(executor, "C_train_fast").await;
}

async fn train(executor: Executor, name: &str) {
    let (Some(fixture), Some(params)) = (Fixture::load(name), Fixture::load("params_dit")) else {
        return;
    };
    let device = executor.device();
    let (dit, mut storage) = load(&device, &params, false).await;
    let hyper = |key: &str| fixture.number(&["hyper", key]);
    let optim = OptimConfig {
        lr: hyper("lr"),
        beta1: hyper("beta1"),
        beta2: hyper("beta2"),
        eps: hyper("eps"),
        weight_decay: hyper("weight_decay"),
        clip: hyper("clip"),
        warmup: Some(hyper("warmup") as u64),
        ..OptimConfig::default()
    };
    let (batch, length) = (fixture.size("batch"), fixture.size("length"));
    let inputs = (fixture.tokens("x0"), fixture.tokens("xt"), fixture.get("t"));
    let (Some(x0), Some(xt), Some(t)) = inputs else {
        return;
    };
    let mut session = TrainSession::new(&device, &dit, &storage, &optim, batch, length, Some(64))
        .await
        .unwrap();
    let mut report = Report::new(name, executor);
    let tokens = batch * length;
    for k in 0..t.len() / batch {
        let part = k * tokens..(k + 1) * tokens;
        let t = &t[k * batch..(k + 1) * batch];
        let b = Batch::new(
            &dit.config,
            &x0[part.clone()],
            xt[part].to_vec(),
            t,
            None,
            tokens as f64,
        )
        .unwrap();
        let n = k as i32 + 1;
        let step = Step {
            lr: learning_rate(&optim, 1_000_000, k as u64),
            bias1: 1.0 - optim.beta1.powi(n),
            bias2: 1.0 - optim.beta2.powi(n),
            ema_decay: ema_decay(hyper("ema_decay"), n as u64),
            ..Step::default()
        };
        let outcome = session
            .run(&mut storage, &b, step.clone(), true)
            .await
            .unwrap();
        assert!(outcome.finite);
        for (name, got, bound) in [
            ("loss", outcome.loss, executor.bound(3e-5)),
            ("grad_norm", outcome.grad_norm, executor.bound(1e-5)),
            ("lr", step.lr, 1e-6),
        ] {
            if let Some(golden) = fixture.get(name) {
                let error = if golden[k] == 0.0 {
                    got.abs()
                } else {
                    (got / golden[k] - 1.0).abs()
                };
                report.note(&format!("{name} of step {k}"), error, bound);
            }
        }
    }
    for (arena, prefix) in [
        (Arena::Params, "params"),
        (Arena::Ema, "ema"),
        (Arena::M, "adam_m"),
        (Arena::V, "adam_v"),
    ] {
        let moments = matches!(arena, Arena::M | Arena::V);
        let (mut got_all, mut golden_all) = (vec![], vec![]);
        let values = storage.read(arena).await.unwrap();
        for (key, got) in storage.layout().keys().iter().zip(values) {
            let key = short(&key.key);
            let full = format!("{prefix}.{key}");
            if moments && !fixture.keys().any(|k| k == full) {
                continue; // the fixtures hold the moments of a few tensors only
            }
            let Some(golden) = fixture.get(&full) else {
                continue;
            };
            if moments {
                // ten times the reference's own f32 error
                report.relative_to_max(&full, &got, golden, executor.bound(4e-5));
                continue;
            }
            let worst = got
                .iter()
                .zip(golden)
                .fold(0.0f64, |w, (a, b)| w.max((a - b).abs()));
            let most = if name == "C_train_ref" { 2e-6 } else { 1e-3 };
            report.note(&full, worst, executor.bound(most));
            let start = params.get(key).unwrap();
            got_all.extend(got.iter().zip(start).map(|(a, s)| a - s));
            golden_all.extend(golden.iter().zip(start).map(|(a, s)| a - s));
        }
        if !moments {
            let bound = if name == "C_train_ref" { 2e-2 } else { 1e-3 };
            report.note(
                &format!("{prefix}: the whole update"),
                rel_l2(&got_all, &golden_all),
                bound,
            );
        }
    }
    report.finish();
}

async fn published_layout(executor: Executor) {
    let Some(fixture) = Fixture::load("G_hf_expected") else {
        return;
    };
    let Some(checkpoint) = Fixture::folder_of("G_hf_checkpoint") else {
        return;
    };
    let (Some(x), mut report) = (fixture.tokens("x"), Report::new("G", executor)) else {
        return;
    };
    let device = executor.device();
    let (dit, storage) = mdlm::model::load_published(&device, &checkpoint)
        .await
        .unwrap();
    let batch = fixture.size("batch");
    let run = forward(&device, &dit, storage, &x, &vec![0.0; batch]).await;
    let bound = executor.bound(1e-5);
    if let Some(golden) = fixture.get("logits") {
        report.relative_to_max("logits", &run.read(run.graph.logits).await, golden, bound);
    }
    if let Some(golden) = fixture.get("subs_log_probs") {
        report.with_sentinels(
            "subs_log_probs",
            &run.read(run.graph.log_probs).await,
            golden,
            bound,
        );
    }
    report.finish();
}

#[test]
fn e_time_and_noise() {
    let Some(fixture) = Fixture::load("E_time_noise") else {
        return;
    };
    let mut report = Report::new("E_time_noise", Executor::CpuF64);
    for key in fixture
        .keys()
        .filter(|k| k.starts_with("sample_t.") && k.ends_with(".u"))
        .collect::<Vec<_>>()
    {
        let name = key.trim_end_matches('u');
        let Some(u) = fixture.get(key) else { continue };
        if let Some(golden) = fixture.get(&format!("{name}anti")) {
            report.relative_to_max(&format!("{name}anti"), &stratified(u, 1e-3), golden, 1e-6);
        }
    }
    if let Some(grid) = fixture.get("grid") {
        type Function = fn(Loglinear, f64) -> f64;
        let functions: [(&str, Function); 4] = [
            ("sigma", Loglinear::sigma),
            ("dsigma", Loglinear::dsigma),
            ("move_chance", Loglinear::move_chance),
            ("weight", Loglinear::weight),
        ];
        for (name, f) in functions {
            let Some(golden) = fixture.get(&format!("loglinear.{name}")) else {
                continue;
            };
            for (&t, &golden) in grid.iter().zip(golden) {
                let got = f(Loglinear, t);
                let same = got == golden;
                report.note(
                    &format!("loglinear.{name}({t})"),
                    if same {
                        0.0
                    } else {
                        (got / golden - 1.0).abs()
                    },
                    1e-6,
                );
            }
        }
    }
    let (Some(steps), Some(constant), Some(cosine)) = (
        fixture.get("lr.steps"),
        fixture.get("lr.constant"),
        fixture.get("lr.cosine"),
    ) else {
        return;
    };
    for (schedule, warmup, golden) in [
        (LrSchedule::Constant, 2500, constant),
        (LrSchedule::Cosine, 100_000, cosine),
    ] {
        let optim = OptimConfig {
            schedule,
            warmup: Some(warmup),
            ..OptimConfig::default()
        };
        let got: Vec<f64> = steps
            .iter()
            .map(|&k| learning_rate(&optim, 1_000_000, k as u64))
            .collect();
        report.relative_to_max(&format!("lr {schedule:?}"), &got, golden, 1e-6);
    }
    report.finish();
}
