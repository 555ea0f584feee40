//! How many tokens of a sequence the exact evaluation masks.

/// The law of the number m of masked tokens, 1 to L: uniform in continuous time, and with T steps
/// proportional to `m sum over i = 1..T of (1 / i) Binomial(m; L, i / T)`.
#[derive(Clone, Debug)]
pub(super) struct CountLaw {
    length: usize,
    /// P(at most m), m = 1..L; empty in continuous time.
    cumulative: Vec<f64>,
}

impl CountLaw {
    /// For sequences of `length` tokens; `t_steps` 0: continuous time.
    pub(super) fn new(length: usize, t_steps: u32) -> Self {
        let mut law = Self {
            length,
            cumulative: Vec::new(),
        };
        if t_steps == 0 {
            return law;
        }
        let n = length as f64;
        let log_factorial: Vec<f64> = (0..=length)
            .scan(0.0, |sum, k| {
                *sum += (k.max(1) as f64).ln();
                Some(*sum)
            })
            .collect();
        let mut sum = 0.0;
        for m in 1..=length {
            let choose = log_factorial[length] - log_factorial[m] - log_factorial[length - m];
            let (masked, left) = (m as f64, n - m as f64);
            let term = |i: u32| {
                let t = f64::from(i) / f64::from(t_steps);
                let rest = if left > 0.0 { left * (-t).ln_1p() } else { 0.0 };
                (choose + masked * t.ln() + rest).exp() / f64::from(i)
            };
            sum += masked / n * (1..=t_steps).map(term).sum::<f64>();
            law.cumulative.push(sum);
        }
        law
    }

    /// The count at the quantile `u`, in [0, 1).
    pub(super) fn draw(&self, u: f64) -> usize {
        let below = match self.cumulative.last() {
            None => (u * self.length as f64) as usize,
            Some(total) => self.cumulative.partition_point(|&c| c <= u * total),
        };
        (below + 1).min(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::CountLaw;

    #[test]
    fn the_discrete_law_sums_to_one_and_tends_to_the_uniform_one() {
        for steps in [1, 2, 10, 1000] {
            let law = CountLaw::new(40, steps);
            let total = law.cumulative.last().unwrap();
            assert!((total - 1.0).abs() < 1e-9, "T {steps}: {total}");
        }
        let fine = CountLaw::new(40, 100_000);
        for (m, c) in fine.cumulative.iter().enumerate() {
            assert!((c - (m + 1) as f64 / 40.0).abs() < 1e-3, "{m}: {c}");
        }
        // in a single step everything is masked
        assert_eq!(CountLaw::new(40, 1).draw(0.0), 40);
    }

    #[test]
    fn quantiles_of_the_uniform_law() {
        let law = CountLaw::new(4, 0);
        let drawn: Vec<usize> = (0..8).map(|i| law.draw(f64::from(i) / 8.0)).collect();
        assert_eq!(drawn, [1, 1, 2, 2, 3, 3, 4, 4]);
    }
}
