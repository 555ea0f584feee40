//! One answer: from a prompt to the text behind it, step by step.

use std::sync::Arc;

use mdlm::sample::Sampler;
use mdlm::{Result, SampleConfig};
use tokio::sync::OwnedSemaphorePermit;

use crate::App;
use crate::metrics::Metrics;

/// What is to be answered.
pub struct Job {
    pub prompt: Vec<u32>,
    /// Most tokens of the answer.
    pub length: usize,
    pub config: SampleConfig,
    /// Texts that end it, and do not belong to it.
    pub stop: Vec<String>,
}

/// How far an answer is.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What will not change any more, from the beginning on.
    pub settled: String,
    pub step: usize,
    pub masked: usize,
    pub network_calls: usize,
    /// Tokens written.
    pub written: usize,
    /// Whether it has come to an end of its own.
    pub ended: bool,
}

/// A place among the requests that are answered; it is free again when this is dropped.
pub struct Place {
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
    done: bool,
}

impl Place {
    /// `None` if all are taken.
    pub fn take(app: &Arc<App>) -> Option<Self> {
        Metrics::add(&app.metrics.requests, 1);
        let Ok(permit) = app.places.clone().try_acquire_owned() else {
            Metrics::add(&app.metrics.rejected, 1);
            return None;
        };
        Metrics::add(&app.metrics.active, 1);
        Some(Self {
            app: app.clone(),
            _permit: permit,
            done: false,
        })
    }

    /// The request has been answered, by a text or an error.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let metrics = &self.app.metrics;
        metrics
            .active
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        Metrics::add(&metrics.cancelled, usize::from(!self.done));
    }
}

/// An answer under way.
pub struct Answer {
    app: Arc<App>,
    sampler: Sampler<crate::batch::Remote>,
    prompt: usize,
    stop: Vec<String>,
    /// Whether it is held to a constraint, so that it is whole when it is done.
    bound: bool,
    state: State,
    over: bool,
}

impl Answer {
    pub fn new(app: &Arc<App>, job: Job) -> Result<Self> {
        let canvas = app.speaker.canvas(&job.prompt, job.length)?;
        let remote = app.remote.clone();
        Ok(Self {
            sampler: Sampler::new(remote, vec![canvas], &job.config)?,
            app: app.clone(),
            prompt: job.prompt.len(),
            stop: job.stop,
            bound: !job.config.regex.is_empty() || !job.config.json_schema.is_empty(),
            state: State::default(),
            over: false,
        })
    }

    /// Does a step; `None` when it is done.
    pub async fn step(&mut self) -> Result<Option<&State>> {
        if self.over {
            return Ok(None);
        }
        let report = self.sampler.step().await?;
        let (speaker, state) = (&self.app.speaker, &mut self.state);
        let canvas = self.sampler.canvas();
        if let Some(report) = &report {
            Metrics::add(&self.app.metrics.tokens, report.revealed.len());
            state.written += report.revealed.len();
            (state.step, state.masked) = (report.step, report.masked);
            state.network_calls = report.network_calls;
        }
        self.over = report.is_none();
        let open = canvas.masked().first().copied().unwrap_or(canvas.len());
        let tokens = canvas.tokens(speaker.tokenizer.mask_index());
        let (mut settled, ended) = speaker.text(&tokens[self.prompt.min(open)..open]);
        state.ended = ended || self.over && self.bound;
        self.over |= ended;
        if let Some(at) = self.stop.iter().filter_map(|stop| settled.find(stop)).min() {
            settled.truncate(at);
            (self.over, state.ended) = (true, true);
        }
        if !self.over {
            // half a character, or what may become a text that ends it
            let keep = settled.trim_end_matches('\u{FFFD}').len();
            settled.truncate(keep);
            let begun = |stop: &String| {
                (1..stop.len())
                    .rev()
                    .find(|&n| stop.is_char_boundary(n) && settled.ends_with(&stop[..n]))
            };
            let held = self.stop.iter().filter_map(begun).max().unwrap_or(0);
            settled.truncate(settled.len() - held);
        }
        // what has been told stays, even where a sampler masks again
        if settled.starts_with(&state.settled) {
            state.settled = settled;
        }
        Ok(Some(&self.state))
    }

    /// All of the answer as it stands, masks as dots.
    pub fn text(&self) -> String {
        self.app
            .speaker
            .answer(self.sampler.canvas(), self.prompt)
            .0
    }

    /// Does all steps.
    pub async fn finish(mut self) -> Result<State> {
        while self.step().await?.is_some() {}
        Ok(self.state)
    }
}
