//! A whole run in its folder: steps, validations, log, checkpoints, loss curve.

use std::path::Path;

use crate::data::Unigram;
use crate::error::{Error, Result};
use crate::eval::Perplexity;
use crate::io::{atomic, checkpoint};
use crate::progress::{Event, Flow, Observer};
use crate::train::Trainer;
use crate::train::log::{Log, Row};
use crate::train::picture::loss_curve;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Steps done.
    pub step: u64,
    /// The last validation.
    pub validation: Option<Perplexity>,
    /// Perplexity of the unigram model on the same held-out blocks.
    pub unigram_ppl: f64,
    /// Whether the observer stopped it before its last step.
    pub stopped: bool,
}

/// An observer, and whether it has asked to stop.
struct Listener<'a> {
    observer: &'a mut dyn Observer,
    stop: bool,
}

impl Listener<'_> {
    fn tell(&mut self, event: Event) {
        self.stop |= self.observer.event(&event) == Flow::Stop;
    }
}

impl Trainer {
    /// Trains to the configured number of steps and keeps everything in `run_dir`. When the
    /// observer asks to stop, the step in progress is finished and saved.
    ///
    /// # Errors
    /// [`Error::Config`] if a fresh run's folder already holds checkpoints, and all errors of
    /// [`Trainer::step`] and [`Trainer::save`].
    pub async fn run(&mut self, run_dir: &Path, observer: &mut dyn Observer) -> Result<Summary> {
        if self.at.step == 0 && !checkpoint::list(run_dir)?.is_empty() {
            let problem = "already holds checkpoints; resume them, or take another folder if they are damaged";
            return Err(Error::config("out", run_dir.display(), problem));
        }
        std::fs::create_dir_all(run_dir).map_err(Error::io(run_dir, "create"))?;
        atomic::write_file(
            &run_dir.join("config.toml"),
            self.config.to_toml()?.as_bytes(),
        )?;
        let (mut log, mut rows) = Log::open(&run_dir.join("log.jsonl"), self.at.step)?;
        let unigram = Unigram::from_blocks(&self.corpus.train, self.config.model.vocab_size)?;
        let unigram_ppl = unigram.perplexity(&self.corpus.valid)?;
        let mut summary = Summary {
            step: self.at.step,
            validation: None,
            unigram_ppl,
            stopped: false,
        };
        let steps = self.config.training.steps;
        let mut listener = Listener {
            observer,
            stop: false,
        };
        while self.at.step < steps && !listener.stop {
            let stats = self.step().await?;
            let due = |every: u64| every > 0 && stats.step.is_multiple_of(every);
            let last = stats.step == steps;
            listener.tell(Event::Step(stats));
            let mut row = Row {
                stats,
                val_ppl: None,
                val_std_err: None,
            };
            if last || due(self.config.training.val_every) {
                let p = self.validate(|done, total| {
                    listener.tell(Event::Progress {
                        what: "validating",
                        done,
                        total,
                    });
                });
                let p = p.await?;
                (row.val_ppl, row.val_std_err) = (Some(p.ppl), Some(p.std_err()));
                summary.validation = Some(p);
                listener.tell(Event::Validation {
                    step: stats.step,
                    ppl: p.ppl,
                    std_err: p.std_err(),
                });
            }
            log.push(&row)?;
            rows.push(row);
            if last || listener.stop || due(self.config.training.save_every) {
                let path = self.save(run_dir).await?;
                listener.tell(Event::Saved {
                    step: stats.step,
                    path,
                });
            }
            summary.step = stats.step;
        }
        summary.stopped = listener.stop && summary.step < steps;
        loss_curve(&run_dir.join("loss.svg"), &rows, unigram_ppl.ln())?;
        Ok(summary)
    }
}
