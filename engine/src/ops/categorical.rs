//! Drawing tokens at listed rows, exact in f32: an exponential race whose small variates keep
//! their relative precision. Both executors draw the same numbers.
//!
//! Temperature, top-k and top-p are values of the step, applied in this order: the `top_k` largest
//! logits, then the fewest of them that hold `top_p` of the tempered probability. Equal logits stay
//! or go together. Probability, entropy and total are those of the model, before any of this, but for [`SHARPNESS`].

use std::cmp::Ordering;

use crate::cpu::{Float, Io, for_each_row, math};
use crate::error::Result;
use crate::gpu::Grid;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::ROWS;
use crate::ops::drift::Last;
use crate::ops::head_loss::aligned_chunk;
use crate::ops::restrict::Allowed;
use crate::ops::row_loss::NO_MASK;
use crate::program::{Declared, Extent, Scalar, Step};
use crate::rng::threefry2x32;
use crate::{params, shader, twin};

/// Reads logits, keys and maybe standing tokens; writes tokens, probabilities, entropies, totals and margins.
#[derive(Clone, Debug)]
struct Categorical {
    vocab: usize,
    never: u32,
    absent: u32,
    base: usize,
    most: usize,
    standing: bool,
    redrawn: bool,
}

params! {
    struct CategoricalParams {
        vocab: u32,
        /// Token that is never drawn, and one that the softmax leaves out.
        never: u32,
        absent: u32,
        base: u32,
        most: u32,
    }
}

/// Words of [`Graph::categorical`]'s keys for each row: a key of two words, and the number that it is used with.
pub const KEY_WORDS: usize = 3;
/// What logits are multiplied with, so that temperature 1 changes no bit; 0: take the most probable token.
pub const INVERSE_TEMPERATURE: Scalar<f64> = Scalar::float("inverse_temperature", 1.0);
/// Draw among the most probable tokens only; 0: among all.
pub const TOP_K: Scalar<u32> = Scalar::uint("top_k", 0);
/// Draw among the most probable tokens with this share of the tempered probability.
pub const TOP_P: Scalar<f64> = Scalar::float("top_p", 1.0);

/// What logits are multiplied with in all that is said of a row; a draw has a temperature of its own.
pub const SHARPNESS: Scalar<f64> = Scalar::float("sharpness", 1.0);

/// A token that is never drawn: the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Never {
    /// Its id, if there is one.
    pub token: Option<u32>,
    /// Whether the softmax counts it all the same, so that others are less probable where it is likely.
    pub counted: bool,
}

impl Never {
    /// A mask that takes no part in the softmax (SUBS).
    pub fn absent(token: Option<u32>) -> Self {
        Self {
            token,
            counted: false,
        }
    }
}

/// Among [`Race::standing`] tokens: one is to be drawn.
pub const OPEN: u32 = u32::MAX;

/// How [`Graph::categorical`] draws.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// The token that is never drawn.
    pub never: Never,
    /// What rows may become, if not anything: all is as if their other tokens did not exist.
    pub allowed: Option<Allowed>,
    /// Tokens that stand at the rows, u32 `[rows]`: said again, with their probability, where not [`OPEN`].
    pub standing: Option<Tensor>,
    /// Another token is drawn where one stands, of which only the probability is said.
    pub redrawn: bool,
    /// What [`Draws::drift`] is measured from.
    pub last: Option<Last>,
    /// Rows whose logits are made at once; rounded up to a multiple of 64.
    pub chunk: usize,
}

impl Race {
    /// A draw among all tokens but one.
    pub fn new(never: Never, chunk: usize) -> Self {
        Self {
            never,
            allowed: None,
            standing: None,
            redrawn: false,
            last: None,
            chunk,
        }
    }
}

/// What [`Graph::categorical`] makes, `[rows]` each.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    /// The drawn tokens, u32.
    pub tokens: Tensor,
    /// Their probabilities under the model.
    pub probability: Tensor,
    /// Entropy of the model's distribution, nats.
    pub entropy: Tensor,
    /// Log-sum-exp of the logits that the softmax counts.
    pub log_total: Tensor,
    /// By how much the most probable token is ahead of the next one.
    pub margin: Tensor,
    /// How far the model's distribution has moved from the last one, nats, if [`Race::last`] says from which.
    pub drift: Option<Tensor>,
}

impl Graph {
    /// Draws a token for each listed row of `hidden [rows, width]`, by random numbers that its words of
    /// `keys [rows, 3]` determine.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn categorical(
        &mut self,
        hidden: Tensor,
        weight: Tensor,
        bias: Option<Tensor>,
        keys: Tensor,
        race: Race,
    ) -> Result<Draws> {
        let Race { never, allowed, .. } = race;
        let &[n, width] = self.shape(hidden) else {
            return Err(self.misfit("categorical", hidden, "[rows, width]"));
        };
        let vocab = self.shape(weight)[0];
        self.expect("categorical", weight, &[vocab, width])?;
        if let Some(bias) = bias {
            self.expect("categorical", bias, &[vocab])?;
        }
        self.expect("categorical", keys, &[n, KEY_WORDS])?;
        if let Some(allowed) = allowed {
            self.expect("categorical", allowed.choice, &[n])?;
        }
        if let Some(standing) = race.standing {
            self.expect("categorical", standing, &[n])?;
        }
        self.require(
            "categorical",
            weight,
            never.token.is_none_or(|mask| (mask as usize) < vocab),
            &format!("more than {} rows", never.token.unwrap_or(0)),
        )?;
        let tokens = self.activation_uint("tokens", &[n]);
        let [probability, entropy, log_total, margin] =
            ["probability", "entropy", "log_total", "margin"]
                .map(|name| self.activation(name, &[n]));
        let drift = race.last.map(|_| self.activation("drift", &[n]));
        let chunk = aligned_chunk(race.chunk);
        let token = never.token.unwrap_or(NO_MASK);
        let absent = if never.counted { NO_MASK } else { token };
        for base in (0..n).step_by(chunk) {
            let most = chunk.min(n - base);
            let extent = Extent::counted(ROWS, base, most);
            let hidden = self.view(hidden, base * width, &[most, width])?;
            let logits = self.linear_rows("logits", hidden, weight, bias, extent)?;
            if let Some(allowed) = allowed {
                self.restrict(logits, allowed, base, extent)?;
            }
            let part = |g: &mut Self, t| g.view(t, base, &[most]);
            let keys = self.view(keys, base * KEY_WORDS, &[most, KEY_WORDS])?;
            let mut reads = vec![logits, keys];
            if let Some(standing) = race.standing {
                reads.push(part(self, standing)?);
            }
            let outs = [
                part(self, tokens)?,
                part(self, probability)?,
                part(self, entropy)?,
                part(self, log_total)?,
                part(self, margin)?,
            ];
            self.push(
                Categorical {
                    vocab,
                    never: token,
                    absent,
                    base,
                    most,
                    standing: race.standing.is_some(),
                    redrawn: race.redrawn,
                },
                &reads,
                &outs,
                &[],
                extent,
            )?;
            if let (Some(last), Some(drift)) = (race.last, drift) {
                let drift = part(self, drift)?;
                self.drift([logits, outs[3]], absent, last, drift, base, extent)?;
            }
        }
        Ok(Draws {
            tokens,
            probability,
            entropy,
            log_total,
            margin,
            drift,
        })
    }
}

/// Logarithm of a standard exponential variate from 64 random bits.
fn log_exponential<F: Float>(words: [u32; 2]) -> F {
    let mantissa = 0.5 + f64::from(words[0] >> 9) * 2f64.powi(-24);
    let exponent = words[1].leading_zeros();
    let u = F::of(mantissa * 2f64.powi(-(exponent as i32)));
    if exponent == 0 {
        return (-(F::ONE - u).ln()).ln();
    }
    let s = u / (F::of(2.0) - u);
    let q = s * s;
    let series = [15, 13, 11, 9, 7, 5, 3]
        .iter()
        .fold(F::of(1.0 / 17.0), |sum, &k| {
            sum * q + F::of(1.0 / f64::from(k))
        });
    (F::of(2.0) * s * (F::ONE + q * series)).ln()
}

/// What [`log_exponential`] is above, without a logarithm: E > u >= 2^-(exponent + 1).
fn log_exponential_floor<F: Float>(words: [u32; 2]) -> F {
    F::of(-std::f64::consts::LN_2 * f64::from(words[1].leading_zeros() + 1) - 1e-4)
}

impl Categorical {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (logits, keys, n) = (io.read(0), io.read_uint(1), self.vocab);
        let (step, rows) = (io.step, io.rows);
        let (never, absent) = (self.never as usize, self.absent as usize);
        let inverse = F::of(step.get(INVERSE_TEMPERATURE));
        let sharpness = F::of(step.get(SHARPNESS));
        let standing = self.standing.then(|| io.read_uint(2));
        let tokens = io.write_uint(0);
        let outs = [1, 2, 3, 4].map(|i| &mut io.write(i)[..rows]);
        for_each_row(&mut tokens[..rows], outs, |row, token, outs| {
            let z = &logits[row * n..][..n];
            let top = math::maximum(n, |v| if v == absent { F::LOWEST } else { z[v] });
            let p = |v: usize| {
                if v == absent {
                    F::ZERO
                } else {
                    ((z[v] - top) * sharpness).exp()
                }
            };
            let sum = math::sum(n, p);
            let mean = math::sum(n, |v| p(v) * (z[v] - top) * sharpness) / sum;
            let least = self.least(z, top, step);
            let [a, b, number] = [0, 1, 2].map(|i| keys[row * KEY_WORDS + i]);
            let (mut chosen, mut best) = (0, F::LOWEST);
            for v in (0..n).filter(|&v| v != never && z[v] >= least) {
                let score = if inverse > F::ZERO {
                    let words = threefry2x32([a, b], [v as u32, number]);
                    let score = (z[v] - top) * inverse;
                    // most tokens lose whatever their mantissa is
                    if score - log_exponential_floor(words) < best {
                        continue;
                    }
                    score - log_exponential(words)
                } else {
                    z[v] - top
                };
                if score > best {
                    (chosen, best) = (v, score);
                }
            }
            let stands = standing.map(|standing| standing[row]);
            let said = match stands.filter(|&token| token != OPEN) {
                Some(token) => token as usize,
                None => chosen,
            };
            if !self.redrawn {
                chosen = said;
            }
            let next = self.next(z, top);
            let [probability, entropy, log_total, margin] = outs;
            *token = chosen as u32;
            *probability = p(said) / sum;
            *entropy = sum.ln() - mean;
            *log_total = top * sharpness + sum.ln();
            *margin = (F::ONE - ((next - top) * sharpness).exp()) / sum;
        });
    }

    /// The largest logit but one, the largest itself if there are two of it.
    fn next<F: Float>(&self, z: &[F], top: F) -> F {
        let absent = self.absent as usize;
        let at = (0..z.len()).find(|&v| v != absent && z[v] == top);
        let at = at.unwrap_or(z.len());
        // on either side of it, so that neither loop asks for it
        let most = |from: usize, end: usize| {
            math::maximum(end.saturating_sub(from), |i| match from + i == absent {
                true => F::LOWEST,
                false => z[from + i],
            })
        };
        most(0, at).max(most(at + 1, z.len()))
    }

    /// The least logit that may win, by sorting; the kernel finds the same one by bisection.
    fn least<F: Float>(&self, z: &[F], top: F, step: &Step) -> F {
        let most = match step.get(TOP_K) as usize {
            0 => z.len(),
            k => k,
        };
        let (inverse, top_p) = (step.get(INVERSE_TEMPERATURE), step.get(TOP_P));
        if inverse == 0.0
            || (most >= z.len() - usize::from((self.never as usize) < z.len()) && top_p >= 1.0)
        {
            return F::LOWEST;
        }
        let live = (0..z.len()).filter(|&v| v != self.never as usize);
        let mut kept: Vec<F> = live.map(|v| z[v]).collect();
        kept.sort_unstable_by(|a, b| b.partial_cmp(a).unwrap_or(Ordering::Equal));
        if most < kept.len() {
            let least = kept[most - 1];
            kept.truncate(kept.partition_point(|&x| x >= least));
        }
        let inverse = F::of(inverse);
        let weight = |&x: &F| ((x - top) * inverse).exp().f64();
        let need = top_p * kept.iter().map(weight).sum::<f64>();
        let mut mass = 0.0;
        let enough = kept.iter().position(|x| {
            mass += weight(x);
            mass >= need
        });
        kept[enough.unwrap_or(kept.len() - 1)]
    }
}

twin!(Categorical);

impl Op for Categorical {
    fn name(&self) -> &'static str {
        "categorical"
    }

    fn scalars(&self) -> Vec<Declared> {
        [
            TOP_K.declared,
            INVERSE_TEMPERATURE.declared,
            TOP_P.declared,
            SHARPNESS.declared,
        ]
        .into()
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 {
            Role::Number
        } else {
            Role::Index
        }
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let threads = lower.row_threads(self.vocab);
        let params = CategoricalParams {
            vocab: self.vocab as u32,
            never: self.never,
            absent: self.absent,
            base: self.base as u32,
            most: self.most as u32,
        };
        let kernel = Kernel::new(shader!("categorical")).constant("THREADS", threads);
        let kernel = kernel.flag("STANDING", self.standing);
        let kernel = match self.redrawn {
            true => kernel.constant("REDRAWN", 1),
            false => kernel,
        };
        let kernel = kernel.counted(lower.extent()).read(0).read(1);
        let kernel = kernel.read_if(self.standing, 2);
        vec![
            (0..5)
                .fold(kernel, Kernel::write)
                .params(params)
                .grid(Grid::items(lower.extent(), 1)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{log_exponential, log_exponential_floor};
    use crate::rng::threefry2x32;

    #[test]
    fn exponential_variates_have_the_right_law() {
        // E < x with probability 1 - exp(-x), also deep in the small tail
        let n = 200_000u32;
        let draws: Vec<f64> = (0..n)
            .map(|i| log_exponential::<f32>(threefry2x32([3, 4], [i, 0])).into())
            .collect();
        for x in [1e-4, 1e-3, 0.1, 0.7, 1.0, 3.0f64] {
            let p = -(-x).exp_m1();
            let seen = draws.iter().filter(|&&l| l < x.ln()).count() as f64;
            let deviation = (seen - f64::from(n) * p).abs() / (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!(
                deviation < 4.5,
                "P(E < {x}): {deviation} standard deviations off"
            );
        }
    }

    #[test]
    fn series_and_logarithm_agree_with_f64() {
        for i in 0..10_000 {
            let words = threefry2x32([1, 2], [i, 0]);
            let (single, double) = (
                f64::from(log_exponential::<f32>(words)),
                log_exponential::<f64>(words),
            );
            let floor = f64::from(log_exponential_floor::<f32>(words));
            assert!(single > floor && double > floor, "{words:?}");
            assert!(
                (single - double).abs() < 2e-6 * double.abs().max(1.0),
                "{words:?}: {single} {double}"
            );
        }
    }
}
