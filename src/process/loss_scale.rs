//! Dynamic loss scaling: gradients of activations in f16 are kept within its range.

use serde::{Deserialize, Serialize};

/// Steps in a row without an overflow after which the scale is doubled.
const PATIENCE: u64 = 2000;
/// The scale of a fresh run, and the largest: powers of 2.
const FIRST: u32 = 16;
const MOST: u32 = 24;

/// What the loss of a step is multiplied by, as powers of 2. It depends on the outcomes up to the last step but one: on a
/// GPU a step begins before the last one's outcome is there, and a run must not depend on which came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// Of the last step whose outcome is known.
    last: u32,
    /// Of the step after it.
    now: u32,
    /// Of the one after that.
    next: u32,
    /// Steps in a row that have not overflowed.
    good: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            last: FIRST,
            now: FIRST,
            next: FIRST,
            good: 0,
        }
    }
}

impl LossScale {
    /// The scale of the step after `ahead` ones whose outcome is not known yet: none or one.
    pub fn of(&self, ahead: u64) -> f64 {
        power(if ahead == 0 { self.now } else { self.next })
    }

    /// The scale of the last step whose outcome is known.
    pub fn last(&self) -> f64 {
        power(self.last)
    }

    /// Whether steps that overflow can still make it smaller.
    pub fn can_shrink(&self) -> bool {
        self.next > 0
    }

    /// Takes account of a step: whether every gradient was finite.
    pub fn note(&mut self, finite: bool) {
        (self.last, self.now) = (self.now, self.next);
        self.good = if finite { self.good + 1 } else { 0 };
        if !finite {
            self.next = self.next.saturating_sub(1);
        } else if self.good == PATIENCE {
            self.next = (self.next + 1).min(MOST);
            self.good = 0;
        }
    }
}

fn power(exponent: u32) -> f64 {
    f64::from(1_u32 << exponent.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_follows_what_was_met_two_steps_before() {
        // as if no step began early, and as if all did
        let outcome = |step: u64| !step.is_multiple_of(7) || step > 30;
        let (mut scale, mut early) = (LossScale::default(), vec![65536.0]);
        for step in 0..4100 {
            assert_eq!(scale.of(0), early[step as usize], "step {step}");
            early.push(scale.of(1));
            let used = scale.of(0);
            scale.note(outcome(step));
            assert_eq!(scale.last(), used);
        }
        assert_eq!(early[1..4], [65536.0, 32768.0, 32768.0]);
        // five overflows halve it; 2,000 steps without one double it
        assert_eq!(
            (early[40], early[2100], early[4099]),
            (2048.0, 4096.0, 8192.0)
        );
    }

    #[test]
    fn it_has_bounds() {
        let mut scale = LossScale::default();
        (0..40).for_each(|_| scale.note(false));
        assert_eq!((scale.of(0), scale.of(1)), (1.0, 1.0));
        assert!(!scale.can_shrink());
        (0..40 * PATIENCE).for_each(|_| scale.note(true));
        assert_eq!(scale.of(0), f64::from(1 << MOST));
    }
}
