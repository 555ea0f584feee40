//! What a canvas may still become under a constraint.

use std::ops::Range;

use fixedbitset::FixedBitSet;

use crate::sample::Canvas;
use crate::sample::grammar::Grammar;

/// The stretch of a canvas that is held to a constraint, from its first open position to its last, and the states
/// in which a finished text can be between two positions, whatever else is written.
pub struct Fit<'a> {
    grammar: &'a Grammar,
    stretch: Range<usize>,
    /// What stands there; `None` where it is masked.
    tokens: Vec<Option<u32>>,
    /// The states that what stands before each position can lead to.
    forward: Vec<FixedBitSet>,
    /// Those of them from which the rest can be finished.
    live: Vec<FixedBitSet>,
}

impl<'a> Fit<'a> {
    /// Of a canvas as it stands; `None` if nothing is open in it. A text may be shorter than its stretch where nothing
    /// but ends of texts stands behind.
    pub fn new(grammar: &'a Grammar, canvas: &Canvas) -> Option<Self> {
        let open = |&position: &usize| !canvas.is_frozen(position);
        let first = (0..canvas.len()).find(open)?;
        let last = (0..canvas.len()).rfind(open)?;
        let stretch = first..last + 1;
        let behind = (stretch.end..canvas.len())
            .all(|at| canvas.token(at).is_some_and(|id| grammar.ends(id)));
        let none = FixedBitSet::with_capacity(grammar.states());
        let mut made = Self {
            grammar,
            tokens: stretch.clone().map(|at| canvas.token(at)).collect(),
            forward: vec![none.clone(); stretch.len() + 1],
            live: vec![none; stretch.len() + 1],
            stretch,
        };
        made.forward[0].insert(grammar.begin() as usize);
        let n = made.tokens.len();
        for i in 0..n {
            made.forward[i + 1] = made.next(i);
        }
        let end = grammar.after_end() as usize;
        let finals = made.forward[n]
            .ones()
            .filter(|&state| grammar.is_final(state as u32) && (behind || state != end));
        made.live[n].extend(finals);
        for i in (0..n).rev() {
            made.live[i] = made.previous(i);
        }
        Some(made)
    }

    /// The states behind position `i` of the stretch.
    fn next(&self, i: usize) -> FixedBitSet {
        let repeats = i > 0 && self.tokens[i].or(self.tokens[i - 1]).is_none();
        if repeats && self.forward[i] == self.forward[i - 1] {
            return self.forward[i].clone();
        }
        let mut next = FixedBitSet::with_capacity(self.grammar.states());
        for state in self.forward[i].ones() {
            match self.tokens[i] {
                None => next.extend(
                    self.grammar
                        .after(state as u32)
                        .iter()
                        .map(|&to| to as usize),
                ),
                Some(token) => {
                    next.extend(self.grammar.step(state as u32, token).map(|to| to as usize))
                }
            }
        }
        next
    }

    /// The states before position `i` from which the rest can be finished.
    fn previous(&self, i: usize) -> FixedBitSet {
        let live = &self.live[i + 1];
        let repeats = self.tokens.get(i + 1) == Some(&None) && self.tokens[i].is_none();
        if repeats && *live == self.live[i + 2] && self.forward[i] == self.forward[i + 1] {
            return live.clone();
        }
        let mut previous = FixedBitSet::with_capacity(self.grammar.states());
        match self.tokens[i] {
            None => {
                for state in live.ones() {
                    previous.extend(
                        self.grammar
                            .before(state as u32)
                            .iter()
                            .map(|&from| from as usize),
                    );
                }
                previous.intersect_with(&self.forward[i]);
            }
            Some(token) => previous.extend(self.forward[i].ones().filter(|&state| {
                let to = self.grammar.step(state as u32, token);
                to.is_some_and(|to| live.contains(to as usize))
            })),
        }
        previous
    }

    /// Whether the masks can be filled at all.
    pub fn possible(&self) -> bool {
        !self.live[0].is_clear()
    }

    /// How many positions the stretch has.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Writes a token at a masked position, if some text is possible with it.
    pub fn write(&mut self, position: usize, token: u32) -> bool {
        let i = position - self.stretch.start;
        let fits = self.live[i].ones().any(|state| {
            let to = self.grammar.step(state as u32, token);
            to.is_some_and(|to| self.live[i + 1].contains(to as usize))
        });
        if !fits {
            return false;
        }
        self.tokens[i] = Some(token);
        for j in i..self.tokens.len() {
            let next = self.next(j);
            if next == self.forward[j + 1] {
                break;
            }
            self.live[j + 1].intersect_with(&next);
            self.forward[j + 1] = next;
        }
        for j in (0..=i).rev() {
            let previous = self.previous(j);
            if previous == self.live[j] {
                break;
            }
            self.live[j] = previous;
        }
        true
    }

    /// Whether two positions may take the same tokens because they lie between the same states.
    pub fn alike(&self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|position| position - self.stretch.start);
        self.live[a] == self.live[b] && self.live[a + 1] == self.live[b + 1]
    }

    /// Puts the tokens with which a text is possible at a masked position into a set.
    pub fn insert(&self, position: usize, set: &mut [u32]) {
        let i = position - self.stretch.start;
        let mut classes = FixedBitSet::with_capacity(self.grammar.classes());
        for state in self.live[i].ones() {
            let steps = self.grammar.steps(state as u32).iter();
            let live = steps.filter(|&&(_, to)| self.live[i + 1].contains(to as usize));
            classes.extend(live.map(|&(class, _)| class as usize));
        }
        classes
            .ones()
            .for_each(|class| self.grammar.insert(class, set));
    }
}
