//! What it costs to share a step: ranks on this machine, and a model of more on links of other speeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mdlm::blocking::wait;
use mdlm::progress::Silent;
use mdlm::ranks::{Alone, Ranks, each};
use mdlm::{Corpus, Device, TrainConfig, Trainer};
use serde_json::json;

use crate::scaling::{self, Work};
use crate::{median, support};

/// Steps that are timed in a turn.
const STEPS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub struct Options {
    /// Turns that the contenders take.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Sequences of a step, of all ranks together.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Where to draw the model of scaling; none: only its numbers.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Arithmetic that a device of that model does, TFLOP/s sustained.
    #[arg(long, default_value_t = 10.0)]
    tflops: f64,
}

/// Ranks with equal shares of some cores.
struct Contender {
    name: &'static str,
    cores: usize,
    ranks: usize,
}

const CONTENDERS: [Contender; 3] = [
    Contender {
        name: "one process, two cores",
        cores: 2,
        ranks: 1,
    },
    Contender {
        name: "one rank, one core",
        cores: 1,
        ranks: 1,
    },
    Contender {
        name: "two ranks, one core each",
        cores: 2,
        ranks: 2,
    },
];

/// What a turn has shown.
struct Turn {
    seconds: Vec<f64>,
    sent: u64,
    parameters: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.turns > 0, "--turns must be at least 1");
    anyhow::ensure!(
        options.batch > 0 && options.batch.is_multiple_of(2),
        "--batch must be even"
    );
    let mut config = TrainConfig::from_toml(include_str!("../configs/stories.toml"))?;
    // short sequences would be steps of another kind
    config.set("training.short_share=0")?;
    let corpus = Corpus::load(
        &support::found(&config.data),
        config.model.length,
        &mut Silent,
    )?;
    let mut times = [const { Vec::new() }; CONTENDERS.len()];
    let mut last = Vec::new();
    for _ in 0..options.turns {
        last.clear();
        for (contender, times) in CONTENDERS.iter().zip(&mut times) {
            config.training.batch = options.batch / contender.ranks;
            let turn = contender.turn(&config, &corpus)?;
            times.extend_from_slice(&turn.seconds);
            last.push(turn);
        }
    }
    for ((contender, times), turn) in CONTENDERS.iter().zip(&mut times).zip(&last) {
        times.sort_by(f64::total_cmp);
        let (n, ms) = (contender.ranks as f64, |x: f64| 1e3 * x);
        let least = 2.0 * (n - 1.0) / n * 4.0 * turn.parameters as f64;
        let line = json!({
            "name": contender.name,
            "sequences": options.batch,
            "median_ms": ms(median(times)),
            "min_ms": ms(times[0]),
            "max_ms": ms(times[times.len() - 1]),
            "sent_bytes_a_step": turn.sent,
            "least_bytes_a_step": least,
        });
        println!("{line}");
    }
    let sums = sums()?;
    println!(
        "{}",
        json!({"name": "sum by two threads, fastest", "bytes_a_second": sums})
    );
    let work = Work::small(1e12 * options.tflops, sums);
    for line in scaling::lines(&work) {
        println!("{line}");
    }
    match &options.picture {
        Some(path) => scaling::draw(path, &work),
        None => Ok(()),
    }
}

impl Contender {
    fn turn(&self, config: &TrainConfig, corpus: &Corpus) -> anyhow::Result<Turn> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.cores)
            .build()?;
        let steps = |ranks: Arc<dyn Ranks>| steps(&ranks, config, corpus.clone());
        pool.install(|| match self.ranks {
            1 => steps(Arc::new(Alone)),
            size => {
                let mut turns = each(size, PATIENCE, steps).into_iter();
                turns.next().ok_or_else(|| anyhow::anyhow!("no rank"))??
            }
        })
    }
}

fn steps(ranks: &Arc<dyn Ranks>, config: &TrainConfig, corpus: Corpus) -> anyhow::Result<Turn> {
    let device = Device::cpu();
    let mut trainer = wait(Trainer::new_among(ranks.clone(), &device, config, corpus))?;
    wait(trainer.step())?;
    let before = ranks.sent();
    let mut seconds = Vec::new();
    for _ in 0..STEPS {
        let begin = Instant::now();
        wait(trainer.step())?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok(Turn {
        seconds,
        sent: (ranks.sent() - before) / STEPS as u64,
        parameters: trainer.trained_parameters(),
    })
}

/// Bytes of numbers that two threads sum in a second, at their fastest: what ranks do besides sending.
fn sums() -> anyhow::Result<f64> {
    const COUNT: usize = 1 << 24;
    let seconds = each(2, PATIENCE, |ranks| {
        let mut data = vec![1.0; COUNT];
        ranks.sum(&mut data)?;
        let mut fastest = f64::INFINITY;
        for _ in 0..9 {
            let begin = Instant::now();
            ranks.sum(&mut data)?;
            fastest = fastest.min(begin.elapsed().as_secs_f64());
        }
        Ok::<_, mdlm::Error>(fastest)
    });
    let seconds = seconds
        .into_iter()
        .next()
        .ok_or_else(|| anyhow::anyhow!("no rank"))???;
    Ok(4.0 * COUNT as f64 / seconds)
}
