//! A whole run in its folder: steps, validations, log, checkpoints, loss curve.

use std::io::ErrorKind;
use std::path::Path;

use crate::config::{TrainConfig, TrainingConfig};
use crate::data::Unigram;
use crate::error::{Error, Result};
use crate::eval::Perplexity;
use crate::io::atomic;
use crate::io::checkpoint::{self, CONFIG};
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
    /// The step of the best validation, the first one on a tie; its checkpoint is kept if the run has
    /// `training.patience`.
    pub best: Option<u64>,
    /// Whether validation stopped improving, which ended the run.
    pub exhausted: bool,
    /// Perplexity of the unigram model on the same held-out blocks.
    pub unigram_ppl: f64,
    /// Whether the observer stopped it before its last step.
    pub stopped: bool,
}

/// The step of the best validation, and how many came after it.
fn best(rows: &[Row]) -> Option<(u64, u64)> {
    let validations = rows
        .iter()
        .filter_map(|row| Some((row.stats.step, row.val_ppl?)));
    let least = |best: Option<(u64, f64, u64)>, (step, ppl): (u64, f64)| match best {
        Some((at, least, since)) if least <= ppl => Some((at, least, since + 1)),
        _ => Some((step, ppl, 0)),
    };
    validations
        .fold(None, least)
        .map(|(step, _, since)| (step, since))
}

/// Refuses a folder with files of the names that a run writes, unless a run wrote them: then its configuration
/// reads as runs write it, and beside it lies their log.
fn check_folder(run_dir: &Path) -> Result<()> {
    let there = |name: &str| {
        let path = run_dir.join(name);
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(&path, "open")(e)),
        }
    };
    let written = |text: &str| {
        TrainConfig::from_toml(text)?
            .to_toml()
            .map(|own| own == text)
    };
    let path = run_dir.join(CONFIG);
    let ours = match std::fs::read(&path) {
        Ok(config) => std::str::from_utf8(&config).is_ok_and(|text| written(text).unwrap_or(false)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => false,
        // one that cannot be read now may well be ours
        Err(e) => return Err(Error::io(&path, "read")(e)),
    };
    let others = ["log.jsonl", "loss.svg", "samples.txt", CONFIG];
    let suspects = match ours {
        true if there("log.jsonl")? => &[],
        true => &others[..3],
        false => &others,
    };
    for name in suspects {
        if there(name)? {
            let problem = format!(
                "{} would be overwritten, and no run has written it: take another folder",
                run_dir.join(name).display()
            );
            return Err(Error::argument("out", run_dir.display(), problem));
        }
    }
    Ok(())
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
    /// Trains to the configured number of steps, or until validation has not improved for
    /// `training.patience` times, and keeps everything in `run_dir`. When the observer asks to stop, the
    /// steps in progress are finished and saved.
    ///
    /// # Errors
    /// [`Error::Argument`] if a fresh run's folder already holds checkpoints, or files that no run has written and this
    /// one would overwrite, and all errors of
    /// [`Trainer::step`] and [`Trainer::save`].
    pub async fn run(&mut self, run_dir: &Path, observer: &mut dyn Observer) -> Result<Summary> {
        checkpoint::refuse_inside(run_dir)?;
        if self.at.step == 0 && !checkpoint::list(run_dir)?.is_empty() {
            let problem = "already holds checkpoints; resume them, or take another folder if they are damaged";
            return Err(Error::argument("out", run_dir.display(), problem));
        }
        std::fs::create_dir_all(run_dir).map_err(Error::io(run_dir, "create"))?;
        check_folder(run_dir)?;
        atomic::write_file(&run_dir.join(CONFIG), self.config.to_toml()?.as_bytes())?;
        let (mut log, mut rows) = Log::open(&run_dir.join("log.jsonl"), self.at.step)?;
        let unigram = Unigram::from_blocks(&self.corpus.train, self.config.model.vocab_size)?;
        let unigram_ppl = unigram.perplexity(&self.corpus.valid)?;
        let patience = self.config.training.patience;
        let exhausted = |since: u64| patience > 0 && since >= patience;
        let so_far = best(&rows);
        let mut summary = Summary {
            step: self.at.step,
            validation: None,
            best: so_far.map(|(step, _)| step),
            exhausted: so_far.is_some_and(|(_, since)| exhausted(since)),
            unigram_ppl,
            stopped: false,
        };
        let steps = self.config.training.steps;
        let mut listener = Listener {
            observer,
            stop: false,
        };
        let &TrainingConfig {
            val_every,
            save_every,
            ..
        } = &self.config.training;
        while (self.at.step < steps && !listener.stop && !summary.exhausted) || !self.is_settled() {
            // what a step in between is due for must not see the tensors of a later one
            let next = |every: u64| match every {
                0 => steps,
                _ => (self.at.step / every + 1) * every,
            };
            let until = match listener.stop {
                true => self.at.step,
                false => steps.min(next(val_every)).min(next(save_every)),
            };
            let stats = self.step_ahead(until).await?;
            let due = |every: u64| every > 0 && stats.step.is_multiple_of(every);
            let last = stats.step == steps;
            listener.tell(Event::Step(stats));
            let mut row = Row {
                stats,
                val_ppl: None,
                val_std_err: None,
            };
            if last || due(val_every) {
                let p = self.validate(|done, total| {
                    listener.tell(Event::Progress {
                        what: "validating",
                        done,
                        total,
                    });
                });
                let p = p.await?;
                (row.val_ppl, row.val_std_err) = (Some(p.ppl), p.std_err());
                summary.validation = Some(p);
                listener.tell(Event::Validation {
                    step: stats.step,
                    ppl: p.ppl,
                    std_err: p.std_err(),
                });
            }
            log.push(&row)?;
            rows.push(row);
            let mut improved = false;
            if let (Some(_), Some((step, since))) = (row.val_ppl, best(&rows)) {
                improved = since == 0;
                summary.best = Some(step);
                summary.exhausted = exhausted(since);
            }
            let keep = summary.best.filter(|_| patience > 0);
            let stopped = listener.stop && self.is_settled();
            let asked = last || stopped || due(save_every);
            if asked || summary.exhausted || (patience > 0 && improved) {
                let path = self.save_beside(run_dir, keep).await?;
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
