//! Chats with a model in the terminal; its answers emerge from masks.
//!
//! `cargo run --release --example chat -- --checkpoint models/stories-instruct`

mod support;

use std::io::{BufRead, IsTerminal, Write};

use clap::Parser;
use mdlm::blocking::wait;
use mdlm::data::Message;
use mdlm::{Model, SampleConfig};
use support::screen::Screen;
use support::talk::{self, Opened, Speaker};

/// Chat with a model: a line is a message, /new begins anew, /quit or the end of the input ends it.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  chat --checkpoint models/LLaDA-8B-Instruct --weights q4
  chat --checkpoint models/Qwen3-0.6B-diffusion-bd3lm --block-size 32 --temperature 0.7
  chat --checkpoint models/stories-instruct")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// What the model is told before the chat.
    #[arg(long)]
    system: Option<String>,
    /// Tokens of the longest answer.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
    length: u64,
    #[command(flatten)]
    sampling: support::SampleArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

struct Chat {
    model: Model,
    speaker: Speaker,
    config: SampleConfig,
    reply: usize,
    system: Vec<Message>,
    said: Vec<Message>,
}

impl Chat {
    /// The canvas of the next answer; the oldest turns go where there is no room for all of them.
    fn prompt(&mut self) -> mdlm::Result<Vec<u32>> {
        loop {
            let messages = [&self.system[..], &self.said].concat();
            let prompt = self.speaker.prompt(&messages)?;
            let room = self.speaker.length.saturating_sub(prompt.len());
            if room >= self.reply.min(self.speaker.length / 2) || self.said.len() < 3 {
                return Ok(prompt);
            }
            eprintln!(
                "note: the model's {} tokens are full; the oldest turn goes",
                self.speaker.length
            );
            self.said.drain(..2);
        }
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        let prompt = self.prompt()?;
        let canvas = self.speaker.canvas(&prompt, self.reply)?;
        let terminal = std::io::stdout().is_terminal();
        let mut screen = Screen::behind(canvas.len(), prompt.len());
        let mut sampler = self.model.sampler(canvas, &self.config)?;
        let begin = std::time::Instant::now();
        let (mut calls, mut written) = (0, 0);
        while let Some(report) = wait(sampler.step())? {
            (calls, written) = (report.network_calls, written + report.revealed.len());
            if terminal {
                screen.show(sampler.canvas(), &self.speaker.tokenizer, &report)?;
            }
        }
        let (text, _) = self.speaker.answer(sampler.canvas(), prompt.len());
        if terminal {
            screen.clear()?;
        }
        println!("{}", text.trim());
        let speed = written as f64 / begin.elapsed().as_secs_f64();
        eprintln!("({written} tokens, {calls} network calls, {speed:.1} tokens/s)");
        self.said.push(Message::new("assistant", text.trim()));
        self.config.seed += 1;
        Ok(())
    }
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let Opened {
        model,
        speaker,
        config,
        ..
    } = talk::open(&args.model, &args.sampling, &args.device)?;
    if !speaker.chats() {
        eprintln!("note: the model has no chat template; it goes on with what you write");
    }
    let system = args.system.iter().map(|text| Message::new("system", text));
    let mut chat = Chat {
        config,
        reply: args.length as usize,
        system: system.collect(),
        said: Vec::new(),
        model,
        speaker,
    };
    let terminal = std::io::stdin().is_terminal();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if terminal {
            print!("> ");
            std::io::stdout().flush()?;
        }
        let Some(line) = lines.next().transpose()? else {
            return Ok(());
        };
        match line.trim() {
            "" => continue,
            "/quit" => return Ok(()),
            "/new" => chat.said.clear(),
            text => {
                chat.said.push(Message::new("user", text));
                if let Err(error) = chat.answer() {
                    chat.said.pop();
                    // what was said may be the reason; the chat goes on without it
                    if !terminal {
                        return Err(error);
                    }
                    support::tell(&error);
                }
            }
        }
    }
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
