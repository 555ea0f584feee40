//! Which positions are revealed: decided on the host in f64, so that neither the number nor the
//! choice suffers from f32 (the reference's race of tokens against the mask unmasks up to 31 % too
//! slowly at 1000 steps).

use crate::rng::Rng;

/// Exact draw from Binomial(n, p), one trial after the other.
pub fn binomial(rng: &mut Rng, n: usize, p: f64) -> usize {
    (0..n).filter(|_| rng.uniform() < p).count()
}

/// Takes `count` of the candidates, uniformly, in rising order.
pub(super) fn choose(rng: &mut Rng, mut candidates: Vec<usize>, count: usize) -> Vec<usize> {
    rng.shuffle(&mut candidates);
    candidates.truncate(count);
    candidates.sort_unstable();
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn binomial_has_its_mean_and_variance() {
        let mut rng = Rng::new(5, Stream::Reveal, 0);
        let (n, p, draws) = (40, 0.3, 20_000);
        let all: Vec<f64> = (0..draws)
            .map(|_| binomial(&mut rng, n, p) as f64)
            .collect();
        let mean = all.iter().sum::<f64>() / draws as f64;
        let var = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws as f64;
        assert!((mean - 12.0).abs() < 0.1, "{mean}");
        assert!((var - 8.4).abs() < 0.4, "{var}");
    }
}
