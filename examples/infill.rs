//! Fills the gaps of a text, and shows how: which gap is filled first is up to the sampler, and every
//! token sees what stands on both of its sides.
//!
//! `cargo run --release --example infill -- --checkpoint runs/stories-1`

mod support;

use std::io::IsTerminal;

use clap::Parser;
use mdlm::blocking::wait;
use mdlm::{Canvas, Error, Tokenizer};
use support::screen::Screen;

/// Fill the gaps of a text.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  infill --checkpoint web/model/mdlm
  infill --checkpoint web/model/mdlm \"Tom had a [MASK:2] dog. It was [MASK].\"
  infill --checkpoint web/model/mdlm --regex \" (big|red) [a-z]+\" \"Tom had a [MASK:2]. It was nice.\"")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// The text; [MASK] is a token to fill, [MASK:3] are three, \[MASK] is the text itself.
    #[arg(default_value = "Lily had a [MASK:3] and she was [MASK:2]. She went to the [MASK:6].")]
    template: String,
    #[command(flatten)]
    sampling: support::SampleArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

/// The template between the tokens that texts began and ended with in training.
fn canvas(template: &str, tokenizer: &Tokenizer, frame: [Option<u32>; 2]) -> mdlm::Result<Canvas> {
    let canvas = Canvas::parse(template, tokenizer)?;
    if canvas.masked().is_empty() {
        let problem = "has no [MASK] to fill";
        return Err(Error::config("template", template, problem));
    }
    Ok(canvas.framed(frame))
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = args.sampling.to_read()?;
    let device = args.device.open()?;
    let mut model = args.model.load(&device)?;
    let config = args.sampling.suited(config, &model)?;
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("the model comes without a tokenizer.json");
    };
    if model.autoregressive() {
        anyhow::bail!(
            "an autoregressive model cannot fill gaps, since it sees only what stands before them: take a diffusion model"
        );
    }
    let canvas = canvas(&args.template, &tokenizer, model.frame())?;
    let mut screen = Screen::new(canvas.len());
    let mut sampler = model.sampler(canvas, &config)?;
    while let Some(report) = wait(sampler.step())? {
        if std::io::stdout().is_terminal() {
            screen.show(sampler.canvas(), &tokenizer, &report)?;
            std::thread::sleep(std::time::Duration::from_millis(60));
        } else if !report.revealed.is_empty() {
            println!("{}", sampler.canvas().text(&tokenizer).trim_end());
        }
    }
    println!("{}", sampler.canvas().text(&tokenizer).trim_end());
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
