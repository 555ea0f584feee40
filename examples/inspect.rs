//! Says what is known of a model before it is loaded: its network, its mask, and the memory that it needs.
//!
//! `cargo run --release --example inspect -- --checkpoint models/llada`

mod support;

use clap::Parser;
use mdlm::engine::program::Element;
use mdlm::model::inspect;

/// Tell what a model is, from its configuration and tokenizer alone.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  inspect --checkpoint web/model/mdlm
  inspect --checkpoint models/LLaDA-8B-Instruct
  inspect --checkpoint models/LLaDA-8B-Instruct.Q4_K_M.gguf")]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Tokens of the canvas that memory is counted for.
    #[arg(long, default_value_t = 128)]
    length: usize,
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let found = inspect(&args.model.path()?, &args.model.how())?;
    println!("model type       {}", found.model_type);
    println!("parameters       {:.1} M", found.parameters as f64 / 1e6);
    println!("longest sequence {} tokens", found.length);
    let ids = found.ids;
    println!(
        "vocabulary       {} rows, {ids} ids that stand for something",
        found.vocab_size
    );
    println!("mask             {}", found.mask_index);
    let row = if found.shift {
        "the token behind it"
    } else {
        "its own token"
    };
    println!("a row predicts   {row}");
    if let Some(block) = found.block {
        println!("a row sees       its block of {block} and those before it");
    }
    if let Some(p_uniform) = found.p_uniform {
        let most = 100.0 * p_uniform;
        println!("noise            masks tokens and changes up to {most:.0} % of them for others");
    }
    let s = &found.sampling;
    println!(
        "sampled by       {}, {} steps, block {}, temperature {}",
        s.sampler.name, s.steps, s.block, s.temperature
    );
    println!("network          {:?}", found.trunk);
    let length = args.length.min(found.length);
    println!("\nmemory, MiB      weights   with a canvas of {length} tokens");
    let row = |name: &str, weights| {
        let [alone, with] = found
            .bytes(weights, length)?
            .map(|bytes| bytes as f64 / f64::from(1 << 20));
        println!("{name:<16} {alone:>8.1} {with:>8.1}");
        Ok::<(), mdlm::Error>(())
    };
    if !found.elements.is_empty() {
        row("as in the file", None)?;
    }
    for (weights, name) in Element::WEIGHTS {
        row(name, Some(weights))?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
