//! A constraint's automaton over tokens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::constraint::Automaton;
use crate::data::Vocabulary;
use crate::model::insert;

/// Most bytes that are read from all states together, a measure of time: a second or two.
const MAX_WORK: usize = 1 << 29;
/// Most steps that are kept, a measure of memory: 8 bytes each, thrice.
const MAX_STEPS: usize = 1 << 24;

/// Which tokens lead from which state to which. Tokens that lead from every state to the same one are a class: there
/// are a few hundred of them, whatever the vocabulary's size. Beside the automaton's states there is one before a text,
/// where tokens add what they add to no other, and one behind its end.
pub struct Grammar {
    automaton: Automaton,
    vocabulary: Arc<Vocabulary>,
    /// Tokens that end a text.
    ends: HashSet<u32>,
    /// The tokens of each class.
    classes: Vec<Vec<u32>>,
    /// Classes of many tokens as sets, which are faster to take together.
    large: HashMap<usize, Vec<u32>>,
    /// From each state, class by class, to which one.
    steps: Vec<Vec<(u32, u32)>>,
    /// The states behind each state, and those before it.
    after: Vec<Vec<u32>>,
    before: Vec<Vec<u32>>,
}

impl Grammar {
    /// Of the texts of an automaton, behind each any number of `ends`. Tokens that are `barred` are drawn nowhere.
    ///
    /// # Errors
    /// A sentence that says how much is too much.
    pub fn new(
        automaton: Automaton,
        vocabulary: Arc<Vocabulary>,
        ends: &[u32],
        barred: &[u32],
    ) -> Result<Self, String> {
        let mut made = Self {
            ends: ends.iter().copied().collect(),
            classes: Vec::new(),
            large: HashMap::new(),
            steps: vec![Vec::new(); automaton.states() + 2],
            after: Vec::new(),
            before: Vec::new(),
            automaton,
            vocabulary,
        };
        made.classify(&barred.iter().copied().collect())?;
        made.end(barred);
        let words = made.vocabulary.ids().div_ceil(32);
        for (class, tokens) in made.classes.iter().enumerate() {
            if tokens.len() > words {
                let mut set = vec![0; words];
                insert(&mut set, tokens.iter().copied());
                made.large.insert(class, set);
            }
        }
        let states = made.steps.len();
        (made.after, made.before) = (vec![Vec::new(); states], vec![Vec::new(); states]);
        for (state, steps) in made.steps.iter().enumerate() {
            let mut to: Vec<u32> = steps.iter().map(|&(_, to)| to).collect();
            to.sort_unstable();
            to.dedup();
            to.iter()
                .for_each(|&to| made.before[to as usize].push(state as u32));
            made.after[state] = to;
        }
        Ok(made)
    }

    /// Finds the classes of tokens and their steps. Tokens come in the order of their bytes, so that what a token shares
    /// with the one before it is read once; from states that have no way on nothing more is read.
    fn classify(&mut self, barred: &HashSet<u32>) -> Result<(), String> {
        let states = self.automaton.states();
        let vocabulary = self.vocabulary.clone();
        let mut known: HashMap<Vec<(u32, u32)>, usize> = HashMap::new();
        // from where to where the first bytes lead, byte after byte
        let mut ways = vec![
            (0..states as u32)
                .map(|state| (state, state))
                .collect::<Vec<_>>(),
        ];
        let (mut last, mut work, mut kept) = (&[][..], 0, 0);
        let large = || {
            let tokens = vocabulary.sorted().len();
            format!(
                "is too large: {states} states for {tokens} tokens; make it simpler, or its counts smaller"
            )
        };
        for &id in vocabulary.sorted() {
            let bytes = vocabulary.bytes(id, true).unwrap_or_default();
            let same = last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            ways.truncate(same + 1);
            while ways.len() <= bytes.len() && !ways[ways.len() - 1].is_empty() {
                let (before, byte) = (&ways[ways.len() - 1], bytes[ways.len() - 1]);
                work += before.len();
                let step = |&(from, at): &(u32, u32)| Some((from, self.automaton.step(at, byte)?));
                let next = before.iter().filter_map(step).collect();
                ways.push(next);
            }
            last = bytes;
            if work > MAX_WORK {
                return Err(large());
            }
            if barred.contains(&id) || self.ends.contains(&id) {
                continue;
            }
            let whole = ways.len() > bytes.len();
            let mut steps = if whole {
                ways[bytes.len()].clone()
            } else {
                Vec::new()
            };
            let first = vocabulary.bytes(id, false).unwrap_or_default();
            if let Some(to) = self.automaton.walk(Automaton::START, first) {
                steps.push((self.begin(), to));
            }
            if steps.is_empty() {
                continue;
            }
            match known.get(&steps) {
                Some(&class) => self.classes[class].push(id),
                None => {
                    kept += steps.len();
                    if kept > MAX_STEPS {
                        return Err(large());
                    }
                    let class = self.classes.len();
                    for &(from, to) in &steps {
                        self.steps[from as usize].push((class as u32, to));
                    }
                    self.classes.push(vec![id]);
                    known.insert(steps, class);
                }
            }
        }
        Ok(())
    }

    /// Adds the steps of the tokens that end a text.
    fn end(&mut self, barred: &[u32]) {
        let mut tokens: Vec<u32> = self.ends.iter().copied().collect();
        tokens.retain(|id| !barred.contains(id));
        if tokens.is_empty() {
            return;
        }
        let (class, end) = (self.classes.len() as u32, self.after_end());
        self.classes.push(tokens);
        for state in 0..=end {
            if self.is_final(state) {
                self.steps[state as usize].push((class, end));
            }
        }
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.steps.len()
    }

    /// How many classes of tokens there are.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Puts the tokens of a class into a set.
    pub fn insert(&self, class: usize, set: &mut [u32]) {
        match self.large.get(&class) {
            Some(all) => set.iter_mut().zip(all).for_each(|(word, all)| *word |= all),
            None => insert(set, self.classes[class].iter().copied()),
        }
    }

    /// The state before a text.
    pub fn begin(&self) -> u32 {
        self.automaton.states() as u32
    }

    /// The state behind a text's end.
    pub fn after_end(&self) -> u32 {
        self.automaton.states() as u32 + 1
    }

    /// Whether a token ends a text.
    pub fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Whether a text may end in a state.
    pub fn is_final(&self, state: u32) -> bool {
        match state {
            _ if state == self.after_end() => true,
            _ if state == self.begin() => self.automaton.is_final(Automaton::START),
            _ => self.automaton.is_final(state),
        }
    }

    /// The state behind a token that stands there, drawn or not.
    pub fn step(&self, state: u32, token: u32) -> Option<u32> {
        if self.ends(token) {
            return self.is_final(state).then(|| self.after_end());
        }
        let behind = state != self.begin();
        let from = if behind { state } else { Automaton::START };
        let bytes = self.vocabulary.bytes(token, behind)?;
        (state != self.after_end()).then(|| self.automaton.walk(from, bytes))?
    }

    /// From a state, class by class, to which one.
    pub fn steps(&self, state: u32) -> &[(u32, u32)] {
        &self.steps[state as usize]
    }

    /// The states that a token leads to from a state.
    pub fn after(&self, state: u32) -> &[u32] {
        &self.after[state as usize]
    }

    /// The states from which a token leads to a state.
    pub fn before(&self, state: u32) -> &[u32] {
        &self.before[state as usize]
    }
}
