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
use crate::train::agree::{Verdict, compare_weights};
use crate::train::log::{Log, Row};
use crate::train::picture::loss_curve;
use crate::train::shared::told;

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

/// What rank 0 keeps of a run: its log, and the rows in it. The others have none.
#[derive(Default)]
struct Books {
    log: Option<Log>,
    rows: Vec<Row>,
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
    ///
    /// Of several ranks, rank 0 keeps the folder, and what any of their observers asks for is done by all. When a rank
    /// is lost between two checkpoints, rank 0 saves where the others stand.
    pub async fn run(&mut self, run_dir: &Path, observer: &mut dyn Observer) -> Result<Summary> {
        let mut books = match self.ranks.rank() {
            0 => told(&*self.ranks, self.open(run_dir))?,
            _ => Books::default(),
        };
        let ended = self.run_all(run_dir, &mut books, observer).await;
        if let Err(Error::RankLost { .. }) = &ended {
            self.rescue(run_dir, &books).await;
        }
        told(&*self.ranks, ended)
    }

    /// Looks at the folder of the run, and opens its log with the rows so far.
    fn open(&self, run_dir: &Path) -> Result<Books> {
        checkpoint::refuse_inside(run_dir)?;
        if self.at.step == 0 && !checkpoint::list(run_dir)?.is_empty() {
            let problem = "already holds checkpoints; resume them, or take another folder if they are damaged";
            return Err(Error::argument("out", run_dir.display(), problem));
        }
        std::fs::create_dir_all(run_dir).map_err(Error::io(run_dir, "create"))?;
        check_folder(run_dir)?;
        atomic::write_file(&run_dir.join(CONFIG), self.config.to_toml()?.as_bytes())?;
        let (log, rows) = Log::open(&run_dir.join("log.jsonl"), self.at.step)?;
        let log = Some(log);
        Ok(Books { log, rows })
    }

    /// Saves where all stand when a rank is lost: the last step that was logged, unless it is saved already.
    async fn rescue(&self, run_dir: &Path, books: &Books) {
        let logged = books.rows.last().map(|row| row.stats.step);
        let there = run_dir.join(checkpoint::name(self.at.step)).is_dir();
        // a lost rank's part is lost with it
        if logged == Some(self.at.step) && !there && !self.is_shared() {
            let patient = self.config.training.patience > 0;
            let best = best(&books.rows).filter(|_| patient);
            let saved = self.save_beside(run_dir, best.map(|(step, _)| step));
            if let Err(e) = saved.await {
                log::warn!("step {} is not saved: {e}", self.at.step);
            }
        }
    }

    async fn run_all(
        &mut self,
        run_dir: &Path,
        books: &mut Books,
        observer: &mut dyn Observer,
    ) -> Result<Summary> {
        let Books { log, rows } = books;
        let ranks = self.ranks.clone();
        if ranks.size() > 1 {
            compare_weights(&*ranks, &self.storage).await?;
        }
        let unigram = Unigram::from_blocks(&self.corpus.train, self.config.model.vocab_size)?;
        let unigram_ppl = unigram.perplexity(&self.corpus.valid)?;
        let patience = self.config.training.patience;
        let exhausted = |since: u64| patience > 0 && since >= patience;
        let judge = |so_far: Option<(u64, u64)>, stop: bool| {
            let mine = Verdict {
                best: so_far.map(|(step, _)| step),
                improved: so_far.is_some_and(|(_, since)| since == 0),
                exhausted: so_far.is_some_and(|(_, since)| exhausted(since)),
                stop,
            };
            mine.agreed(&*ranks)
        };
        let mut so_far = best(rows);
        let mut verdict = judge(so_far, false)?;
        let mut validation = None;
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
        while (self.at.step < steps && !verdict.stop && !verdict.exhausted) || !self.is_settled() {
            // what a step in between is due for must not see the tensors of a later one
            let next = |every: u64| match every {
                0 => steps,
                _ => (self.at.step / every + 1) * every,
            };
            let until = match verdict.stop {
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
                validation = Some(p);
                listener.tell(Event::Validation {
                    step: stats.step,
                    ppl: p.ppl,
                    std_err: p.std_err(),
                });
            }
            if let Some(log) = log {
                log.push(&row)?;
                rows.push(row);
            }
            if row.val_ppl.is_some() {
                so_far = best(rows);
            }
            verdict = judge(so_far, listener.stop)?;
            let keep = verdict.best.filter(|_| patience > 0);
            let improved = row.val_ppl.is_some() && verdict.improved;
            let stopped = verdict.stop && self.is_settled();
            let asked = last || stopped || due(save_every);
            if asked || verdict.exhausted || (patience > 0 && improved) {
                let path = self.save_beside(run_dir, keep).await?;
                self.forget();
                listener.tell(Event::Saved {
                    step: stats.step,
                    path,
                });
                verdict = judge(so_far, listener.stop)?;
            }
        }
        if ranks.rank() == 0 {
            loss_curve(&run_dir.join("loss.svg"), rows, unigram_ppl.ln())?;
        }
        Ok(Summary {
            step: self.at.step,
            validation,
            best: verdict.best,
            exhausted: verdict.exhausted,
            unigram_ppl,
            stopped: verdict.stop && self.at.step < steps,
        })
    }
}
