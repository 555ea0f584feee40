//! Every kernel at the shapes of a model, with its share of what the device can do.

use std::sync::Arc;

use mdlm::Device;
use mdlm_engine::graph::{Graph, Layout, Tensor};
use mdlm_engine::ops::{
    AdamwConfig, COEFFICIENTS, Dropout, Form, HeadLoss, Modulation, RowLoss, Rule, Segments,
    embedding_segments,
};
use mdlm_engine::ops::{Attend, Heads, Seen, rotary_frequencies};
use mdlm_engine::ops::{Never, Norm, Race};
use mdlm_engine::ops::{PARTS, SEGMENTS, TOP_P};
use mdlm_engine::rng::{Rng, Stream};
use serde_json::{Value, json};

use crate::launch::{Feed, differentiate, input, integers, kernel, parameters};
use crate::{Shape, number, row};

/// The multiply-add kernel whose rate is the peak that others are compared with.
pub fn multiply_add(device: &Device, seconds: f64) -> anyhow::Result<Value> {
    let (n, rounds) = (1 << 20, 256);
    let times = kernel(device, seconds, &Arc::default(), &Feed::default(), |g| {
        let x = input(g, "a", &[n]);
        g.roofline(x, rounds)
    })?;
    let (shape, flops) = (format!("{n} x {rounds}"), (2 * n * rounds) as u64);
    let mut peak = row("multiply_add", &shape, device, &times, flops, 0);
    peak["peak_fraction"] = json!(1.0);
    Ok(peak)
}

/// Kernels on a device, and the two rates that they are compared with.
struct Kernels<'a> {
    device: &'a Device,
    seconds: f64,
    shape: Shape,
    gflops: f64,
    gbps: f64,
}

/// A kernel's line: its name, its shape, and what one launch computes or moves.
struct Work<'a> {
    name: &'a str,
    shape: String,
    flops: usize,
    bytes: usize,
}

impl Kernels<'_> {
    /// Times a kernel and prints its line, with the share of the rate that bounds it.
    fn measure(
        &self,
        work: Work<'_>,
        layout: &Arc<Layout>,
        feed: &Feed,
        build: impl FnMut(&mut Graph) -> mdlm::Result<Tensor>,
    ) -> anyhow::Result<()> {
        let times = kernel(self.device, self.seconds, layout, feed, build)?;
        let (flops, bytes) = (work.flops as u64, work.bytes as u64);
        let mut line = row(work.name, &work.shape, self.device, &times, flops, bytes);
        let share = if flops > 0 {
            number(&line, "gflops") / self.gflops
        } else {
            number(&line, "gbps") / self.gbps
        };
        line["peak_fraction"] = json!(share);
        println!("{line}");
        Ok(())
    }

    /// As [`Kernels::measure`], without parameters and with random numbers only.
    fn plain(
        &self,
        work: Work<'_>,
        build: impl FnMut(&mut Graph) -> mdlm::Result<Tensor>,
    ) -> anyhow::Result<()> {
        self.measure(work, &Arc::default(), &Feed::default(), build)
    }

    fn products(&self) -> anyhow::Result<()> {
        let (rows, d) = (self.shape.batch * self.shape.length, self.shape.hidden);
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
                let work = Work {
                    name,
                    shape: format!("{m}x{n}x{k}"),
                    flops: 2 * m * n * k,
                    bytes: 0,
                };
                self.plain(work, |g| {
                    let (a, b) = (input(g, "a", &a), input(g, "b", &b));
                    g.matmul("c", form, a, b)
                })?;
            }
        }
        Ok(())
    }

    fn attention(&self) -> anyhow::Result<()> {
        let Shape {
            batch,
            length,
            heads,
            hidden: d,
            ..
        } = self.shape;
        let rows = batch * length;
        let flops = 4 * rows * length * d;
        let work = |name, flops| Work {
            name,
            shape: format!("batch {batch} length {length} heads {heads} hidden {d}"),
            flops,
            bytes: 0,
        };
        self.plain(work("attention", flops), |g| {
            let qkv = input(g, "a", &[rows, 3 * d]);
            g.attention("o", &Attend::fused(qkv, batch, heads, d / heads, Seen::All))
        })?;
        let (ids, layout) = parameters(self.device, &[("qkv", &[rows, 3 * d])])?;
        let both = work("attention_and_backward", flops / 2 * 7);
        self.measure(both, &layout, &Feed::default(), |g| {
            let qkv = g.param(ids[0]);
            let o = g.attention("o", &Attend::fused(qkv, batch, heads, d / heads, Seen::All))?;
            differentiate(g, o)
        })?;
        // the last token of full caches
        let feed = Feed {
            integers: vec![("positions", vec![length as u32 - 1; batch])],
            ..Feed::default()
        };
        let cached = Work {
            bytes: 4 * batch * (2 * length * d + 4 * d),
            ..work("cached_attention", 0)
        };
        self.measure(cached, &Arc::default(), &feed, |g| {
            let qkv = input(g, "a", &[batch, 3 * d]);
            let cache = input(g, "b", &[batch, length, 2 * d]);
            let positions = integers(g, "positions", &[batch]);
            let part = |tensor, i: usize| Heads {
                tensor,
                column: i * d,
            };
            g.store_rows(part(qkv, 1), positions, cache)?;
            let attend = Attend {
                k: part(cache, 0),
                v: part(cache, 1),
                ..Attend::fused(qkv, batch, heads, d / heads, Seen::All)
            };
            g.attention("o", &attend)
        })
    }

    fn elementwise(&self) -> anyhow::Result<()> {
        let Shape {
            batch,
            length,
            heads,
            hidden: d,
            ..
        } = self.shape;
        let rows = batch * length;
        let work = |name, width: usize, bytes| Work {
            name,
            shape: format!("{rows}x{width}"),
            flops: 0,
            bytes,
        };
        let (ids, layout) = parameters(self.device, &[("weight", &[d])])?;
        let norm = work("norm", d, 8 * rows * d);
        self.measure(norm, &layout, &Feed::default(), |g| {
            let (x, w) = (input(g, "a", &[rows, d]), g.param(ids[0]));
            g.norm("y", x, Norm::layer(w).modulated(None))
        })?;
        self.plain(work("rotary", 3 * d, 24 * rows * d), |g| {
            let x = input(g, "a", &[rows, 3 * d]);
            let table = g.rotary_table(length, &rotary_frequencies(d / heads, 10000.0));
            g.rotary("y", x, table, 2 * heads, d / heads)
        })?;
        self.plain(work("silu", 4 * d, 32 * rows * d), |g| {
            let x = input(g, "a", &[rows, 4 * d]);
            g.silu("y", x)
        })?;
        // a gate for each sequence; the branch is a product of rank 16, which weighs little
        let shapes: [(&str, &[usize]); 2] = [("residual", &[rows, d]), ("gate", &[batch, d])];
        let (ids, layout) = parameters(self.device, &shapes)?;
        let gated = work("gated_residual_and_backward", d, 24 * rows * d);
        self.measure(gated, &layout, &Feed::default(), |g| {
            let (x, w) = (input(g, "a", &[rows, 16]), input(g, "b", &[d, 16]));
            let (residual, gate) = (g.param(ids[0]), g.param(ids[1]));
            let place = Modulation {
                sample_rows: length,
                stride: d,
                column: 0,
            };
            let (names, gate) = (["branch", "y"], Some((gate, place)));
            let none = Dropout::default();
            let [_, y] = g.linear_residual(names, x, w, None, residual, gate, none)?;
            differentiate(g, y)
        })
    }

    fn embedding(&self) -> anyhow::Result<()> {
        let Shape {
            hidden: d, vocab, ..
        } = self.shape;
        let rows = self.shape.batch * self.shape.length;
        // half of the rows are the mask, whose gradient is the longest sum
        let mut rng = Rng::new(1, Stream::Mask, 0);
        let mut id = |row: usize| match row % 2 {
            0 => vocab as u32 - 1,
            _ => rng.below(vocab as u64) as u32,
        };
        let ids: Vec<u32> = (0..rows).map(&mut id).collect();
        let mut s = Segments::default();
        embedding_segments(&ids, None, &mut s);
        let step = Feed::default()
            .step
            .with(PARTS, s.part_count())
            .with(SEGMENTS, s.segment_count());
        let feed = Feed {
            step,
            integers: vec![
                ("ids", ids),
                ("segments.order", s.order),
                ("segments.parts", s.parts),
                ("segments.tokens", s.segments),
            ],
        };
        let (params, layout) = parameters(self.device, &[("table", &[vocab, d])])?;
        let work = |name, bytes| Work {
            name,
            shape: format!("{rows} of {vocab}x{d}"),
            flops: 0,
            bytes,
        };
        self.measure(work("embedding", 8 * rows * d), &layout, &feed, |g| {
            let (ids, table) = (integers(g, "ids", &[rows]), input(g, "a", &[vocab, d]));
            g.embedding("x", ids, table, None)
        })?;
        let mut inputs = None;
        let both = work("embedding_and_backward", 16 * rows * d);
        self.measure(both, &layout, &feed, |g| {
            let (ids, table) = (integers(g, "ids", &[rows]), g.param(params[0]));
            let inputs = *inputs.get_or_insert_with(|| g.segment_inputs(rows, vocab));
            let x = g.embedding("x", ids, table, Some(inputs))?;
            differentiate(g, x)
        })
    }

    /// The output head with each loss and its gradients, and with draws in place of a loss.
    fn head(&self) -> anyhow::Result<()> {
        let Shape {
            hidden: d, vocab, ..
        } = self.shape;
        let rows = self.shape.batch * self.shape.length;
        let chunk = ((1 << 24) / vocab.max(1)).max(64);
        let mask_index = vocab as u32 - 1;
        let shapes: [(&str, &[usize]); 3] = [
            ("hidden", &[rows, d]),
            ("head", &[vocab, d]),
            ("bias", &[vocab]),
        ];
        let (ids, layout) = parameters(self.device, &shapes)?;
        let work = |name, products: usize| Work {
            name,
            shape: format!("{rows}x{vocab}x{d}"),
            flops: products * 2 * rows * vocab * d,
            bytes: 0,
        };
        for (loss, name) in [
            (RowLoss::Subs, "head_loss_subs"),
            (RowLoss::D3pm, "head_loss_d3pm"),
            (RowLoss::Sedd, "head_loss_sedd"),
        ] {
            self.measure(work(name, 3), &layout, &Feed::default(), |g| {
                let coefficients = loss
                    .has_coefficients()
                    .then(|| input(g, "b", &[rows, COEFFICIENTS]));
                let head = HeadLoss {
                    loss,
                    coefficients,
                    hidden: g.param(ids[0]),
                    weight: g.param(ids[1]),
                    bias: Some(g.param(ids[2])),
                    targets: integers(g, "targets", &[rows]),
                    weights: input(g, "a", &[rows]),
                    mask_index: Some(mask_index),
                    chunk,
                    gradient: true,
                };
                Ok(g.head_loss(&head)?[0])
            })?;
        }
        let nucleus = Feed::default().step.with(TOP_P, 0.9);
        for (name, step) in [
            ("categorical", Feed::default().step),
            ("categorical_top_p", nucleus),
        ] {
            let feed = Feed {
                step,
                integers: vec![("keys", (0..3 * rows as u32).collect())],
            };
            self.measure(work(name, 1), &Arc::default(), &feed, |g| {
                let (hidden, w) = (input(g, "a", &[rows, d]), input(g, "b", &[vocab, d]));
                let (bias, listed) = (input(g, "w", &[vocab]), integers(g, "keys", &[rows, 3]));
                let draws = g.categorical(
                    hidden,
                    w,
                    Some(bias),
                    listed,
                    Race::new(Never::absent(Some(mask_index)), chunk),
                )?;
                Ok(draws.tokens)
            })?;
        }
        Ok(())
    }

    fn update(&self) -> anyhow::Result<()> {
        let n = 4 * self.shape.hidden * self.shape.hidden;
        let (_, layout) = parameters(self.device, &[("weight", &[n])])?;
        let work = Work {
            name: "grad_norm_and_adamw",
            shape: n.to_string(),
            flops: 0,
            bytes: 44 * n,
        };
        self.measure(work, &layout, &Feed::default(), |g| {
            let stats = g.grad_norm(1.0)?;
            let adamw = AdamwConfig {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
            };
            g.update(stats, Rule::adamw(adamw))?;
            Ok(stats)
        })
    }
}

/// Prints a line for each kernel.
pub fn run(shape: Shape, device: &Device, seconds: f64) -> anyhow::Result<()> {
    shape.model().validate()?;
    let peak = multiply_add(device, seconds)?;
    println!("{peak}");
    let copied = 1 << 24;
    let times = kernel(device, seconds, &Arc::default(), &Feed::default(), |g| {
        let x = input(g, "a", &[copied]);
        g.roofline(x, 0)
    })?;
    let label = copied.to_string();
    let mut copy = row("copy", &label, device, &times, 0, 8 * copied as u64);
    copy["peak_fraction"] = json!(1.0);
    println!("{copy}");
    let kernels = Kernels {
        device,
        seconds,
        shape,
        gflops: number(&peak, "gflops"),
        gbps: number(&copy, "gbps"),
    };
    kernels.products()?;
    kernels.attention()?;
    kernels.elementwise()?;
    kernels.embedding()?;
    kernels.head()?;
    kernels.update()
}
