//! The training step of `bench step` in burn: the same network, AdamW, and the loss of masked tokens. One JSON object.
//!
//! burn clips each gradient by its own norm where ours are clipped by the norm of all, and it keeps no moving average of
//! the weights; both make its step a little cheaper.

use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{gelu_approximate, log_softmax, silu};
use burn::tensor::module::attention;
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, TensorData};
use clap::Parser;
use serde_json::json;

#[derive(Parser, Clone, Copy)]
struct Args {
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    #[arg(long, default_value_t = 4)]
    blocks: usize,
    #[arg(long, default_value_t = 4)]
    heads: usize,
    #[arg(long, default_value_t = 128)]
    cond: usize,
    #[arg(long, default_value_t = 128)]
    length: usize,
    #[arg(long, default_value_t = 16)]
    batch: usize,
    #[arg(long, default_value_t = 28)]
    vocab: usize,
    /// burn's backend: wgpu, or flex on the CPU
    #[arg(long, default_value = "wgpu")]
    backend: Backend,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum Backend {
    Wgpu,
    Flex,
}

#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    modulation: Linear,
}

#[derive(Module, Debug)]
struct Network {
    embedding: Embedding,
    time0: Linear,
    time2: Linear,
    blocks: Vec<Block>,
    norm: LayerNorm,
    modulation: Linear,
    head: Linear,
}

/// Rotary angles, `[1, 1, length, head_dim / 2]`.
#[derive(Clone)]
struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    fn new(args: Args, device: &Device) -> Self {
        let half = args.hidden / args.heads / 2;
        let angle = |i: usize| {
            let (position, d) = ((i / half) as f32, (i % half) as f32);
            position * 10_000f32.powf(-d / half as f32)
        };
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = (0..args.length * half).map(|i| of(angle(i))).collect();
            let data = TensorData::new(values, [1, 1, args.length, half]);
            Tensor::<4>::from_data(data, device)
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }

    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let halves = x.chunk(2, 3);
        let (a, b) = (halves[0].clone(), halves[1].clone());
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![first, b * cos + a * sin], 3)
    }
}

fn modulated(norm: &LayerNorm, x: Tensor<3>, shift: &Tensor<3>, scale: &Tensor<3>) -> Tensor<3> {
    norm.forward(x) * (scale.clone() + 1.0) + shift.clone()
}

impl Block {
    fn new(args: Args, device: &Device) -> Self {
        let d = args.hidden;
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        Self {
            norm1: LayerNormConfig::new(d).init(device),
            norm2: LayerNormConfig::new(d).init(device),
            qkv: linear(d, 3 * d, false),
            out: linear(d, d, false),
            up: linear(d, 4 * d, true),
            down: linear(4 * d, d, true),
            modulation: linear(args.cond, 6 * d, true),
        }
    }

    fn forward(&self, args: Args, x: Tensor<3>, c: &Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let Args {
            hidden,
            heads,
            length,
            batch,
            ..
        } = args;
        let m = self.modulation.forward(c.clone()).chunk(6, 2);
        let h = modulated(&self.norm1, x.clone(), &m[0], &m[1]);
        let qkv = self.qkv.forward(h).chunk(3, 2);
        let split = |i: usize| {
            let part = qkv[i]
                .clone()
                .reshape([batch, length, heads, hidden / heads]);
            part.swap_dims(1, 2)
        };
        let (q, k, v) = (rotary.turn(split(0)), rotary.turn(split(1)), split(2));
        let o = attention(q, k, v, None, None, Default::default());
        let o = o.swap_dims(1, 2).reshape([batch, length, hidden]);
        let x = x + self.out.forward(o) * m[2].clone();
        let h = modulated(&self.norm2, x.clone(), &m[3], &m[4]);
        x + self.down.forward(gelu_approximate(self.up.forward(h))) * m[5].clone()
    }
}

impl Network {
    fn new(args: Args, device: &Device) -> Self {
        let d = args.hidden;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            embedding: EmbeddingConfig::new(args.vocab, d).init(device),
            time0: linear(256, args.cond),
            time2: linear(args.cond, args.cond),
            blocks: (0..args.blocks).map(|_| Block::new(args, device)).collect(),
            norm: LayerNormConfig::new(d).init(device),
            modulation: linear(args.cond, 2 * d),
            head: linear(d, args.vocab),
        }
    }

    fn forward(
        &self,
        args: Args,
        xt: Tensor<2, Int>,
        time: Tensor<3>,
        rotary: &Rotary,
    ) -> Tensor<2> {
        let c = silu(self.time2.forward(silu(self.time0.forward(time))));
        let mut x = self.embedding.forward(xt);
        for block in &self.blocks {
            x = block.forward(args, x, &c, rotary);
        }
        let m = self.modulation.forward(c).chunk(2, 2);
        let logits = self.head.forward(modulated(&self.norm, x, &m[0], &m[1]));
        logits.reshape([args.batch * args.length, args.vocab])
    }
}

fn main() {
    let args = Args::parse();
    let device = match args.backend {
        Backend::Wgpu => Device::wgpu(DeviceKind::DefaultDevice),
        Backend::Flex => Device::flex(),
    };
    let device = device.autodiff();
    let rows = args.batch * args.length;
    let mut network = Network::new(args, &device);
    let mut adamw = AdamWConfig::new()
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let rotary = Rotary::new(args, &device);
    let ids = |n: usize| {
        let values: Vec<i32> = (0..rows).map(|i| (i * 7919 % n) as i32).collect();
        TensorData::new(values, [args.batch, args.length])
    };
    let xt = Tensor::<2, Int>::from_data(ids(args.vocab), &device);
    let x0 = Tensor::<2, Int>::from_data(ids(args.vocab - 1), &device).reshape([rows, 1]);
    let weights = Tensor::<2>::random([rows, 1], Distribution::Uniform(0.0, 1.0), &device);
    let time = Tensor::<3>::ones([args.batch, 1, 256], &device);
    let mut step = || {
        let logits = network.forward(args, xt.clone(), time.clone(), &rotary);
        let nll = log_softmax(logits, 1).gather(1, x0.clone()) * weights.clone();
        let loss = -nll.mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = adamw.step(1e-5, network.clone(), gradients);
        loss.into_scalar::<f32>()
    };
    // burn chooses among kernels in its first steps
    for _ in 0..5 {
        step();
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed().as_secs_f64() < args.seconds {
        let start = Instant::now();
        assert!(step().is_finite(), "the loss is not finite");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let name = match args.backend {
        Backend::Wgpu => "burn wgpu",
        Backend::Flex => "burn flex",
    };
    println!(
        "{}",
        json!({ "name": name, "median_ms": times[times.len() / 2], "min_ms": times[0] })
    );
}
