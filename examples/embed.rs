//! The crate inside another program, which owns the graphics device and the loop, and keeps both.
//!
//! Two models share the application's wgpu device. Its loop does its own work, then gives each
//! sampler one step, so that a frame waits for two network calls at most. One sampling is cancelled
//! half-way, and taken up again later. The models are fresh, so what they write is noise.
//!
//! `cargo run --release --example embed`

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mdlm::config::ModelKind;
use mdlm::{
    Canvas, Device, Model, ModelConfig, SampleConfig, Sampler, SamplerKind, StepReport, Tokenizer,
};

const LENGTH: usize = 48;

/// A sampling that the loop carries on: what it is called, and whether it shall go on after a step.
struct Job {
    name: &'static str,
    sampler: Sampler<Model>,
    observe: fn(&StepReport) -> ControlFlow<()>,
}

/// The application's device, opened its own way; `None` where there is no adapter.
async fn open() -> Option<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let options = wgpu::RequestAdapterOptions::default();
    let adapter = instance.request_adapter(&options).await.ok()?;
    // WebGPU's default limits are all that the crate needs
    let descriptor = wgpu::DeviceDescriptor::default();
    adapter.request_device(&descriptor).await.ok()
}

/// A small model with random weights.
async fn model(device: &Device, kind: ModelKind, tokenizer: &Tokenizer) -> mdlm::Result<Model> {
    let config = ModelConfig {
        kind,
        vocab_size: tokenizer.vocab_size(),
        mask_index: tokenizer.mask_index(),
        hidden_size: 64,
        n_blocks: 2,
        length: LENGTH,
        ..ModelConfig::default()
    };
    Model::new(device, &config, 1).await
}

async fn run() -> anyhow::Result<()> {
    let opened = open().await;
    let mistakes = Arc::new(AtomicU32::new(0));
    let device = match &opened {
        Some((device, queue)) => {
            let counter = mistakes.clone();
            device.on_uncaptured_error(Arc::new(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            }));
            // handles of the same device: the application goes on using its own
            Device::from_wgpu(device.clone(), queue.clone())?
        }
        None => {
            println!("no GPU adapter: the CPU computes");
            Device::cpu()
        }
    };
    println!("device: {}", device.info());

    let tokenizer = Tokenizer::characters("abcdefghijklmnopqrstuvwxyz .");
    let first_hitting = SampleConfig {
        sampler: SamplerKind::FIRST_HITTING,
        ..SampleConfig::default()
    };
    // a sampler may borrow its model or, as here, own it
    let diffusion = model(&device, ModelKind::Dit, &tokenizer).await?;
    let blank = vec![Canvas::open(LENGTH)];
    let recurrent = model(&device, ModelKind::Ar, &tokenizer).await?;
    let begun = vec![Canvas::prompt(&[tokenizer.bos()], LENGTH)?];
    let mut jobs = vec![
        Job {
            name: "diffusion",
            sampler: Sampler::new(diffusion, blank, &first_hitting)?,
            // as if somebody had pressed Escape
            observe: |report| match report.masked <= LENGTH / 2 {
                true => Break(()),
                false => Continue(()),
            },
        },
        Job {
            name: "autoregressive",
            sampler: Sampler::new(recurrent, begun, &SampleConfig::default())?,
            observe: |_| Continue(()),
        },
    ];

    let (mut frames, mut over) = (0, Vec::new());
    while !jobs.is_empty() {
        // the application's own work: input, layout, drawing
        frames += 1;
        for mut job in std::mem::take(&mut jobs) {
            let report = job.sampler.step().await?;
            if report.is_some_and(|report| (job.observe)(&report).is_continue()) {
                jobs.push(job);
                continue;
            }
            let (model, canvases) = job.sampler.into_parts();
            let (masked, text) = (canvases[0].masked().len(), canvases[0].text(&tokenizer));
            println!(
                "frame {frames}: {} stops, {masked} masked: {text}",
                job.name
            );
            over.push((model, canvases));
        }
    }

    // what the cancelled sampling had filled stays, and the rest is filled now, in one go
    let (model, canvases) = over.swap_remove(0);
    let kept = canvases[0].clone();
    let sampler = Sampler::new(model, canvases, &first_hitting)?;
    let canvas = sampler.finish(|_| Continue(())).await?;
    let stayed = |i: &usize| kept.token(*i).is_some() && kept.token(*i) == canvas.token(*i);
    let stayed = (0..LENGTH).filter(stayed).count();
    println!("{stayed} tokens stayed: {}", canvas.text(&tokenizer));

    // the crate left the application's error handler in place, and has sent it nothing
    println!("errors before: {}", mistakes.load(Ordering::SeqCst));
    if let Some((device, _)) = &opened {
        let _ = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("a mistake of the application: a buffer for nothing"),
            size: 16,
            usage: wgpu::BufferUsages::empty(),
            mapped_at_creation: false,
        });
        println!("after our own: {}", mistakes.load(Ordering::SeqCst));
    }
    println!("log level: {}", log::max_level());
    Ok(())
}

fn main() -> anyhow::Result<()> {
    // any executor will do
    pollster::block_on(run())
}
