//! What a sampler asks of a model, and how a [`Model`] answers.

use std::future::Future;

use crate::config::Parameterization;
use crate::error::{Error, Result};
use crate::graph::FORWARD;
use crate::graph::PARAMS;
use crate::graph::Session;
use crate::model::{Among, Decoder, DrawGraph, Model, Options, Pass, check_tokens};
use crate::ops::{DRAW_KEY, INVERSE_TEMPERATURE, ROWS, TOP_K, TOP_P};
use crate::process::Schedule;
use crate::program::Step;
use crate::rules::Draw;

/// How tokens are drawn from a prediction; see [`crate::config::SampleConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct DrawOptions {
    /// Divides the logits; 0: the most probable token.
    pub temperature: f64,
    /// Among this many of the most probable tokens; 0: all.
    pub top_k: u32,
    /// Among the most probable tokens that together have this probability; 1: all.
    pub top_p: f64,
    /// How the logits are moved away from those of other canvases; see [`crate::config::SampleConfig::guidance`].
    pub guidance: Option<Guidance>,
    /// Key of the draw: with the number of a row it determines the row's random numbers.
    pub key: [u32; 2],
}

/// What logits are moved away from.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// How far: logits are `l + scale (l - m)`.
    pub scale: f64,
    /// The canvases `[B, L]` that the logits m are of: as the others, without what was given.
    pub xt: Vec<u32>,
}

/// A model as samplers see it.
pub trait Denoiser {
    /// Number of tokens, the mask included.
    fn vocab_size(&self) -> usize;

    /// Id of the mask token.
    fn mask_index(&self) -> u32;

    /// Longest window that it takes, positions.
    fn length(&self) -> usize;

    /// The noise it was trained with.
    fn schedule(&self) -> Schedule;

    /// What its logits mean. `d3pm` models are sampled with the zero masking of SUBS: a revealed
    /// position never becomes a mask.
    fn parameterization(&self) -> Parameterization {
        Parameterization::Subs
    }

    /// Whether it predicts a position from those before it only, so that canvases are filled from
    /// left to right.
    fn autoregressive(&self) -> bool {
        false
    }

    /// Draws a token for each of `rows` (position + `L` x canvas, rising) of the canvases
    /// `xt [B, L]`, canvas b at diffusion time `t[b]`. An autoregressive model is asked for the
    /// first masked position of a canvas only.
    ///
    /// What a row gets depends on its canvas, its number and the options alone, up to rounding.
    ///
    /// # Errors
    /// What the device refuses, such as [`Error::DeviceLost`].
    fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> impl Future<Output = Result<Vec<Draw>>>;
}

impl<D: Denoiser> Denoiser for &mut D {
    fn vocab_size(&self) -> usize {
        (**self).vocab_size()
    }

    fn mask_index(&self) -> u32 {
        (**self).mask_index()
    }

    fn length(&self) -> usize {
        (**self).length()
    }

    fn schedule(&self) -> Schedule {
        (**self).schedule()
    }

    fn parameterization(&self) -> Parameterization {
        (**self).parameterization()
    }

    fn autoregressive(&self) -> bool {
        (**self).autoregressive()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Vec<Draw>> {
        (**self).draw(xt, t, rows, options).await
    }
}

/// What the network is told of time t: sigma, or under the change of variables where log P(mask)
/// lies in its range.
fn noise_level(model: &Model, t: f64) -> f64 {
    let schedule = Denoiser::schedule(model);
    if model.objective.change_of_variables {
        schedule.log_move_share(schedule.move_chance(t))
    } else {
        schedule.sigma(t)
    }
}

impl Denoiser for Model {
    fn vocab_size(&self) -> usize {
        self.vocab_size()
    }

    fn mask_index(&self) -> u32 {
        self.mask_index()
    }

    fn length(&self) -> usize {
        self.length()
    }

    fn schedule(&self) -> Schedule {
        // a model's configuration was checked when it was made
        Schedule::new(&self.noise).unwrap_or_default()
    }

    fn parameterization(&self) -> Parameterization {
        self.objective.parameterization
    }

    fn autoregressive(&self) -> bool {
        self.autoregressive()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Vec<Draw>> {
        let batch = t.len();
        let size = xt.len();
        if batch == 0 || size == 0 || !size.is_multiple_of(batch) {
            let expected = format!("a positive multiple of {batch} canvases");
            return Err(misfit("xt", expected, size));
        }
        if rows.len() > size || rows.iter().any(|&row| row as usize >= size) {
            return Err(misfit("rows", format!("rows below {size}"), rows.len()));
        }
        check_tokens(xt, self.vocab_size())?;
        let inverse_temperature = if options.temperature > 0.0 {
            1.0 / options.temperature
        } else {
            0.0
        };
        let step = Step::default()
            .with(ROWS, rows.len() as u32)
            .with(DRAW_KEY, options.key)
            .with(INVERSE_TEMPERATURE, inverse_temperature)
            .with(TOP_K, options.top_k)
            .with(TOP_P, options.top_p);
        if self.autoregressive() {
            return next_tokens(self, xt, size / batch, rows, step).await;
        }
        let mut levels: Vec<f64> = t.iter().map(|&t| noise_level(self, t)).collect();
        let mut seen = xt.to_vec();
        let mut guidance = 0.0;
        if let Some(guided) = options.guidance.as_ref().filter(|g| g.scale != 0.0) {
            if guided.xt.len() != size {
                let expected = format!("{size} tokens, as xt");
                return Err(misfit("guidance.xt", expected, guided.xt.len()));
            }
            check_tokens(&guided.xt, self.vocab_size())?;
            seen.extend(&guided.xt);
            levels.extend(levels.clone());
            guidance = guided.scale;
        }
        let pass = Pass {
            conditioning: levels,
            ..Pass::of(&seen)
        };
        let key = (batch, size / batch, guidance);
        let (_, graph, session) = match &mut self.draw {
            Some(made) if made.0 == key => made,
            slot => {
                let options = Options {
                    batch: seen.len() / key.1,
                    length: key.1,
                    ..Options::default()
                };
                let among = Among {
                    guidance,
                    ..self.family.among()
                };
                let mut g = DrawGraph::new(self.family.network(), options, among)?;
                let d = g.draws;
                let outputs = [d.tokens, d.probability, d.entropy, d.log_total];
                let session =
                    Session::new(&self.device, &mut g.graph, &self.storage, PARAMS, &outputs)
                        .await?;
                slot.insert((key, g, session))
            }
        };
        let trunk = &*self.family.network().trunk;
        graph.call.write(session, trunk, &pass)?;
        let mut listed = rows.to_vec();
        if self.family.shift() {
            // the first token of a canvas has no row before it
            let first = |row: u32| row.is_multiple_of(key.1 as u32);
            listed
                .iter_mut()
                .for_each(|row| *row -= u32::from(!first(*row)));
            session.write_uint(graph.numbers, rows)?;
        }
        session.write_uint(graph.list.rows, &listed)?;
        if let Some(plain) = graph.plain {
            listed.iter_mut().for_each(|row| *row += size as u32);
            session.write_uint(plain.rows, &listed)?;
        }
        let results = session.run(&mut self.storage, &step, &[FORWARD]).await?;
        Ok(draws(results, rows.len(), seen.len()))
    }
}

/// The first `count` of the draws in `results`, whose four parts are `size` long each.
fn draws(results: &[f64], count: usize, size: usize) -> Vec<Draw> {
    let draw = |i: usize| Draw {
        token: results[i] as u32,
        probability: results[size + i],
        entropy: results[2 * size + i],
        log_total: results[3 * size + i],
    };
    (0..count).map(draw).collect()
}

/// Draws the next token of autoregressive canvases: `rows` holds at most one position of each.
async fn next_tokens(
    model: &mut Model,
    xt: &[u32],
    length: usize,
    rows: &[u32],
    step: Step,
) -> Result<Vec<Draw>> {
    let batch = xt.len() / length;
    let mut ends = vec![1; batch];
    let mut listed = Vec::new();
    for &row in rows {
        let (canvas, position) = (row as usize / length, row as usize % length);
        if position == 0 || listed.last() == Some(&(canvas as u32)) {
            let expected = "one position behind the first of each canvas".to_owned();
            return Err(misfit("rows", expected, rows.len()));
        }
        ends[canvas] = position;
        listed.push(canvas as u32);
    }
    let prefixes: Vec<&[u32]> = ends
        .iter()
        .enumerate()
        .map(|(b, end)| &xt[b * length..][..*end])
        .collect();
    let decoder = match &mut model.decoder {
        Some(made) if made.batch() == batch => made,
        slot => {
            let backbone = model.family.own()?;
            let made = Decoder::new(&model.device, backbone, &model.storage, batch);
            slot.insert(made.await?)
        }
    };
    let results = decoder
        .draw(&mut model.storage, &prefixes, &listed, step)
        .await?;
    Ok(draws(results, listed.len(), batch))
}

fn misfit(tensor: &str, expected: String, got: usize) -> Error {
    Error::Shape {
        op: "draw",
        tensor: tensor.into(),
        expected,
        got: vec![got],
    }
}
