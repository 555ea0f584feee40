//! A regular expression as an automaton over bytes, without states from which no text can be finished.

use std::collections::HashMap;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ParserBuilder;

/// Most bytes of an expression's automata while it is built.
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
        let large = || format!("its automaton takes more than {} MiB", MAX_BYTES >> 20);
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(MAX_BYTES)),
            )
            .build_from_hir(&hir)
            .map_err(|_| large())?;
        let looks = nfa.look_set_any();
        if looks.contains_word_unicode() {
            return Err("\\b is read for ASCII only: write (?-u:\\b)".into());
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_BYTES))
            .determinize_size_limit(Some(MAX_BYTES));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa);
        Self::of(&dfa.map_err(|_| large())?)
    }

    fn of(dfa: &dense::DFA<Vec<u32>>) -> Result<Self, String> {
        let classes = dfa.byte_classes();
        let columns = std::array::from_fn(|byte| classes.get(byte as u8));
        let width = 1 + columns.iter().copied().max().map_or(0, usize::from);
        let sample: Vec<u8> = (0..width)
            .filter_map(|column| columns.iter().position(|&c| usize::from(c) == column))
            .map(|byte| byte as u8)
            .collect();
        let start = dfa
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|error| error.to_string())?;
        let (mut states, mut numbers) = (vec![start], HashMap::from([(start, 0)]));
        let (mut next, mut finals) = (Vec::new(), Vec::new());
        while let Some(&state) = states.get(finals.len()) {
            finals.push(dfa.is_match_state(dfa.next_eoi_state(state)));
            for &byte in &sample {
                let to = dfa.next_state(state, byte);
                next.push(if dfa.is_dead_state(to) {
                    DEAD
                } else {
                    *numbers.entry(to).or_insert_with(|| {
                        states.push(to);
                        states.len() as u32 - 1
                    })
                });
            }
            if states.len() > MAX_STATES {
                return Err(format!("its automaton has more than {MAX_STATES} states"));
            }
        }
        Self {
            columns,
            width,
            next,
            finals,
        }
        .trimmed()
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
            ("(?i)a(?-u:\\b) b", &["A b"], &["Ab"]),
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
            ("\\bhello", "ASCII"),
            ("(?s-u:.)", "UTF-8"),
            ("(?:[a-z]{500}){500}", "MiB"),
            ("(?:(?:a|b)*a(?:a|b){19})", ""),
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
