//! Generates text from a trained checkpoint and shows it emerging from masks.

mod support;

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::data::Tokenizer;
use mdlm::model::Model;
use mdlm::sample::{Canvas, StepReport};

/// Generate text from a checkpoint.
#[derive(Parser)]
struct Args {
    /// A checkpoint, a run's folder (its newest whole checkpoint), or a folder in the published
    /// layout (config.json, model.safetensors, tokenizer.json).
    #[arg(long)]
    checkpoint: PathBuf,
    /// Text to begin with.
    #[arg(long, default_value = "")]
    prompt: String,
    /// Tokens of the canvas, the prompt included; default: the model's length.
    #[arg(long)]
    length: Option<usize>,
    /// Denoising steps.
    #[arg(long, default_value_t = SampleConfig::default().steps)]
    steps: usize,
    /// Seed of the first sample; the next ones count up.
    #[arg(long, default_value_t = SampleConfig::default().seed)]
    seed: u64,
    /// Number of samples.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Show the text while it emerges: dark is masked, colours tell how sure the model was.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    device: support::DeviceArgs,
}

/// Terminal colour of a probability, from orange (unsure) to blue (sure).
fn colour(probability: f64) -> u8 {
    const RAMP: [u8; 5] = [208, 222, 253, 117, 39];
    RAMP[(probability * 5.0).clamp(0.0, 4.0) as usize]
}

/// Draws the canvas over the previous picture.
struct Screen {
    probability: Vec<f64>,
    rows: usize,
}

impl Screen {
    fn show(
        &mut self,
        canvas: &Canvas,
        tokenizer: &Tokenizer,
        report: &StepReport,
    ) -> std::io::Result<()> {
        for r in &report.revealed {
            self.probability[r.position] = r.probability;
        }
        const WIDTH: usize = 88;
        let (mut text, mut column, mut rows) = (String::new(), 0, 1);
        for i in 0..canvas.len() {
            let piece = match canvas.token(i) {
                Some(id) if [tokenizer.bos(), tokenizer.eos()].contains(&id) => String::new(),
                Some(id) => tokenizer.token_text(id).replace(['\n', '\r'], "⏎"),
                None => " ░".to_owned(),
            };
            let width = piece.chars().count();
            if column + width > WIDTH {
                text.push_str("\x1b[0m\n");
                (column, rows) = (0, rows + 1);
            }
            column += width;
            let code = match canvas.token(i) {
                None => "\x1b[38;5;240m".to_owned(),
                Some(_) if canvas.is_frozen(i) => "\x1b[0m".to_owned(),
                Some(_) => format!("\x1b[38;5;{}m", colour(self.probability[i])),
            };
            text += &format!("{code}{piece}");
        }
        let up = if self.rows > 0 {
            format!("\x1b[{}A\r\x1b[J", self.rows)
        } else {
            String::new()
        };
        let StepReport {
            step,
            steps,
            masked,
            network_calls,
            ..
        } = report;
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{up}{text}\x1b[0m\nstep {step}/{steps}, {masked} masked, {network_calls} network calls"
        )?;
        self.rows = rows + 1;
        out.flush()
    }
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = args.device.open()?;
    let mut model = wait(Model::load(&device, &args.checkpoint))?;
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("{} holds no tokenizer.json", args.checkpoint.display());
    };
    let length = args.length.unwrap_or(model.config().length);
    let mut prompt = vec![tokenizer.bos()];
    prompt.extend(tokenizer.encode(&args.prompt)?);
    for i in 0..args.count {
        let config = SampleConfig {
            steps: args.steps,
            seed: args.seed + i,
        };
        let begin = std::time::Instant::now();
        let mut sampler = model.sampler(Canvas::prompt(&prompt, length)?, &config)?;
        let mut screen = Screen {
            probability: vec![1.0; length],
            rows: 0,
        };
        let mut calls = 0;
        while let Some(report) = wait(sampler.step())? {
            calls = report.network_calls;
            if args.watch && std::io::stdout().is_terminal() {
                screen.show(sampler.canvas(), &tokenizer, &report)?;
            }
        }
        let canvas = wait(sampler.finish(|_| ControlFlow::Continue(())))?;
        println!(
            "--- seed {} ---\n{}\n",
            config.seed,
            canvas.text(&tokenizer).trim()
        );
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!(
            "{length} tokens, {calls} network calls, {:.0} tokens/s",
            length as f64 / seconds
        );
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
