//! Measures kernels and whole steps; one JSON object a line.

mod support;

use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use mdlm::blocking::wait;
use mdlm::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, OptimConfig};
use mdlm::device::Device;
use mdlm::device::program::{Arena, Extent, Step};
use mdlm::diffusion::{Clean, Objective};
use mdlm::graph::{Graph, Layout, Session, Storage, Tensor};
use mdlm::model::{Backbone, LogitsGraph, time_rows};
use mdlm::ops::{AdamwConfig, Form, RowLoss};
use mdlm::rng::{Rng, Stream};
use mdlm::train::{Batch, TrainSession};
use serde_json::{Value, json};

/// Benchmarks of kernels and of whole training or forward steps.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: support::DeviceArgs,
    /// Seconds to spend on each measurement, at least five runs.
    #[arg(long, default_value_t = 2.0, global = true)]
    seconds: f64,
}

#[derive(Subcommand)]
enum What {
    /// Every kernel at the shapes of a model.
    Kernels(Shape),
    /// A whole optimiser step, or a forward pass to the logits.
    Step(Shape),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Train,
    Forward,
}

#[derive(Clone, Copy, clap::Args)]
struct Shape {
    /// Width of the residual stream.
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    /// Transformer blocks.
    #[arg(long, default_value_t = 4)]
    blocks: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Width of the conditioning vector.
    #[arg(long, default_value_t = 128)]
    cond: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// Sequences.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Vocabulary with the mask.
    #[arg(long, default_value_t = 28)]
    vocab: usize,
    /// What `step` measures.
    #[arg(long, value_enum, default_value = "train")]
    mode: Mode,
}

impl Shape {
    fn model(self) -> ModelConfig {
        ModelConfig {
            kind: ModelKind::Dit,
            vocab_size: self.vocab,
            mask_index: (self.vocab as u32).saturating_sub(1),
            hidden_size: self.hidden,
            n_blocks: self.blocks,
            n_heads: self.heads,
            cond_dim: self.cond,
            length: self.length,
            dropout: 0.0,
            time_conditioning: false,
        }
    }

    /// 2 M N K over the products and attention of one forward pass, all positions projected.
    fn forward_flops(self) -> u64 {
        let rows = (self.batch * self.length) as u64;
        let (d, l, v) = (self.hidden as u64, self.length as u64, self.vocab as u64);
        let block = 2 * rows * 12 * d * d + 4 * rows * l * d;
        self.blocks as u64 * block + 2 * rows * d * v
    }
}

/// Milliseconds of at least five runs after a warm-up.
fn time(seconds: f64, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    run()?;
    run()?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn row(name: &str, shape: &str, device: &Device, times: &[f64], flops: u64, bytes: u64) -> Value {
    let median = times[times.len() / 2];
    json!({
        "name": name,
        "shape": shape,
        "device": device.info().name,
        "median_ms": median,
        "min_ms": times[0],
        "max_ms": times[times.len() - 1],
        "gflops": flops as f64 / median / 1e6,
        "gbps": bytes as f64 / median / 1e6,
    })
}

fn random(n: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, Stream::Init, 0);
    (0..n).map(|_| rng.uniform() - 0.5).collect()
}

fn step(shape: Shape, device: &Device, seconds: f64) -> anyhow::Result<()> {
    let model = shape.model();
    let backbone = Backbone::new(&model, device.slab_limit())?;
    let mut rng = Rng::new(1, Stream::Mask, 0);
    let rows = shape.batch * shape.length;
    let x0: Vec<u32> = (0..rows)
        .map(|_| rng.below(shape.vocab as u64 - 1) as u32)
        .collect();
    let t: Vec<f64> = (0..shape.batch)
        .map(|i| (i as f64 + 0.5) / shape.batch as f64)
        .collect();
    let mask = |(i, &id): (usize, &u32)| {
        if rng.uniform() < t[i / shape.length] {
            model.mask_index
        } else {
            id
        }
    };
    let xt: Vec<u32> = x0.iter().enumerate().map(mask).collect();
    let mut storage = wait(Storage::new(device, &backbone.layout, &Arena::ALL))?;
    let keys = backbone.layout.keys().len();
    let mut index = 0;
    storage.write(Arena::Params, |_, key| {
        index += 1;
        Ok(random(key.len())
            .iter()
            .map(|x| 0.05 * x * index as f64 / keys as f64)
            .collect())
    })?;
    let label = format!(
        "hidden {} blocks {} heads {} length {} batch {} vocab {}",
        shape.hidden, shape.blocks, shape.heads, shape.length, shape.batch, shape.vocab
    );
    let values = Step {
        lr: 1e-5,
        bias1: 0.1,
        bias2: 0.1,
        ema_decay: 0.9,
        ..Step::default()
    };
    let (name, times, flops, report, host_ms);
    if shape.mode == Mode::Train {
        let optim = OptimConfig::default();
        let mut train = wait(TrainSession::new(
            device,
            &backbone,
            &storage,
            &optim,
            RowLoss::Subs,
            shape.batch,
            shape.length,
            None,
        ))?;
        let objective =
            Objective::new(&model, &NoiseConfig::default(), &ObjectiveConfig::default())?;
        let clean = Clean {
            x0: &x0,
            attention_mask: None,
            total: rows as f64,
        };
        let batch = Batch::passes(&model, &objective, clean, xt, &t)?.remove(0);
        times = time(seconds, || {
            wait(train.run(&mut storage, &batch, values.clone(), true))?;
            Ok(())
        })?;
        (name, flops) = ("train_step", 3 * shape.forward_flops());
        report = train.graph.graph.report(device.class(), Arena::ALL.len())?;
        host_ms = train.session().host_ms();
    } else {
        let mut graph = LogitsGraph::new(&backbone, shape.batch, shape.length, false)?;
        let mut session = wait(Session::new(
            device,
            &mut graph.graph,
            &storage,
            Arena::Params,
            &[],
        ))?;
        graph
            .trunk
            .write(&mut session, &x0, &time_rows(&model, [0.0]))?;
        times = time(seconds, || {
            session.write_uint(graph.trunk.xt, &xt)?;
            wait(session.run(&mut storage, &values, false))?;
            // a read waits for the device
            wait(session.read(&storage, graph.logits, 1))?;
            Ok(())
        })?;
        (name, flops) = ("forward", shape.forward_flops());
        report = graph.graph.report(device.class(), 1)?;
        host_ms = session.host_ms();
    }
    let mut line = row(name, &label, device, &times, flops, 0);
    let median = times[times.len() / 2];
    let peak = number(&multiply_add(device, seconds)?, "gflops");
    for (key, value) in [
        ("peak_fraction", json!(number(&line, "gflops") / peak)),
        ("tokens_per_s", json!(rows as f64 / median * 1e3)),
        ("dispatches", json!(report.dispatches)),
        ("peak_bytes", json!(report.total_bytes)),
        ("params", json!(backbone.layout.parameters())),
        ("host_ms", json!(host_ms)),
    ] {
        line[key] = value;
    }
    println!("{line}");
    Ok(())
}

/// Launches of a kernel in one run, so that submission and waiting weigh little.
const REPEAT: usize = 4;

/// Times a graph that `build` makes of one operation, repeated; milliseconds of one.
fn kernel(
    device: &Device,
    seconds: f64,
    layout: &Arc<Layout>,
    mut build: impl FnMut(&mut Graph) -> mdlm::Result<Tensor>,
) -> anyhow::Result<Vec<f64>> {
    let mut graph = Graph::new(layout.clone());
    let mut last = build(&mut graph)?;
    for _ in 1..REPEAT {
        last = build(&mut graph)?;
    }
    let mut storage = wait(Storage::new(device, layout, &Arena::ALL))?;
    let mut session = wait(Session::new(
        device,
        &mut graph,
        &storage,
        Arena::Params,
        &[],
    ))?;
    for name in ["a", "b", "w"] {
        if let Some(input) = graph.find(name) {
            session.write(input, &random(graph.len(input)))?;
        }
    }
    let values = Step {
        rows: u32::MAX,
        lr: 1e-3,
        bias1: 0.1,
        bias2: 0.1,
        ..Step::default()
    };
    let times = time(seconds, || {
        wait(session.run(&mut storage, &values, true))?;
        wait(session.read(&storage, last, 1))?;
        Ok(())
    })?;
    Ok(times.into_iter().map(|ms| ms / REPEAT as f64).collect())
}

/// An input of that name, made once for all repetitions.
fn input(g: &mut Graph, name: &str, shape: &[usize]) -> Tensor {
    g.find(name).unwrap_or_else(|| g.input(name, shape))
}

/// The multiply-add kernel whose rate is the peak that others are compared with.
fn multiply_add(device: &Device, seconds: f64) -> anyhow::Result<Value> {
    let (n, rounds) = (1 << 20, 256);
    let times = kernel(device, seconds, &Arc::new(Layout::default()), |g| {
        let x = input(g, "a", &[n]);
        g.roofline(x, rounds)
    })?;
    let (shape, flops) = (format!("{n} x {rounds}"), (2 * n * rounds) as u64);
    let mut peak = row("multiply_add", &shape, device, &times, flops, 0);
    peak["peak_fraction"] = json!(1.0);
    Ok(peak)
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or(f64::NAN)
}

fn kernels(shape: Shape, device: &Device, seconds: f64) -> anyhow::Result<()> {
    let (rows, d) = (shape.batch * shape.length, shape.hidden);
    let none = Arc::new(Layout::default());
    let peak = multiply_add(device, seconds)?;
    println!("{peak}");
    let copied = 1 << 24;
    let times = kernel(device, seconds, &none, |g| {
        let x = input(g, "a", &[copied]);
        g.roofline(x, 0)
    })?;
    let mut copy = row(
        "copy",
        &copied.to_string(),
        device,
        &times,
        0,
        8 * copied as u64,
    );
    copy["peak_fraction"] = json!(1.0);
    println!("{copy}");
    let (peak_gflops, peak_gbps) = (number(&peak, "gflops"), number(&copy, "gbps"));
    let report = |name: &str, shape: String, times: Vec<f64>, flops: u64, bytes: u64| {
        let mut line = row(name, &shape, device, &times, flops, bytes);
        let share = if flops > 0 {
            number(&line, "gflops") / peak_gflops
        } else {
            number(&line, "gbps") / peak_gbps
        };
        line["peak_fraction"] = json!(share);
        println!("{line}");
    };

    for (m, n, k) in [
        (512, 512, 512),
        (1024, 1024, 1024),
        (rows, 3 * d, d),
        (rows, d, d),
        (rows, 4 * d, d),
        (rows, d, 4 * d),
    ] {
        for (form, name) in [
            (Form::Nt, "matmul_nt"),
            (Form::Nn, "matmul_nn"),
            (Form::Tn, "matmul_tn"),
        ] {
            // the products of a linear layer n x k on m rows: Y = X W^T, dX = dY W, dW = dY^T X
            let (a, b) = match form {
                Form::Nt => ([m, k], [n, k]),
                Form::Nn => ([m, n], [n, k]),
                Form::Tn => ([m, n], [m, k]),
            };
            let times = kernel(device, seconds, &none, |g| {
                let (a, b) = (input(g, "a", &a), input(g, "b", &b));
                g.matmul("c", form, a, b)
            })?;
            report(
                name,
                format!("{m}x{n}x{k}"),
                times,
                2 * (m * n * k) as u64,
                0,
            );
        }
    }
    let label = format!(
        "batch {} length {} heads {} hidden {d}",
        shape.batch, shape.length, shape.heads
    );
    let flops = 4 * (rows * shape.length * d) as u64;
    let times = kernel(device, seconds, &none, |g| {
        let qkv = input(g, "a", &[rows, 3 * d]);
        g.attention("o", qkv, shape.length, shape.heads, false)
    })?;
    report("attention", label.clone(), times, flops, 0);
    let mut b = Layout::builder(device.slab_limit());
    let (qkv, weight) = (b.tensor("qkv", &[rows, 3 * d])?, b.tensor("weight", &[d])?);
    let layout = Arc::new(b.finish(|_| 0));
    let times = kernel(device, seconds, &layout, |g| {
        let (qkv, w) = (g.param(qkv), input(g, "w", &[rows, d]));
        let o = g.attention("o", qkv, shape.length, shape.heads, false)?;
        let loss = g.weighted_sum("loss", o, w, Extent::Fixed(rows * d))?;
        g.backward(loss)?;
        Ok(loss)
    })?;
    report("attention_and_backward", label, times, flops / 2 * 7, 0);
    let times = kernel(device, seconds, &layout, |g| {
        let (x, w) = (input(g, "a", &[rows, d]), g.param(weight));
        g.layer_norm("y", x, w, None)
    })?;
    report(
        "layer_norm",
        format!("{rows}x{d}"),
        times,
        0,
        (8 * rows * d) as u64,
    );
    let times = kernel(device, seconds, &none, |g| {
        let x = input(g, "a", &[rows, 3 * d]);
        let table = g.rotary_table(shape.length, d / shape.heads);
        g.rotary("y", x, table, shape.heads)
    })?;
    report(
        "rotary",
        format!("{rows}x{}", 3 * d),
        times,
        0,
        (24 * rows * d) as u64,
    );
    let times = kernel(device, seconds, &none, |g| {
        let x = input(g, "a", &[rows, 4 * d]);
        Ok(g.silu("y", x))
    })?;
    report(
        "silu",
        format!("{rows}x{}", 4 * d),
        times,
        0,
        (32 * rows * d) as u64,
    );
    let parameters: usize = layout.slabs().iter().sum();
    let times = kernel(device, seconds, &layout, |g| {
        let stats = g.grad_norm(1.0);
        let adamw = AdamwConfig {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        };
        g.adamw(stats, adamw)?;
        Ok(stats)
    })?;
    report(
        "grad_norm_and_adamw",
        parameters.to_string(),
        times,
        0,
        44 * parameters as u64,
    );
    Ok(())
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = args.device.open()?;
    match args.what {
        What::Kernels(shape) => kernels(shape, &device, args.seconds),
        What::Step(shape) => step(shape, &device, args.seconds),
    }
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
