//! Losses, gradients and ten optimiser steps.

use crate::common::Executor;
use crate::common::close::{Report, rel_l2};
use crate::common::fixtures::{Fixture, load, short};
use mdlm::config::OptimConfig;
use mdlm::device::program::{Arena, Step};
use mdlm::diffusion::Schedule;
use mdlm::graph::Storage;
use mdlm::train::{Batch, TrainSession, ema_decay, learning_rate};

pub async fn losses_and_gradients(executor: Executor) {
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
            let (backbone, mut storage) = load(&device, &params, tc).await;
            let mask = if attended {
                fixture.get("attention_mask")
            } else {
                None
            };
            let total = mask.map_or(x0.len() as f64, |m| m.iter().sum());
            let batch = Batch::new(&backbone.config, &x0, xt.clone(), t, mask, total).unwrap();
            let optim = OptimConfig::default();
            let mut train = TrainSession::new(
                &device,
                &backbone,
                &storage,
                &optim,
                t.len(),
                length,
                Some(64),
            )
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
                per_token[row as usize] =
                    nll * Schedule::default().weight(t[row as usize / length]);
            }
            if let Some(golden) = fixture.get(&key("nll_per_token")) {
                report.relative_to_max("nll_per_token", &per_token, golden, executor.bound(2e-5));
            }
            for (name, f) in [
                ("sigma", Schedule::sigma as fn(&Schedule, f64) -> f64),
                ("dsigma", Schedule::dsigma),
                ("move_chance", Schedule::move_chance),
            ] {
                if let Some(golden) = fixture.get(&key(name)) {
                    let got: Vec<_> = t.iter().map(|&t| f(&Schedule::default(), t)).collect();
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

pub async fn train_ref(executor: Executor) {
    train(executor, "C_train_ref").await;
}

pub async fn train_fast(executor: Executor) {
    train(executor, "C_train_fast").await;
}

async fn train(executor: Executor, name: &str) {
    let (Some(fixture), Some(params)) = (Fixture::load(name), Fixture::load("params_dit")) else {
        return;
    };
    let device = executor.device();
    let (backbone, mut storage) = load(&device, &params, false).await;
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
    let mut session = TrainSession::new(
        &device,
        &backbone,
        &storage,
        &optim,
        batch,
        length,
        Some(64),
    )
    .await
    .unwrap();
    let mut report = Report::new(name, executor);
    let tokens = batch * length;
    for k in 0..t.len() / batch {
        let part = k * tokens..(k + 1) * tokens;
        let t = &t[k * batch..(k + 1) * batch];
        let b = Batch::new(
            &backbone.config,
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
