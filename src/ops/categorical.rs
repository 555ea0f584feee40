//! Drawing tokens at listed rows, exact in f32: an exponential race whose small variates keep
//! their relative precision. Both executors draw the same numbers.

use crate::cpu::{Float, Io, math};
use crate::device::program::Extent;
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Graph, Launch, Lower, Op, Operand, Tensor};
use crate::ops::head_loss::aligned_chunk;
use crate::rng::threefry2x32;
use crate::{shader, twin};

/// Reads logits and row numbers; writes tokens, probabilities and entropies.
#[derive(Clone, Debug)]
struct Categorical {
    vocab: usize,
    mask_index: u32,
    base: usize,
    most: usize,
}

/// What [`Graph::categorical`] makes, `[rows]` each.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    /// The tokens.
    pub tokens: Tensor,
    /// Their probabilities.
    pub probability: Tensor,
    /// Entropy of the distribution each was drawn from, nats.
    pub entropy: Tensor,
}

impl Graph {
    /// Draws a token for each listed row of `hidden [rows, width]`, whose numbers are `rows`, with
    /// the logits made in chunks of rows (rounded up to a multiple of 64).
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn categorical(
        &mut self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        rows: Tensor,
        mask_index: u32,
        chunk: usize,
    ) -> Result<Draws> {
        let &[n, width] = self.shape(hidden) else {
            return Err(self.misfit("categorical", hidden, "[rows, width]"));
        };
        let vocab = self.len(bias);
        self.expect("categorical", weight, &[vocab, width])?;
        self.expect("categorical", rows, &[n])?;
        self.require(
            "categorical",
            bias,
            (mask_index as usize) < vocab,
            &format!("more than {mask_index} elements"),
        )?;
        let tokens = self.activation_uint("tokens", &[n]);
        let (probability, entropy) = (
            self.activation("probability", &[n]),
            self.activation("entropy", &[n]),
        );
        let chunk = aligned_chunk(chunk);
        for base in (0..n).step_by(chunk) {
            let most = chunk.min(n - base);
            let extent = Extent::Rows { base, max: most };
            let hidden = self.view(hidden, base * width, &[most, width])?;
            let logits = self.linear_rows("logits", hidden, weight, Some(bias), extent)?;
            let part = |g: &mut Self, t| g.view(t, base, &[most]);
            let numbers = part(self, rows)?;
            let outs = [
                part(self, tokens)?,
                part(self, probability)?,
                part(self, entropy)?,
            ];
            self.push(
                Categorical {
                    vocab,
                    mask_index,
                    base,
                    most,
                },
                &[logits, numbers],
                &outs,
                &[],
                extent,
            );
        }
        Ok(Draws {
            tokens,
            probability,
            entropy,
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

impl Categorical {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (logits, numbers, n) = (io.read(0), io.read_uint(1), self.vocab);
        let (step, rows) = (io.step, io.rows);
        let (tokens, probability, entropy) = (io.write_uint(0), io.write(1), io.write(2));
        for row in 0..rows {
            let z = &logits[row * n..][..n];
            let (mut token, mut best) = (0, F::LOWEST);
            for v in (0..n).filter(|&v| v != self.mask_index as usize) {
                let noise = if step.greedy {
                    F::ZERO
                } else {
                    log_exponential(threefry2x32(step.draw_key, [v as u32, numbers[row]]))
                };
                if z[v] - noise > best {
                    (token, best) = (v, z[v] - noise);
                }
            }
            let keep = |v: usize| {
                if v == self.mask_index as usize {
                    F::LOWEST
                } else {
                    z[v]
                }
            };
            let top = math::maximum(n, keep);
            let p = |v: usize| {
                if v == self.mask_index as usize {
                    F::ZERO
                } else {
                    (z[v] - top).exp()
                }
            };
            let sum = math::sum(n, p);
            let mean = math::sum(n, |v| p(v) * (z[v] - top)) / sum;
            tokens[row] = token as u32;
            probability[row] = p(token) / sum;
            entropy[row] = sum.ln() - mean;
        }
    }
}

twin!(Categorical);

impl Op for Categorical {
    fn name(&self) -> &'static str {
        "categorical"
    }

    fn integers(&self) -> &'static [usize] {
        &[1]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let threads = lower.row_threads(self.vocab);
        vec![Launch {
            source: Source::new(shader!("categorical")).constant("THREADS", threads),
            operands: vec![
                Some(Operand::Read(0)),
                Some(Operand::Read(1)),
                Some(Operand::Write(0)),
                Some(Operand::Write(1)),
                Some(Operand::Write(2)),
            ],
            params: vec![
                self.vocab as u32,
                self.mask_index,
                self.base as u32,
                self.most as u32,
            ],
            grid: Grid::items(lower.extent(), 1),
            flops: 0,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::log_exponential;
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
            assert!(
                (single - double).abs() < 2e-6 * double.abs().max(1.0),
                "{words:?}: {single} {double}"
            );
        }
    }
}
