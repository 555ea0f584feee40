//! Generates text from a trained checkpoint and shows it emerging from masks.

mod support;

use std::io::IsTerminal;

use clap::Parser;
use mdlm::blocking::wait;
use mdlm::{Canvas, SampleConfig};
use support::screen::Screen;

/// Longest canvas, tokens.
const MAX_LENGTH: usize = 1 << 20;
/// Tokens that a published model writes unless told otherwise.
const LENGTH: usize = 128;

/// Generate text from a checkpoint.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  sample --checkpoint web/model/mdlm --prompt \"Once upon a time\" --watch
  sample --checkpoint web/model/mdlm --sampler confidence --steps 32 --temperature 0.8
  sample --checkpoint web/model/ar --prompt \"Tom had a\" --length 64")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Text to begin with; several are continued together, in one batch.
    #[arg(long, default_value = "")]
    prompt: Vec<String>,
    /// Tokens of the canvas, the prompt included; default: the model's length, of other programs'
    /// models 128. A canvas longer than the model is filled window after window.
    #[arg(long)]
    length: Option<usize>,
    /// Number of samples of each prompt.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Show the (first) text while it emerges: dark is masked, colours tell how sure the model was.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    sampling: support::SampleArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let first = args.sampling.to_read()?;
    first.check_seeds(args.count)?;
    let device = args.device.open()?;
    let mut model = args.model.load(&device)?;
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("the model comes without a tokenizer.json");
    };
    let first = args.sampling.suited(first, &model)?;
    args.sampling.note_unread(&model);
    // a published model may take more tokens than anyone would wait for
    let most = if model.config().is_ok() {
        usize::MAX
    } else {
        LENGTH
    };
    let length = args.length.unwrap_or(model.length().min(most));
    if !(1..=MAX_LENGTH).contains(&length) {
        let problem = format!("must be in 1..={MAX_LENGTH}, the token that begins a text included");
        return Err(mdlm::Error::config("length", length, problem).into());
    }
    let [begin, _] = model.frame();
    let canvas = |prompt: &String| -> mdlm::Result<Canvas> {
        let mut tokens = Vec::from_iter(begin);
        tokens.extend(tokenizer.encode_part(prompt, false, true)?);
        Canvas::prompt(&tokens, length)
    };
    let terminal = std::io::stdout().is_terminal();
    if args.watch && !terminal {
        eprintln!("note: --watch draws in a terminal only");
    }
    let canvases: Vec<Canvas> = args.prompt.iter().map(canvas).collect::<Result<_, _>>()?;
    for i in 0..args.count {
        let config = SampleConfig {
            seed: first.seed + i,
            ..first.clone()
        };
        let begin = std::time::Instant::now();
        let mut sampler = model.sampler_batch(canvases.clone(), &config)?;
        let mut screen = Screen::new(length);
        let mut calls = 0;
        while let Some(report) = wait(sampler.step())? {
            calls = report.network_calls;
            if args.watch && terminal {
                screen.show(sampler.canvas(), &tokenizer, &report)?;
            }
        }
        for (number, canvas) in sampler.canvases().enumerate() {
            let prompt = match canvases.len() {
                1 => String::new(),
                _ => format!(", prompt {}", number + 1),
            };
            let text = canvas.text(&tokenizer);
            println!(
                "--- seed {}{prompt} ---\n{}\n",
                config.seed,
                text.trim_end()
            );
        }
        let open = |canvas: &Canvas| canvas.masked().len();
        let tokens: usize = canvases.iter().map(open).sum();
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!(
            "{tokens} tokens written, {calls} network calls, {:.0} tokens/s",
            tokens as f64 / seconds
        );
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
