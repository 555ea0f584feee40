//! Stories that begin and end as they are asked to: pairs to learn it from, made of the bundled stories, and how often
//! it comes out. With `train` and `export` between them this is how `models/stories-instruct` is made
//! (`cargo xtask instruct-model`).
//!
//! ```text
//! cargo run --release --example instruct -- pairs
//! cargo run --release --example train -- --config examples/configs/instruct-copies.toml --init web/model/mdlm \
//!   --out runs/instruct-copies
//! cargo run --release --example train -- --config examples/configs/instruct.toml --init runs/instruct-copies \
//!   --out runs/instruct
//! cargo run --release --example instruct -- score --checkpoint runs/instruct --beside web/model/mdlm
//! cargo run --release --example chat -- --checkpoint runs/instruct
//! ```

mod pairs;
mod score;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use mdlm::Tokenizer;
use pairs::Pair;

/// Stories that no model here was trained on.
const HELD_OUT: &str = "corpora/tinystories-valid.txt.gz";

/// Make pairs of a first sentence, a last one or both and a story, and see whether a model keeps to what it is asked.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  instruct pairs
  instruct score --checkpoint models/stories-instruct --count 4
  instruct score --checkpoint runs/instruct --beside web/model/mdlm")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Subcommand)]
enum What {
    /// Write pairs of a prompt and a response, a JSON object a line: copies.jsonl, train.jsonl and valid.jsonl.
    Pairs {
        /// Stories to train on.
        #[arg(long, default_value = "corpora/tinystories-large.txt.gz")]
        stories: String,
        /// Stories to hold out.
        #[arg(long, default_value = HELD_OUT)]
        held_out: String,
        /// The model's tokenizer.
        #[arg(long, default_value = "corpora/tinystories-bpe2048.tokenizer.json")]
        tokenizer: String,
        /// Tokens of the longest pair.
        #[arg(long, default_value_t = 256)]
        length: usize,
        /// The folder to write to.
        #[arg(long, default_value = "runs/story-pairs")]
        out: PathBuf,
    },
    /// How many of the sentences that it is asked for stand in a model's stories.
    Score(Box<score::Score>),
}

/// Writes pairs, one a line.
fn write(path: &Path, pairs: &[Pair]) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for pair in pairs {
        writeln!(text, "{}", pair.line())?;
    }
    Ok(mdlm::io::atomic::write_file(path, &text)?)
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    match &args.what {
        What::Score(score) => score::run(score, &args.device),
        What::Pairs {
            stories,
            held_out,
            tokenizer,
            length,
            out,
        } => {
            let tokenizer = Tokenizer::from_spec(&support::find(tokenizer), "")?;
            std::fs::create_dir_all(out)
                .with_context(|| format!("cannot create {}", out.display()))?;
            let put = |pairs: &[Pair], name: &str| {
                let path = out.join(name);
                println!("{} pairs in {}", pairs.len(), path.display());
                write(&path, pairs)
            };
            let train = pairs::pairs(stories, pairs::MOST, &tokenizer, *length)?;
            put(
                &pairs::copies(&train, &tokenizer, *length / 4)?,
                "copies.jsonl",
            )?;
            put(&train, "train.jsonl")?;
            put(
                &pairs::pairs(held_out, 1, &tokenizer, *length)?,
                "valid.jsonl",
            )
        }
    }
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
