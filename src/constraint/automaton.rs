//! A regular expression as an automaton over bytes, without states from which no text can be finished.

use std::collections::HashMap;

use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;
use regex_syntax::ParserBuilder;

/// Most bytes of an expression's states, and of the sets of them, while its automaton is made.
const MAX_BYTES: usize = 1 << 26;
/// Most states.
const MAX_STATES: usize = 1 << 16;
/// No text goes on this way.
const DEAD: u32 = u32::MAX;

/// The texts that match an expression as a whole. States are numbers from [`Automaton::START`] up.
///
/// ```
/// use mdlm::constraint::Automaton;
///
/// let year = Automaton::new("(19|20)[0-9]{2}").unwrap();
/// assert!(year.accepts("1984") && !year.accepts("1984!") && !year.accepts("1776"));
/// ```
#[derive(Clone, Debug)]
pub struct Automaton {
    /// The column of each byte.
    columns: [u8; 256],
    /// How many columns there are.
    width: usize,
    /// The next state by state and column, or [`DEAD`].
    next: Vec<u32>,
    /// Whether a text may end in a state.
    finals: Vec<bool>,
}

impl Automaton {
    /// The state before the first byte.
    pub const START: u32 = 0;

    /// The automaton of an expression, in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// A sentence about what is wrong: no expression, one that matches nothing, or one that is too large.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let parsed = ParserBuilder::new().build().parse(pattern);
        let hir = parsed.map_err(|error| told(&error))?;
        let config = thompson::Config::new()
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(MAX_BYTES));
        let nfa = thompson::Compiler::new()
            .configure(config)
            .build_from_hir(&hir);
        let nfa = nfa.map_err(|_| large())?;
        let mut looks = nfa.look_set_any().iter();
        if looks.any(|look| !matches!(look, Look::Start | Look::End)) {
            let problem =
                "has a word boundary or the beginning or end of a line, which are not read";
            return Err(problem.into());
        }
        Self::of(&nfa)?.trimmed()
    }

    /// Sets of the states of an automaton that may be in several at once, each a state of this one. The crate's own way
    /// from one to the other is not taken, since it takes the square of the number of states where texts may end.
    fn of(nfa: &NFA) -> Result<Self, String> {
        let classes = nfa.byte_classes();
        let columns: [u8; 256] = std::array::from_fn(|byte| classes.get(byte as u8));
        let width = 1 + columns.iter().copied().max().map_or(0, usize::from);
        let first = |column: usize| columns.iter().position(|&c| usize::from(c) == column);
        let sample: Vec<u8> = (0..width)
            .filter_map(first)
            .map(|byte| byte as u8)
            .collect();
        let mut seen = vec![false; nfa.states().len()];
        let start = closure(nfa, vec![nfa.start_anchored()], &[Look::Start], &mut seen);
        let (mut kept, mut numbers) = (start.len(), HashMap::new());
        let (mut sets, mut next, mut finals) = (vec![start], Vec::new(), Vec::new());
        while finals.len() < sets.len() {
            let set = std::mem::take(&mut sets[finals.len()]);
            // the first set alone lies at the beginning, so that no later one is the same state
            let looks = &[Look::End, Look::Start][..if finals.is_empty() { 2 } else { 1 }];
            let mut ends = closure(nfa, set.clone(), looks, &mut seen).into_iter();
            finals.push(ends.any(|state| matches!(nfa.state(state), State::Match { .. })));
            for &byte in &sample {
                let behind = set.iter().filter_map(|&state| step(nfa.state(state), byte));
                let behind = closure(nfa, behind.collect(), &[], &mut seen);
                next.push(match numbers.get(&behind) {
                    _ if behind.is_empty() => DEAD,
                    Some(&number) => number,
                    None => {
                        kept += behind.len();
                        numbers.insert(behind.clone(), sets.len() as u32);
                        sets.push(behind);
                        sets.len() as u32 - 1
                    }
                });
            }
            if sets.len() > MAX_STATES {
                return Err(format!("its automaton has more than {MAX_STATES} states"));
            }
            if kept > MAX_BYTES / 8 {
                return Err(large());
            }
        }
        Ok(Self {
            columns,
            width,
            next,
            finals,
        })
    }

    /// The same without states that lead nowhere.
    fn trimmed(mut self) -> Result<Self, String> {
        let mut before = vec![Vec::new(); self.states()];
        for (at, &to) in self.next.iter().enumerate() {
            if let Some(before) = before.get_mut(to as usize) {
                before.push(at / self.width);
            }
        }
        let mut alive = self.finals.clone();
        let mut open: Vec<usize> = (0..self.states()).filter(|&s| alive[s]).collect();
        while let Some(state) = open.pop() {
            for &from in &before[state] {
                if !std::mem::replace(&mut alive[from], true) {
                    open.push(from);
                }
            }
        }
        if !alive[Self::START as usize] {
            return Err("it matches no text at all".into());
        }
        let mut count = 0;
        let number = |&alive: &bool| {
            count += u32::from(alive);
            if alive { count - 1 } else { DEAD }
        };
        let numbers: Vec<u32> = alive.iter().map(number).collect();
        let renumbered = |to: &u32| numbers.get(*to as usize).copied().unwrap_or(DEAD);
        let rows = self.next.chunks_exact(self.width).zip(&alive);
        let rows = rows.filter(|(_, alive)| **alive);
        self.next = rows
            .flat_map(|(row, _)| row.iter().map(renumbered))
            .collect();
        let mut kept = alive.iter();
        self.finals.retain(|_| kept.next() == Some(&true));
        Ok(self)
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.finals.len()
    }

    /// The state behind a byte; `None` where no text goes on so.
    pub fn step(&self, state: u32, byte: u8) -> Option<u32> {
        let column = usize::from(self.columns[usize::from(byte)]);
        let next = self.next[state as usize * self.width + column];
        (next != DEAD).then_some(next)
    }

    /// The state behind several bytes.
    pub fn walk(&self, state: u32, bytes: &[u8]) -> Option<u32> {
        let mut bytes = bytes.iter();
        bytes.try_fold(state, |state, &byte| self.step(state, byte))
    }

    /// Whether a text may end in a state.
    pub fn is_final(&self, state: u32) -> bool {
        self.finals[state as usize]
    }

    /// Whether a text matches.
    pub fn accepts(&self, text: &str) -> bool {
        let state = self.walk(Self::START, text.as_bytes());
        state.is_some_and(|state| self.is_final(state))
    }

    /// Whether a text matches both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let mut open = vec![(Self::START, Self::START)];
        let mut seen: std::collections::HashSet<_> = open.iter().copied().collect();
        while let Some((a, b)) = open.pop() {
            if self.is_final(a) && other.is_final(b) {
                return true;
            }
            let pairs =
                (0..=u8::MAX).filter_map(|byte| self.step(a, byte).zip(other.step(b, byte)));
            open.extend(pairs.filter(|&pair| seen.insert(pair)).collect::<Vec<_>>());
        }
        false
    }
}

fn large() -> String {
    format!("its automaton takes more than {} MiB", MAX_BYTES >> 20)
}

/// The state behind a byte.
fn step(state: &State, byte: u8) -> Option<StateID> {
    match state {
        State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
        State::Sparse(sparse) => sparse.matches_byte(byte),
        State::Dense(dense) => dense.matches_byte(byte),
        _ => None,
    }
}

/// Those of the states that are reached without a byte, sorted, at which something is read or ends. `looks`: what is
/// true there, the beginning or the end of the text. `seen`: false for every state, and so again afterwards.
fn closure(nfa: &NFA, mut open: Vec<StateID>, looks: &[Look], seen: &mut [bool]) -> Vec<StateID> {
    let (mut touched, mut reached) = (Vec::new(), Vec::new());
    while let Some(state) = open.pop() {
        if std::mem::replace(&mut seen[state.as_usize()], true) {
            continue;
        }
        touched.push(state);
        match nfa.state(state) {
            State::Union { alternates } => open.extend(alternates.iter()),
            State::BinaryUnion { alt1, alt2 } => open.extend([alt1, alt2]),
            State::Capture { next, .. } => open.push(*next),
            State::Look { look, next } if looks.contains(look) => open.push(*next),
            State::Look {
                look: Look::End, ..
            } => reached.push(state),
            State::Look { .. } | State::Fail => {}
            _ => reached.push(state),
        }
    }
    touched
        .iter()
        .for_each(|state| seen[state.as_usize()] = false);
    reached.sort_unstable();
    reached
}

/// What a parser's error says, in a line.
pub(super) fn told(error: &regex_syntax::Error) -> String {
    let (what, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
        other => return other.to_string(),
    };
    format!(
        "is no regular expression: {what}, at byte {}",
        span.start.offset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_match() {
        for (pattern, accepted, refused) in [
            ("a|ab", &["a", "ab"][..], &["", "abb", "b"][..]),
            ("a*?", &["", "a", "aa"], &["b"]),
            ("^x$", &["x"], &["xx", ""]),
            ("a)(b", &[], &[]),
            ("(?x) a b # c", &["ab"], &["a b"]),
            ("é.", &["éa", "é\u{1F600}"], &["é", "éab"]),
            ("(?i)ab", &["aB"], &["a"]),
            ("a*^b|^$|c$|d$e", &["b", "", "c"], &["ab", "d", "de"]),
            ("a*$^|b", &["", "b"], &["a"]),
            ("", &[""], &["a"]),
        ] {
            let Ok(made) = Automaton::new(pattern) else {
                assert!(accepted.is_empty(), "{pattern}");
                continue;
            };
            assert!(accepted.iter().all(|text| made.accepts(text)), "{pattern}");
            assert!(!refused.iter().any(|text| made.accepts(text)), "{pattern}");
        }
    }

    #[test]
    fn every_state_leads_to_an_end() {
        let made = Automaton::new("(a[^a]|b)c|d(?:e[^\\x00-\\x{10FFFF}])").unwrap();
        for state in 0..made.states() as u32 {
            let mut open = vec![state];
            let mut seen = vec![false; made.states()];
            let mut ends = false;
            while let Some(state) = open.pop() {
                ends |= made.is_final(state);
                for to in (0..=u8::MAX).filter_map(|byte| made.step(state, byte)) {
                    if !std::mem::replace(&mut seen[to as usize], true) {
                        open.push(to);
                    }
                }
            }
            assert!(ends, "{state}");
        }
        assert!(!made.accepts("de"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (pattern, part) in [
            ("a(b", "unclosed group, at byte 1"),
            ("a)b", "unopened group"),
            ("(?=a)", "look-around"),
            ("(a)\\1", "backreferences"),
            ("[a&&b]", "no text at all"),
            ("\\bhello", "word boundary"),
            ("(?m)^a", "line"),
            ("(?s-u:.)", "UTF-8"),
            ("(?:[a-z]{500}){500}", "states"),
            ("[a-z]{0,70000}", "states"),
            ("(?:[a-z]{9999}){9999}", "MiB"),
            ("[ab]*a[ab]{19}", "states"),
        ] {
            let problem = Automaton::new(pattern).expect_err(pattern);
            assert!(problem.contains(part), "{pattern}: {problem}");
        }
    }

    #[test]
    fn two_meet_where_a_text_matches_both() {
        let made = |pattern| Automaton::new(pattern).unwrap();
        assert!(made("a+b").meets(&made("[ab]{3}")));
        assert!(!made("a+b").meets(&made("(ab){2}")));
    }
}
