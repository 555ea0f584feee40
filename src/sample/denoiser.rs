//! What a sampler asks of a model, and how a [`Model`] answers.

use std::future::Future;

use crate::config::{Cache, Parameterization};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{Ask, Blockwise, Drawer, Model, Setup, TokenSets, check_tokens};
use crate::ops::{INVERSE_TEMPERATURE, SHARPNESS, TOP_K, TOP_P};
use crate::process::{Hybrid, Schedule};
use crate::program::Step;
use crate::rules::{Draw, Filled};

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
    /// What each of the rows may become; all that a draw says of a row is about these tokens alone.
    pub allowed: TokenSets,
    /// What is drawn at rows that are not masked.
    pub filled: Filled,
    /// How the canvases are read.
    pub reading: Reading,
    /// Whether draws say how far predictions have moved: [`Draw::drift`]. What they were is kept on the device, `L` times
    /// the vocabulary for each canvas.
    pub drifts: bool,
    /// Key of the draw: with the number of a row it determines the row's random numbers. One for all canvases; or one for
    /// each, whose rows then have the numbers that they would have if it were alone.
    pub keys: Vec<[u32; 2]>,
}

impl Default for DrawOptions {
    /// A draw from the model's own distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            guidance: None,
            allowed: TokenSets::default(),
            filled: Filled::Said,
            reading: Reading::default(),
            drifts: false,
            keys: vec![[0, 0]],
        }
    }
}

/// What logits are moved away from.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// How far: logits are `l + scale (l - m)`.
    pub scale: f64,
    /// The canvases `[B, L]` that the logits m are of: as the others, without what was given.
    pub xt: Vec<u32>,
}

/// How canvases are read, beside what stands in them; by default each whole and anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Positions of each canvas; what `xt` has behind them is seen by nobody. None: all of `L`.
    pub lengths: Vec<usize>,
    /// Positions of a block; 0: all.
    pub block: usize,
    /// Where a block of each canvas begins: others lie before and behind it. None: at the beginning.
    pub first: Vec<usize>,
    /// What is kept from draw to draw.
    pub cache: Cache,
    /// Whether it is the first draw in a block, so that what an inexact cache has kept is out of date.
    pub fresh: bool,
    /// Who reads, if several read with one model in turn: what was kept for another is out of date.
    pub reader: usize,
}

impl Reading {
    /// With everything said, for a batch of canvases in rows of `length`.
    fn of(&self, batch: usize, length: usize) -> Result<Self> {
        let mut all = self.clone();
        for (name, given, default) in [
            ("reading.lengths", &mut all.lengths, length),
            ("reading.first", &mut all.first, 0),
        ] {
            if given.is_empty() {
                *given = vec![default; batch];
            }
            let wrong = |&n: &usize| n > length || n == 0 && default > 0;
            if given.len() != batch || given.iter().any(wrong) {
                let expected = format!("{batch} numbers up to {length}");
                return Err(misfit(name, expected, given.len()));
            }
        }
        if all.block == 0 {
            all.block = length;
        }
        Ok(all)
    }
}

/// What came of a draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The draws, in the order of the rows.
    pub draws: Vec<Draw>,
    /// Runs of the network that it took: more than one where keys and values are kept and the text before has changed.
    pub calls: usize,
}

/// What samplers know of a model before they ask it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Number of tokens, the mask included.
    pub vocab_size: usize,
    /// Id of the mask token.
    pub mask_index: u32,
    /// Longest window that it takes, positions.
    pub length: usize,
    /// The noise it was trained with.
    pub schedule: Schedule,
    /// That noise where it also changes tokens for others.
    pub hybrid: Option<Hybrid>,
    /// What its logits mean. `d3pm` models are sampled with the zero masking of SUBS: a revealed
    /// position never becomes a mask.
    pub parameterization: Parameterization,
    /// Whether it predicts a position from those before it only, so that canvases are filled from
    /// left to right.
    pub autoregressive: bool,
    /// The blocks that it was trained to fill one after the other, if that is how.
    pub blocks: Option<Blockwise>,
    /// What its tokens are, if that is known.
    pub tokenizer: Option<Tokenizer>,
}

/// A model as samplers see it.
pub trait Denoiser {
    /// What does not change.
    fn facts(&self) -> Facts;

    /// Draws a token for each of `rows` (position + `L` x canvas, rising) of the canvases
    /// `xt [B, L]`, canvas b at diffusion time `t[b]`; at a row that is not masked as [`DrawOptions::filled`] says. An autoregressive model is asked for the first masked
    /// position of a canvas only.
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
    ) -> impl Future<Output = Result<Drawn>>;
}

impl<D: Denoiser> Denoiser for &mut D {
    fn facts(&self) -> Facts {
        (**self).facts()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        (**self).draw(xt, t, rows, options).await
    }
}

fn schedule(model: &Model) -> Schedule {
    // a model's configuration was checked when it was made
    Schedule::new(&model.noise).unwrap_or_default()
}

/// What the network is told of time t: sigma, under hybrid noise t itself, or under the change of variables where log P(mask)
/// lies in its range.
fn noise_level(model: &Model, t: f64) -> f64 {
    if let Some(hybrid) = model.family.hybrid() {
        return hybrid.told(t);
    }
    let schedule = schedule(model);
    if model.objective.change_of_variables {
        schedule.log_move_share(schedule.move_chance(t))
    } else {
        schedule.sigma(t)
    }
}

impl Denoiser for Model {
    fn facts(&self) -> Facts {
        Facts {
            vocab_size: self.vocab_size(),
            mask_index: self.mask_index(),
            length: self.length(),
            schedule: schedule(self),
            hybrid: self.family.hybrid(),
            parameterization: self.objective.parameterization,
            autoregressive: self.autoregressive(),
            blocks: self.blocks(),
            tokenizer: self.tokenizer.clone(),
        }
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
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
        let length = size / batch;
        let reading = options.reading.of(batch, length)?;
        let mut positions = vec![Vec::new(); batch];
        let mask_index = self.mask_index();
        // graphs that once were told something stay so, for they are made anew otherwise
        let told = |what: fn(&Setup) -> bool| self.drawer.as_ref().is_some_and(|d| what(d.setup()));
        let masked = |&row: &u32| xt[row as usize] == mask_index;
        let anew = matches!(options.filled, Filled::Anew(_));
        let standing = told(|setup| setup.standing) || !anew && !rows.iter().all(masked);
        let redrawn = match options.filled {
            Filled::Said => false,
            Filled::Judged => true,
            Filled::Anew(_) => told(|setup| setup.redrawn),
        };
        for &row in rows {
            positions[row as usize / length].push(row as usize % length);
        }
        if options.keys.len() != 1 && options.keys.len() != batch {
            let expected = format!("one key, or {batch}");
            return Err(misfit("keys", expected, options.keys.len()));
        }
        if self.autoregressive() {
            let next = |of: &Vec<usize>| of.len() <= 1 && of.first() != Some(&0);
            if !positions.iter().all(next) {
                let expected = "one position behind the first of each canvas".to_owned();
                return Err(misfit("rows", expected, rows.len()));
            }
        }
        let keys = keys(rows, length, &options.keys, self.autoregressive());
        let vocab_size = self.vocab_size();
        let restricted = options.allowed.rows() > 0 || told(|setup| setup.restricted);
        let allowed = match restricted && options.allowed.rows() == 0 {
            true => &TokenSets::all(vocab_size, rows.len()),
            false => &options.allowed,
        };
        if restricted && (allowed.rows() != rows.len() || !allowed.fits(vocab_size)) {
            let expected = format!("sets of {vocab_size} tokens for {} rows", rows.len());
            return Err(misfit("allowed", expected, allowed.rows()));
        }
        let inverse_temperature = if options.temperature > 0.0 {
            1.0 / options.temperature
        } else {
            0.0
        };
        let step = Step::default()
            .with(INVERSE_TEMPERATURE, inverse_temperature)
            .with(TOP_K, options.top_k)
            .with(TOP_P, options.top_p);
        let step = match anew && inverse_temperature > 0.0 {
            true => step.with(SHARPNESS, inverse_temperature),
            false => step,
        };
        let mut levels: Vec<f64> = t.iter().map(|&t| noise_level(self, t)).collect();
        let mut seen = xt.to_vec();
        let (mut lengths, mut first) = (reading.lengths.clone(), reading.first.clone());
        let mut guidance = 0.0;
        if let Some(guided) = options.guidance.as_ref().filter(|g| g.scale != 0.0) {
            if guided.xt.len() != size {
                let expected = format!("{size} tokens, as xt");
                return Err(misfit("guidance.xt", expected, guided.xt.len()));
            }
            check_tokens(&guided.xt, self.vocab_size())?;
            seen.extend(&guided.xt);
            levels.extend(levels.clone());
            lengths.extend(lengths.clone());
            first.extend(first.clone());
            guidance = guided.scale;
        }
        let setup = Setup {
            sequences: lengths.len(),
            length,
            guidance,
            vision: self.vision(),
            cache: reading.cache,
            block: reading.block,
            ragged: lengths.iter().any(|&n| n != length),
            shift: self.family.shift(),
            restricted,
            standing,
            redrawn,
            drifts: options.drifts,
        };
        let network = self.family.network();
        let drawer = match &mut self.drawer {
            Some(made) if *made.setup() == setup => made,
            slot => {
                // what the other one kept may be large
                *slot = None;
                let among = self.family.among();
                let made = Drawer::new(&self.device, network, &self.storage, setup, among);
                slot.insert(made.await?)
            }
        };
        let ask = Ask {
            xt: &seen,
            mask_index,
            lengths: &lengths,
            first: &first,
            levels: &levels,
            positions: &positions,
            keys: &keys,
            allowed,
            anew,
            fresh: reading.fresh,
            reader: reading.reader,
        };
        let made = drawer.draw(network, &mut self.storage, &ask, &step).await?;
        let results = &made.results;
        let draw = |i: usize| Draw {
            token: results[0][i] as u32,
            probability: results[1][i],
            entropy: results[2][i],
            log_total: results[3][i],
            margin: results[4][i],
            drift: match (results.get(5), made.again[i]) {
                (Some(drift), true) => drift[i],
                _ => f64::INFINITY,
            },
            stood: Some(xt[rows[i] as usize]).filter(|&token| token != mask_index),
        };
        Ok(Drawn {
            draws: (0..rows.len()).map(draw).collect(),
            calls: made.runs,
        })
    }
}

/// Keys and numbers of the draws at some rows of canvases of `length`. A baseline draws once in a canvas, wherever.
fn keys(rows: &[u32], length: usize, keys: &[[u32; 2]], once: bool) -> Vec<u32> {
    let words = |&row: &u32| {
        let (canvas, position) = (row as usize / length, row % length as u32);
        let [a, b] = keys[canvas % keys.len()];
        let number = match (keys.len(), once) {
            (1, false) => row,
            (1, true) => canvas as u32,
            (_, false) => position,
            (_, true) => 0,
        };
        [a, b, number]
    };
    rows.iter().flat_map(words).collect()
}

fn misfit(tensor: &str, expected: String, got: usize) -> Error {
    Error::Shape {
        op: "draw",
        tensor: tensor.into(),
        expected,
        got: vec![got],
    }
}
