//! Writes a checkpoint's model in the published layout, for other programs and for the browser.

mod support;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use mdlm::blocking::wait;
use mdlm::io::safetensors::Precision;

/// Write a model as config.json, model.safetensors and tokenizer.json.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Folder to be made; one of that name is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Type of the numbers in the file.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Dtype,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = args.device.open()?;
    let model = args.model.load(&device)?;
    let precision = match args.precision {
        Dtype::F32 => Precision::F32,
        Dtype::F16 => Precision::F16,
        Dtype::Bf16 => Precision::Bf16,
    };
    wait(model.save(&args.out, precision))?;
    println!(
        "{} parameters in {}",
        model.info().parameters,
        args.out.display()
    );
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
