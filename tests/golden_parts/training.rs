//! Losses, gradients and ten optimiser steps.

use std::time::Duration;

use crate::common::Executor;
use crate::common::close::{Report, rel_l2};
use crate::common::fixtures::{Fixture, load, load_as, short};
use crate::common::training::subs_batch;
use mdlm::config::{
    ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, OptimConfig, Recipe, TrainConfig,
};
use mdlm::model::Options;
use mdlm::objective;
use mdlm::objective::{Clean, Masked, Objective as _};
use mdlm::ranks::{Alone, Ranks, each};
use mdlm::train::{StepOutcome, TrainSession, ema_decay, learning_rate};
use mdlm_engine::graph::Storage;
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::ops::LOSS_SCALE;
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::{ADAM_M, ADAM_V, EMA};
use mdlm_engine::ops::{BIAS1, BIAS2, EMA_DECAY, LR};
use mdlm_engine::program::Element;
use mdlm_engine::program::Step;
use serde_json::Value;

/// A variant's settings, from the reference's own overrides.
struct Variant {
    noise: NoiseConfig,
    objective: ObjectiveConfig,
    time_conditioning: bool,
}

impl Variant {
    fn new(overrides: &Value) -> Self {
        let mut config = TrainConfig::default();
        for text in overrides.as_array().unwrap() {
            let (key, value) = text.as_str().unwrap().split_once('=').unwrap();
            let value = value.to_lowercase();
            let key = match key {
                "time_conditioning" => "model.time_conditioning",
                "noise" => "noise.type",
                "noise.type" | "noise.sigma_min" | "noise.sigma_max" => key,
                "training.change_of_variables" => "objective.change_of_variables",
                "training.importance_sampling" => "objective.importance_sampling",
                "T" | "parameterization" | "subs_masking" => &format!("objective.{key}"),
                other => panic!("unknown override {other}"),
            };
            config.set(&format!("{key}={value}")).unwrap();
        }
        Self {
            noise: config.noise,
            objective: config.objective,
            time_conditioning: config.model.time_conditioning,
        }
    }
}

pub async fn losses_and_gradients(executor: Executor) {
    losses_and_gradients_in(executor, Element::F32).await;
}

/// With what blocks compute in f16, and a scaled loss.
pub async fn losses_and_gradients_half(executor: Executor) {
    losses_and_gradients_in(executor, Element::F16).await;
}

/// A bound for f32, or what 11 bits a number leave of it.
fn bound(executor: Executor, precision: Element, f32: f64, f16: f64) -> f64 {
    match precision {
        Element::F16 => f16,
        _ => executor.bound(f32),
    }
}

async fn losses_and_gradients_in(executor: Executor, precision: Element) {
    let (Some(fixture), Some(params)) = (Fixture::load("B_losses"), Fixture::load("params_dit"))
    else {
        return;
    };
    let variants = fixture.json["variants"].as_object().unwrap();
    // another folder may hold fewer
    assert!(!variants.is_empty() && (fixture.custom || variants.len() == 16));
    for (name, description) in variants {
        let variant = Variant::new(&description["overrides"]);
        losses_of(executor, precision, &fixture, &params, name, &variant).await;
    }
}

async fn losses_of(
    executor: Executor,
    precision: Element,
    fixture: &Fixture,
    params: &Fixture,
    variant: &str,
    settings: &Variant,
) {
    let key = |name: &str| format!("{variant}.{name}");
    let inputs = (
        fixture.tokens("x0"),
        fixture.tokens(&key("xt")),
        fixture.get(&key("t")),
    );
    let (Some(x0), Some(xt), Some(t)) = inputs else {
        return;
    };
    let mut report = Report::new(&format!("B {variant} {precision}"), executor);
    let device = executor.shared();
    let length = x0.len() / t.len();
    let (backbone, storage) = load(device, params, settings.time_conditioning).await;
    let (noise, config) = (&settings.noise, &settings.objective);
    let objective = objective::make(&backbone.config, noise, config).unwrap();
    let masked = Masked::new(&backbone.config, noise, config).unwrap();
    // the fixture's t have been through importance sampling
    let t: Vec<f64> = match config.t_steps {
        0 => t.to_vec(),
        _ => t.iter().map(|&t| objective.time(t)).collect(),
    };
    for (name, f) in [
        ("t_used", &(|t| t) as &dyn Fn(f64) -> f64),
        ("sigma", &|t| masked.schedule().unwrap().sigma(t)),
        ("dsigma", &|t| masked.schedule().unwrap().dsigma(t)),
        ("move_chance", &|t| masked.move_chance(t)),
    ] {
        if !fixture.keys().any(|k| k == key(name)) {
            continue; // the change of variables has neither sigma nor dsigma
        }
        if let Some(golden) = fixture.get(&key(name)) {
            let got: Vec<_> = t.iter().map(|&t| f(t)).collect();
            // linear has one rate for all
            report.relative_to_max(name, &got[..golden.len()], golden, 1e-6);
        }
    }
    let mut arrays = storage;
    let optim = OptimConfig::default();
    let session = TrainSession::new(
        device,
        &backbone.network,
        &arrays,
        &optim,
        objective.row_loss(),
        Options {
            precision,
            ..Options::of(t.len(), length)
        },
        Some(64),
    );
    let mut train = session.await.unwrap();
    for attended in [true, false] {
        clear_gradients(&mut arrays);
        let mask = if attended {
            fixture.get("attention_mask")
        } else {
            None
        };
        let clean = Clean {
            x0: &x0,
            attention_mask: mask,
            total: mask.map_or(x0.len() as f64, |m| m.iter().sum()),
        };
        let passes = objective
            .training_passes(clean, xt.clone(), &t, None)
            .unwrap();
        let (mut loss, mut per_token) = (0.0, vec![0.0; x0.len()]);
        for batch in &passes {
            let step = match precision {
                Element::F16 => Step::default().with(LOSS_SCALE, SCALE),
                _ => Step::default(),
            };
            let outcome = train.run(&mut arrays, batch, step, false);
            loss += outcome.await.unwrap().loss;
            let (noised, nll) = (batch, train.graph.nll);
            let nll = train.session().read(&arrays, nll, noised.rows.len());
            for (i, nll) in nll.await.unwrap().into_iter().enumerate() {
                per_token[noised.rows[i] as usize] += nll * noised.weights[i] * clean.total;
            }
        }
        let name = if attended { "loss_att" } else { "loss" };
        if let Some(golden) = fixture.get(&key(name)) {
            let error = (loss / golden[0] - 1.0).abs();
            report.note(name, error, bound(executor, precision, 1e-5, 1e-3));
        }
        if attended {
            continue;
        }
        if let Some(golden) = fixture.get(&key("nll_per_token")) {
            let bound = bound(executor, precision, 2e-5, 2e-3);
            report.relative_to_max("nll_per_token", &per_token, golden, bound);
        }
        let gradients = format!("B_grads_{variant}");
        if WITH_GRADIENTS.contains(&variant)
            && let Some(grads) = Fixture::load(&gradients)
        {
            compare_gradients(&mut report, executor, precision, &arrays, &grads).await;
        }
    }
    report.finish();
}

/// Of losses in half precision.
const SCALE: f64 = 65536.0;

/// Variants whose gradients are stored.
const WITH_GRADIENTS: [&str; 4] = [
    "subs_loglinear",
    "subs_loglinear_tc",
    "d3pm_loglinear_T1000_tc",
    "sedd_loglinear_tc",
];

fn clear_gradients(storage: &mut Storage) {
    let written = storage.write(GRADS, |_, key| Ok(vec![0.0; key.len()]));
    written.unwrap();
}

/// The autoregressive baseline: loss, gradients and what is between.
pub async fn autoregressive(executor: Executor) {
    let (Some(fixture), Some(params)) = (Fixture::load("D_ar"), Fixture::load("params_ar")) else {
        return;
    };
    let inputs = (fixture.tokens("x0"), fixture.get("attention_mask"));
    let (Some(x0), Some(mask)) = inputs else {
        return;
    };
    let mut report = Report::new("D_ar", executor);
    let device = executor.shared();
    let model = ModelConfig {
        kind: ModelKind::Ar,
        ..params.model(false)
    };
    let (backbone, mut storage) = load_as(device, &params, model).await;
    let model = &backbone.config;
    let (noise, config) = (NoiseConfig::default(), ObjectiveConfig::default());
    let objective = objective::make(model, &noise, &config).unwrap();
    let batch = fixture.size("batch");
    let length = x0.len() / batch;
    let optim = OptimConfig::default();
    let session = TrainSession::new(
        device,
        &backbone.network,
        &storage,
        &optim,
        objective.row_loss(),
        Options::of(batch, length),
        Some(64),
    );
    let mut train = session.await.unwrap();
    for attended in [true, false] {
        clear_gradients(&mut storage);
        let predicted = |i: &usize| !i.is_multiple_of(length);
        let clean = Clean {
            x0: &x0,
            attention_mask: attended.then_some(mask),
            total: (0..x0.len())
                .filter(predicted)
                .map(|i| if attended { mask[i] } else { 1.0 })
                .sum(),
        };
        let passes = objective.training_passes(clean, x0.clone(), &vec![0.5; batch], None);
        let passes = passes.unwrap();
        let outcome = train.run(&mut storage, &passes[0], Step::default(), false);
        let loss = outcome.await.unwrap().loss;
        let name = if attended { "loss_att" } else { "loss" };
        if let Some(golden) = fixture.get(name) {
            let error = (loss / golden[0] - 1.0).abs();
            report.note(name, error, executor.bound(1e-5));
        }
    }
    let listed = batch * (length - 1);
    let nll = train.session().read(&storage, train.graph.nll, listed);
    if let Some(golden) = fixture.get("nll_per_token") {
        let nll = nll.await.unwrap();
        report.relative_to_max("nll_per_token", &nll, golden, executor.bound(2e-5));
    }
    if let Some(grads) = Fixture::load("D_ar_grads") {
        compare_gradients(&mut report, executor, Element::F32, &storage, &grads).await;
    }
    report.finish();
}

async fn compare_gradients(
    report: &mut Report,
    executor: Executor,
    precision: Element,
    storage: &Storage,
    golden: &Fixture,
) {
    let (mut all, mut all_golden) = (vec![], vec![]);
    let grads = storage.read(GRADS).await.unwrap();
    for (key, got) in storage.layout().keys().iter().zip(grads) {
        let Some(golden) = golden.get(short(&key.key)) else {
            continue;
        };
        let scale = if precision == Element::F16 {
            SCALE
        } else {
            1.0
        };
        let got: Vec<f64> = got.iter().map(|g| g / scale).collect();
        let bound = bound(executor, precision, 3e-5, 1e-2);
        report.relative_to_max(&format!("d {}", key.key), &got, golden, bound);
        all.extend(got);
        all_golden.extend_from_slice(golden);
    }
    report.note(
        "the whole gradient",
        rel_l2(&all, &all_golden),
        bound(executor, precision, 1e-5, 3e-3),
    );
}

pub async fn train_ref(executor: Executor) {
    train(&Alone, executor, "C_train_ref").await;
}

pub async fn train_fast(executor: Executor) {
    train(&Alone, executor, "C_train_fast").await;
}

/// The same steps with the batch split over ranks.
pub fn train_shared(executor: Executor) {
    for name in ["C_train_ref", "C_train_fast"] {
        for size in [2, 4] {
            let ended = each(size, Duration::from_secs(600), |ranks| {
                pollster::block_on(train(&*ranks, executor, name));
            });
            ended.into_iter().for_each(Result::unwrap);
        }
    }
}

async fn train(ranks: &dyn Ranks, executor: Executor, name: &str) {
    let (Some(fixture), Some(params)) = (Fixture::load(name), Fixture::load("params_dit")) else {
        return;
    };
    let device = executor.device();
    let (backbone, mut storage) = load(&device, &params, false).await;
    let hyper = |key: &str| fixture.number(&["hyper", key]);
    let optim = OptimConfig {
        recipe: Recipe::Reference,
        lr: Some(hyper("lr")),
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
    // ranks take a sequence each in turn; of three, one of four has none
    let alone = ranks.size() == 1;
    let share = if alone { batch } else { 1 };
    let mut session = TrainSession::new(
        &device,
        &backbone.network,
        &storage,
        &optim,
        RowLoss::Subs,
        Options::of(share, length),
        Some(64),
    )
    .await
    .unwrap();
    let mut report = Report::new(name, executor);
    let tokens = batch * length;
    for k in 0..t.len() / batch {
        let n = k as i32 + 1;
        let step = Step::default()
            .with(LR, learning_rate(&optim, 1_000_000, k as u64))
            .with(BIAS1, 1.0 - optim.beta1.powi(n))
            .with(BIAS2, 1.0 - optim.beta2.powi(n))
            .with(EMA_DECAY, ema_decay(hyper("ema_decay"), n as u64));
        let (mut outcome, mut summed) = (None, 0.0);
        for first in (0..batch)
            .step_by(share)
            .skip(ranks.rank())
            .step_by(ranks.size())
        {
            let first = k * batch + first;
            let part = first * length..(first + share) * length;
            let b = subs_batch(
                &backbone.config,
                &x0[part.clone()],
                xt[part].to_vec(),
                &t[first..first + share],
                None,
                tokens as f64,
            );
            let b = b.unwrap();
            let run = session.run(&mut storage, &b, step.clone(), alone);
            let made = run.await.unwrap();
            summed += made.loss;
            outcome = Some(made);
        }
        if !alone {
            for slab in storage.layout().clone().trained() {
                let mut grads = storage.read_slab(GRADS, slab).await.unwrap();
                ranks.sum(&mut grads).unwrap();
                storage.write_slab(GRADS, slab, &grads).unwrap();
            }
            let mut loss = [summed];
            ranks.sum_few(&mut loss).unwrap();
            let updated = session.update(&mut storage, &step).await.unwrap();
            outcome = Some(StepOutcome {
                loss: loss[0],
                ..updated
            });
        }
        let outcome = outcome.unwrap();
        assert!(outcome.finite);
        let loss = |run: &str| fixture.json[run][k].as_f64().unwrap();
        let own_loss = (loss("loss_f32") / loss("loss_f64") - 1.0).abs();
        for (name, got, bound) in [
            (
                "loss",
                outcome.loss,
                optimiser_bound(executor, own_loss, 3e-5),
            ),
            ("grad_norm", outcome.grad_norm, executor.bound(1e-5)),
            ("lr", step.get(LR), 1e-6),
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
        (PARAMS, "params"),
        (EMA, "ema"),
        (ADAM_M, "adam_m"),
        (ADAM_V, "adam_v"),
    ] {
        let moments = matches!(arena, ADAM_M | ADAM_V);
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
                let own = own_error(&fixture, &full, "f32_vs_f64_max_rel_to_max");
                let bound = optimiser_bound(executor, own, 4e-5);
                report.relative_to_max(&full, &got, golden, bound);
                continue;
            }
            let worst = got
                .iter()
                .zip(golden)
                .fold(0.0f64, |w, (a, b)| w.max((a - b).abs()));
            let most = if name == "C_train_ref" { 2e-6 } else { 1e-3 };
            let own = own_error(&fixture, &full, "f32_vs_f64_max_abs");
            report.note(&full, worst, optimiser_bound(executor, own, most));
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

/// The reference's own f32 error of a tensor.
fn own_error(fixture: &Fixture, tensor: &str, kind: &str) -> f64 {
    fixture.number(&["tensors", tensor, kind])
}

/// The bound of f64 where Adam divides by a gradient near its epsilon: such an element follows the rounding of the
/// reference's f32 tables as much as its f32 run does.
fn optimiser_bound(executor: Executor, own: f64, f32_bound: f64) -> f64 {
    match executor {
        Executor::CpuF64 => executor.bound(f32_bound).max(own),
        _ => f32_bound,
    }
}
