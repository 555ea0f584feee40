//! Perplexity with its standard error.

/// Perplexity, or an upper bound on it, estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// exp of `nats_per_token`.
    pub ppl: f64,
    /// Mean negative log-likelihood of a token, or its bound, nats.
    pub nats_per_token: f64,
    /// Standard error of `nats_per_token`.
    pub nats_std_err: f64,
    /// Tokens that counted.
    pub tokens: u64,
}

/// What one sequence contributed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scored {
    /// Estimate of its nats, summed over its tokens.
    pub(super) nats: f64,
    /// Its tokens that count.
    pub(super) tokens: f64,
}

impl Perplexity {
    /// From scored sequences, in order. Times are stratified within a `batch`, so batches are the
    /// independent samples; with few whole ones the sequences give a wider, still valid, interval.
    pub(super) fn estimate(sequences: &[Scored], batch: usize) -> Self {
        let sum = |all: &[Scored]| {
            all.iter().fold((0.0, 0.0), |(nats, tokens), s| {
                (nats + s.nats, tokens + s.tokens)
            })
        };
        let (nats, tokens) = sum(sequences);
        let mean = nats / tokens;
        let whole = sequences.chunks_exact(batch.max(1));
        let groups: Vec<(f64, f64)> = if whole.len() >= 8 {
            whole.map(sum).collect()
        } else {
            sequences.iter().map(|s| (s.nats, s.tokens)).collect()
        };
        // of a ratio of sums, to first order
        let n = groups.len() as f64;
        let weight = groups.iter().map(|g| g.1).sum::<f64>() / n;
        let centre = groups.iter().map(|g| g.0).sum::<f64>() / (n * weight);
        let residual = |(nats, tokens): &(f64, f64)| ((nats - centre * tokens) / weight).powi(2);
        let squares = groups.iter().map(residual).sum::<f64>();
        Self {
            ppl: mean.exp(),
            nats_per_token: mean,
            nats_std_err: (squares / (n - 1.0).max(1.0) / n).sqrt(),
            tokens: tokens as u64,
        }
    }

    /// Standard error of the perplexity, to first order.
    pub fn std_err(&self) -> f64 {
        self.ppl * self.nats_std_err
    }

    /// The 95 % confidence interval of the perplexity.
    pub fn interval(&self) -> [f64; 2] {
        [-1.96, 1.96].map(|z: f64| (self.nats_per_token + z * self.nats_std_err).exp())
    }
}
