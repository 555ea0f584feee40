//! Serves a model by the interface of OpenAI: chats and completions, whole or as they emerge.
//!
//! `cargo run --release --example serve -- --checkpoint models/stories-instruct`

mod answer;
mod api;
mod batch;
mod metrics;
mod routes;
#[path = "../support/mod.rs"]
mod support;

use std::net::IpAddr;
use std::sync::Arc;

use clap::Parser;
use support::talk::{self, Opened, Speaker};
use tokio::sync::Semaphore;

/// Serve a model: POST /v1/chat/completions and /v1/completions, GET /v1/models, /health and /metrics.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  serve --checkpoint models/LLaDA-8B-Instruct --weights q4
  serve --checkpoint models/stories-instruct --port 9000 --batch 16
  serve --checkpoint tests/golden_llm/llada --device cpu --port 0")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Address to listen at; others than this machine's own let others in.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen at; 0: any that is free.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Most answers that one network call computes together.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,
    /// Most requests at a time; further ones are answered by 429.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    queue: u16,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    length: u64,
    #[command(flatten)]
    sampling: support::SampleArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

/// What all requests share.
struct App {
    remote: batch::Remote,
    speaker: Speaker,
    /// The model's name in answers.
    name: String,
    config: mdlm::SampleConfig,
    /// Most tokens of an answer.
    length: usize,
    places: Arc<Semaphore>,
    metrics: Arc<metrics::Metrics>,
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let Opened {
        model,
        path,
        speaker,
        config,
    } = talk::open(&args.model, &args.sampling, &args.device)?;
    let name = path
        .canonicalize()?
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let metrics = Arc::new(metrics::Metrics::default());
    let app = App {
        config,
        name: args
            .model
            .model
            .clone()
            .or(name)
            .unwrap_or_else(|| "mdlm".into()),
        length: args.length as usize,
        places: Arc::new(Semaphore::new(args.queue.into())),
        remote: batch::start(model, args.batch.into(), metrics.clone())?,
        metrics,
        speaker,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((args.host, args.port)).await?;
        println!(
            "serving {} at http://{}/v1",
            app.name,
            listener.local_addr()?
        );
        let stop = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        let served = axum::serve(listener, routes::of(Arc::new(app)));
        served.with_graceful_shutdown(stop).await?;
        Ok(())
    })
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
