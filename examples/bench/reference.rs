//! The reference's samplers with its own arithmetic, for parity: full logits at every position, and
//! one race of tokens against the mask over uniforms that the caller gives.
//!
//! Everything behind the logits happens on the host in f64, so a run is the reference's token for
//! token given its uniforms. With f32 uniforms that race reveals too little (see `ops/categorical.rs`): use
//! [`mdlm::sample::Sampler`] for anything but comparison.

#![allow(dead_code, missing_docs, unreachable_pub)] // benchmarks and tests each use a part of it

use mdlm::config::Parameterization;
use mdlm::process::Schedule;
use mdlm::{Error, Model, Result};

/// The end of the reference's grid of times.
const EPS: f64 = 1e-5;
/// Its stand-in for a logarithm of zero.
const NEG_INFINITY: f64 = -1e6;

/// Which update a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predictor {
    /// Ancestral (`_ddpm_update`).
    Ddpm,
    /// Ancestral with P(mask) = t, keeping the prediction while nothing changes
    /// (`_ddpm_caching_update`).
    DdpmCache,
    /// By the staggered score (`_analytic_update`).
    Analytic,
}

/// The winner of `argmax p / (1e-10 - log(u + 1e-10))` (`_sample_categorical`).
pub fn race(weights: &[f64], uniforms: &[f64]) -> u32 {
    let score = |(p, u): (&f64, &f64)| p / (1e-10 - (u + 1e-10).ln());
    argmax(weights.iter().zip(uniforms).map(score))
}

/// Place of the first largest number.
fn argmax(scores: impl Iterator<Item = f64>) -> u32 {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, score) in scores.enumerate() {
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0 as u32
}

/// A position's logits, its token and what is known of the model.
#[derive(Clone, Copy, Debug)]
pub struct Position<'a> {
    /// `[V]`
    pub logits: &'a [f64],
    /// The token there.
    pub token: u32,
    /// The mask.
    pub mask_index: u32,
    /// What the logits mean.
    pub parameterization: Parameterization,
}

impl Position<'_> {
    fn masked(&self) -> bool {
        self.token == self.mask_index
    }

    fn one(&self, v: usize) -> bool {
        v as u32 == self.token
    }

    /// Log-probabilities, or log scores at `sigma` for SEDD (`forward`).
    pub fn output(&self, sigma: f64) -> Vec<f64> {
        let mut out = self.logits.to_vec();
        match self.parameterization {
            Parameterization::Sedd => {
                let shift = sigma.exp_m1().ln() + (out.len() as f64 - 1.0).ln();
                out.iter_mut().for_each(|x| *x -= shift);
                out[self.token as usize] = 0.0;
            }
            Parameterization::Subs if !self.masked() => {
                for (v, x) in out.iter_mut().enumerate() {
                    *x = if self.one(v) { 0.0 } else { NEG_INFINITY };
                }
            }
            kind => {
                if kind == Parameterization::Subs {
                    out[self.mask_index as usize] += NEG_INFINITY;
                }
                let top = out.iter().copied().fold(f64::MIN, f64::max);
                let lse = top + out.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
                out.iter_mut().for_each(|x| *x -= lse);
            }
        }
        out
    }

    /// Weights of an ancestral step between two probabilities of being masked.
    pub fn ancestral(&self, sigma: f64, move_t: f64, move_s: f64) -> Vec<f64> {
        let mut q = self.output(sigma);
        q.iter_mut().for_each(|x| *x = x.exp() * (move_t - move_s));
        q[self.mask_index as usize] = move_s;
        q
    }

    /// Concrete score at `sigma` (`get_score`).
    pub fn score(&self, sigma: f64) -> Vec<f64> {
        let mut out = self.output(sigma);
        if self.parameterization == Parameterization::Subs {
            let log_k = -sigma.exp_m1().ln();
            let mask = self.mask_index as usize;
            if self.masked() {
                out.iter_mut().for_each(|x| *x += log_k);
                out[mask] = 0.0;
            } else {
                out[mask] = -log_k;
            }
        }
        out.iter_mut().for_each(|x| *x = x.exp());
        out
    }

    /// Staggered score of a step of `dsigma` (`_staggered_score`).
    pub fn staggered(&self, sigma: f64, dsigma: f64) -> Vec<f64> {
        let mut score = self.score(sigma);
        let extra = -dsigma.exp_m1() * score.iter().sum::<f64>();
        score.iter_mut().for_each(|x| *x *= dsigma.exp());
        score[self.mask_index as usize] += extra;
        score
    }

    /// Column of the transposed transition matrix (`_transp_transition`).
    pub fn transition(&self, dsigma: f64) -> Vec<f64> {
        let stay = (-dsigma).exp();
        let come = if self.masked() {
            -(-dsigma).exp_m1()
        } else {
            0.0
        };
        (0..self.logits.len())
            .map(|v| come + if self.one(v) { stay } else { 0.0 })
            .collect()
    }

    /// Weights of an analytic step; the last one (`_denoiser_update`) never keeps a mask.
    pub fn analytic(&self, sigma: f64, dsigma: f64, last: bool) -> Vec<f64> {
        let transition = self.transition(dsigma);
        let staggered = self.staggered(sigma, dsigma).into_iter();
        let mut weights: Vec<f64> = staggered.zip(transition).map(|(s, p)| s * p).collect();
        if last {
            weights[self.mask_index as usize] = 0.0;
        }
        weights
    }
}

/// A batch of sequences under the reference's samplers. `uniforms(n)` gives the next n of its draws.
pub struct Reference<'m, U> {
    model: &'m mut Model,
    predictor: Predictor,
    uniforms: U,
    /// Sequences.
    batch: usize,
    xt: Vec<u32>,
    kept: Option<Vec<f32>>,
    network_calls: usize,
}

impl<'m, U: FnMut(usize) -> Vec<f64>> Reference<'m, U> {
    /// A batch of masks of the model's length.
    ///
    /// # Errors
    /// [`Error::Config`] for a predictor that does not fit the model.
    pub fn new(
        model: &'m mut Model,
        predictor: Predictor,
        batch: usize,
        uniforms: U,
    ) -> Result<Self> {
        let sedd = model.objective().parameterization == Parameterization::Sedd;
        let refuse = |problem| {
            let named = format!("{predictor:?}");
            Err(Error::config("predictor", named, problem))
        };
        if sedd && predictor != Predictor::Analytic {
            return refuse("scores are sampled by the analytic predictor");
        }
        if model.autoregressive() {
            return refuse("an autoregressive model has no noise to remove");
        }
        let xt = vec![model.mask_index(); batch * model.length()];
        Ok(Self {
            model,
            predictor,
            uniforms,
            batch,
            xt,
            kept: None,
            network_calls: 0,
        })
    }

    /// The tokens, `[batch, length]`.
    pub fn xt(&self) -> &[u32] {
        &self.xt
    }

    /// Network calls so far.
    pub fn network_calls(&self) -> usize {
        self.network_calls
    }

    /// `steps` updates from t = 1 to 1e-5 and the removal of what noise is left (`_sample`);
    /// `observe` sees the tokens after every update.
    ///
    /// # Errors
    /// What the device refuses.
    pub async fn sample(&mut self, steps: usize, mut observe: impl FnMut(&[u32])) -> Result<()> {
        let dt = (1.0 - EPS) / steps as f64;
        for i in 0..steps {
            self.update(1.0 - i as f64 * dt, dt).await?;
            observe(&self.xt);
        }
        self.remove_noise(EPS).await
    }

    /// Strides beyond the model's length (`sample_subs_guidance`): the emitted tokens,
    /// `[batch, length + strides * stride]`. `observe` sees the window after every update.
    ///
    /// # Errors
    /// [`Error::Config`] for a stride outside the model's length, or what the device refuses.
    pub async fn semi_ar(
        &mut self,
        steps: usize,
        stride: usize,
        strides: usize,
        mut observe: impl FnMut(&[u32]),
    ) -> Result<Vec<u32>> {
        let (length, mask) = (self.model.length(), self.model.mask_index());
        if stride == 0 || stride > length {
            let problem = format!("must be in 1..={length}");
            return Err(Error::config("stride", stride, problem));
        }
        let dt = 1.0 / steps as f64;
        let mut emitted = vec![Vec::new(); self.batch];
        for round in 0..=strides {
            self.kept = None;
            // the rest of the window before moves to the front
            for window in self.xt.chunks_exact_mut(length) {
                window.rotate_left(if round > 0 { stride } else { 0 });
                let fresh = if round > 0 { length - stride } else { 0 };
                window[fresh..].fill(mask);
            }
            for i in 0..=(1.0 / dt) as usize {
                self.update(1.0 - i as f64 * dt, dt).await?;
                observe(&self.xt);
            }
            self.remove_noise(0.0).await?;
            for (out, window) in emitted.iter_mut().zip(self.xt.chunks_exact(length)) {
                let end = if round < strides { stride } else { length };
                out.extend_from_slice(&window[..end]);
            }
        }
        Ok(emitted.concat())
    }

    /// One update from t to t - dt.
    async fn update(&mut self, t: f64, dt: f64) -> Result<()> {
        let schedule = Schedule::new(self.model.noise())?;
        let (sigma, s) = (schedule.sigma(t), t - dt);
        let logits = self.logits(sigma).await?;
        let before = self.xt.clone();
        match self.predictor {
            Predictor::Ddpm => {
                let moves = [schedule.move_chance(t), schedule.move_chance(s)];
                self.race(&logits, |p| p.ancestral(sigma, moves[0], moves[1]));
            }
            Predictor::DdpmCache => self.race(&logits, |p| p.ancestral(sigma, t, s)),
            Predictor::Analytic => {
                let dsigma = sigma - schedule.sigma(s);
                self.race(&logits, |p| p.analytic(sigma, dsigma, false));
            }
        }
        let keep = self.predictor == Predictor::DdpmCache
            && self.xt == before
            && !self
                .model
                .config()
                .is_ok_and(|config| config.time_conditioning);
        self.kept = keep.then_some(logits);
        Ok(())
    }

    /// Fills what is still masked: by the most probable tokens, or by a last analytic step.
    async fn remove_noise(&mut self, t: f64) -> Result<()> {
        let sigma = Schedule::new(self.model.noise())?.sigma(t);
        self.kept = None;
        let logits = self.logits(sigma).await?;
        if self.predictor == Predictor::Analytic {
            self.race(&logits, |p| p.analytic(sigma, sigma, true));
            return Ok(());
        }
        self.each(&logits, |_, p| argmax(p.output(sigma).into_iter()));
        Ok(())
    }

    async fn logits(&mut self, sigma: f64) -> Result<Vec<f32>> {
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        self.network_calls += 1;
        self.model.logits(&self.xt, &vec![sigma; self.batch]).await
    }

    /// Draws masked positions anew by a race over `weights`; one uniform for every position and token.
    fn race(&mut self, logits: &[f32], weights: impl Fn(Position<'_>) -> Vec<f64>) {
        let vocab = self.model.vocab_size();
        let uniforms = (self.uniforms)(self.xt.len() * vocab);
        self.each(logits, |i, p| {
            if p.masked() {
                race(&weights(p), &uniforms[i * vocab..][..vocab])
            } else {
                p.token
            }
        });
    }

    fn each(&mut self, logits: &[f32], next: impl Fn(usize, Position<'_>) -> u32) {
        let (vocab, mask_index) = (self.model.vocab_size(), self.model.mask_index());
        let parameterization = self.model.objective().parameterization;
        for (i, token) in self.xt.iter_mut().enumerate() {
            let row: Vec<f64> = logits[i * vocab..][..vocab]
                .iter()
                .map(|&x| x.into())
                .collect();
            *token = next(
                i,
                Position {
                    logits: &row,
                    token: *token,
                    mask_index,
                    parameterization,
                },
            );
        }
    }
}

/// The autoregressive baseline's sampler (`_ar_sampler`): the whole sequence again for every token,
/// which is `argmax log p + gumbel`. `gumbel [batch, length - 1, V]`; tokens `[batch, length]`.
///
/// # Errors
/// [`Error::Config`] for a denoiser, [`Error::Shape`] if the noise has another size, or what the device
/// refuses.
pub async fn autoregressive(
    model: &mut Model,
    bos: u32,
    batch: usize,
    length: usize,
    gumbel: &[f64],
) -> Result<Vec<u32>> {
    if !model.autoregressive() {
        let problem = "only an autoregressive model is sampled token by token";
        return Err(Error::config("model.kind", "dit", problem));
    }
    let (vocab, mask) = (model.vocab_size(), model.mask_index());
    let expected = batch * length.saturating_sub(1) * vocab;
    if gumbel.len() != expected || length == 0 {
        return Err(Error::Shape {
            op: "reference",
            tensor: "gumbel".into(),
            expected: format!("{expected} elements"),
            got: vec![gumbel.len()],
        });
    }
    let mut rows = vec![vec![bos]; batch];
    for i in 0..length - 1 {
        let logits = model.logits(&rows.concat(), &vec![0.0; batch]).await?;
        for (b, row) in rows.iter_mut().enumerate() {
            let logits = &logits[((b + 1) * (i + 1) - 1) * vocab..][..vocab];
            let noise = &gumbel[(b * (length - 1) + i) * vocab..][..vocab];
            // the normaliser is the same for all tokens, so it plays no part
            let score = |v: usize| f64::from(logits[v]) + noise[v];
            row.push(argmax((0..vocab).map(|v| {
                if v as u32 == mask {
                    f64::NEG_INFINITY
                } else {
                    score(v)
                }
            })));
        }
    }
    Ok(rows.concat())
}
