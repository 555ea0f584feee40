//! Ancestral sampling on a uniform grid of t, with the network called only when something is
//! revealed (reference `ddpm_cache`, without its f32 race: see `reveal.rs` and `ops/categorical.rs`).
//!
//! From t to s a masked position is revealed with probability (t - s) / t, independently, so the
//! number revealed is binomial and the positions are uniform. The grid ends at 0, where
//! everything left is revealed; the reference stops at 1e-5 and fills the rest greedily.

use std::ops::ControlFlow;

use crate::config::SampleConfig;
use crate::device::program::{Arena, Step};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::graph::Session;
use crate::model::{DrawGraph, Model, check_tokens, time_rows};
use crate::rng::{Rng, Stream, stream_key};
use crate::sample::Canvas;
use crate::sample::reveal::{binomial, choose};

/// A position that a step has filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revealed {
    /// Where.
    pub position: usize,
    /// With what.
    pub token: u32,
    /// Its probability under the model.
    pub probability: f64,
    /// Entropy of the distribution it was drawn from, nats.
    pub entropy: f64,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Diffusion time after the step; P(mask) is about t.
    pub t: f64,
    /// What was revealed, in order of position.
    pub revealed: Vec<Revealed>,
    /// Positions still masked.
    pub masked: usize,
    /// Network calls so far.
    pub network_calls: usize,
}

/// Fills a canvas step by step.
pub struct Sampler<'m> {
    model: &'m mut Model,
    canvas: Canvas,
    config: SampleConfig,
    done: usize,
    network_calls: usize,
}

impl Model {
    /// A sampler for the open positions of `canvas`.
    ///
    /// # Errors
    /// [`Error::Config`] for 0 steps, a canvas that is empty or longer than the model, or one that
    /// holds the mask as a token, [`Error::Token`] for a frozen token outside the vocabulary.
    pub fn sampler(&mut self, canvas: Canvas, config: &SampleConfig) -> Result<Sampler<'_>> {
        config.validate()?;
        let model = self.config();
        if canvas.is_empty() || canvas.len() > model.length {
            let problem = format!("the model takes 1 to {} positions", model.length);
            return Err(Error::config("canvas length", canvas.len(), problem));
        }
        check_tokens(&canvas.tokens(model.mask_index), model.vocab_size)?;
        let mask = Some(model.mask_index);
        if let Some(i) = (0..canvas.len()).find(|&i| canvas.token(i) == mask) {
            let problem = "holds the mask token; open it instead";
            return Err(Error::config("canvas position", i, problem));
        }
        Ok(Sampler {
            model: self,
            canvas,
            config: config.clone(),
            done: 0,
            network_calls: 0,
        })
    }
}

impl Sampler<'_> {
    /// The canvas as it stands.
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// Does the next step; `None` when nothing is masked any more.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin; the canvas stays as it was.
    pub async fn step(&mut self) -> Result<Option<StepReport>> {
        let masked = self.canvas.masked();
        if masked.is_empty() || self.done == self.config.steps {
            return Ok(None);
        }
        let time = |done: usize| 1.0 - done as f64 / self.config.steps as f64;
        let (t, s) = (time(self.done), time(self.done + 1));
        let mut rng = Rng::new(self.config.seed, Stream::Reveal, self.done as u64);
        let left = masked.len();
        let count = binomial(&mut rng, left, (t - s) / t);
        let positions = choose(&mut rng, masked, count);
        let revealed = if positions.is_empty() {
            Vec::new()
        } else {
            self.draw(&positions, t).await?
        };
        for r in &revealed {
            self.canvas.reveal(r.position, r.token);
        }
        self.done += 1;
        Ok(Some(StepReport {
            step: self.done,
            steps: self.config.steps,
            t: s,
            masked: left - revealed.len(),
            revealed,
            network_calls: self.network_calls,
        }))
    }

    /// Runs the remaining steps; `Break` stops early and keeps the canvas.
    ///
    /// # Errors
    /// As [`Sampler::step`].
    pub async fn finish(
        mut self,
        mut observe: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Canvas> {
        while let Some(report) = self.step().await? {
            if observe(&report).is_break() {
                break;
            }
        }
        Ok(self.canvas)
    }

    /// Draws tokens at `positions` from the network's prediction for the canvas.
    async fn draw(&mut self, positions: &[usize], t: f64) -> Result<Vec<Revealed>> {
        let Self {
            model,
            canvas,
            config,
            ..
        } = self;
        let length = canvas.len();
        let (_, graph, session) = match &mut model.draw {
            Some(made) if made.0 == length => made,
            slot => {
                let mut g = DrawGraph::new(&model.backbone, 1, length)?;
                let d = g.draws;
                let outputs = [d.tokens, d.probability, d.entropy];
                let session = Session::new(
                    &model.device,
                    &mut g.graph,
                    &model.storage,
                    Arena::Params,
                    &outputs,
                )
                .await?;
                slot.insert((length, g, session))
            }
        };
        let c = &model.backbone.config;
        let time = time_rows(c, [Schedule::default().sigma(t)]);
        let rows: Vec<u32> = positions.iter().map(|&p| p as u32).collect();
        graph
            .trunk
            .write(session, &canvas.tokens(c.mask_index), &time)?;
        session.write_uint(graph.list.rows, &rows)?;
        let draw_key = stream_key(config.seed, Stream::Token, self.done as u64);
        let step = Step {
            rows: rows.len() as u32,
            draw_key,
            ..Step::default()
        };
        let results = session.run(&mut model.storage, &step, false).await?;
        self.network_calls += 1;
        let revealed = positions.iter().enumerate().map(|(i, &position)| Revealed {
            position,
            token: results[i] as u32,
            probability: results[length + i],
            entropy: results[2 * length + i],
        });
        Ok(revealed.collect())
    }
}
