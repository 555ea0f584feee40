//! What a sampler may write: constraints and tokens that are left out, as sets of tokens for its draws.

use crate::config::SampleConfig;
use crate::constraint::Automaton;
use crate::error::{Error, Result};
use crate::model::TokenSets;
use crate::sample::fit::Fit;
use crate::sample::grammar::Grammar;
use crate::sample::{Canvas, Facts};

/// What a sampler's settings allow.
pub struct Limits {
    grammar: Option<Grammar>,
    suppress: Vec<u32>,
    vocab_size: usize,
}

impl Limits {
    /// What settings, and the automaton of their constraint, allow a model to write on some canvases.
    ///
    /// # Errors
    /// [`Error::Config`] for a constraint that is too large for the vocabulary, or that no filling of a canvas meets;
    /// [`Error::Argument`] for a model without a tokenizer, and [`Error::Corpus`] for a tokenizer whose tokens have no
    /// bytes of their own.
    pub fn new(
        config: &SampleConfig,
        automaton: Option<Automaton>,
        facts: &Facts,
        canvases: &[Canvas],
    ) -> Result<Self> {
        let mut made = Self {
            grammar: None,
            suppress: config.suppress.clone(),
            vocab_size: facts.vocab_size,
        };
        let Some(automaton) = automaton else {
            return Ok(made);
        };
        let Some(tokenizer) = &facts.tokenizer else {
            let problem = "a constraint is about text, and the model came without one";
            return Err(Error::argument("tokenizer", "none", problem));
        };
        let ends = match &config.ends[..] {
            [] => tokenizer
                .ends()
                .into_iter()
                .chain(tokenizer.pad())
                .collect(),
            ends => ends.to_vec(),
        };
        let barred = [&config.suppress[..], &[facts.mask_index]].concat();
        let grammar = Grammar::new(automaton, tokenizer.vocabulary()?, &ends, &barred);
        let grammar = grammar.map_err(|problem| config.unfit(problem))?;
        for (index, canvas) in canvases.iter().enumerate() {
            let fit = Fit::new(&grammar, canvas).filter(|fit| !fit.possible());
            if let Some(fit) = fit {
                let problem = format!(
                    "no such text has the {} tokens that are open in canvas {index}, with what stands between them: \
                     leave more room for it, or less",
                    fit.len()
                );
                return Err(config.unfit(problem));
            }
        }
        made.grammar = Some(grammar);
        Ok(made)
    }

    /// Whether what is drawn in one call may not go together.
    pub fn binds(&self) -> bool {
        self.grammar.is_some()
    }

    /// What a canvas may still become; `None` if anything.
    pub fn fit(&self, canvas: &Canvas) -> Option<Fit<'_>> {
        Fit::new(self.grammar.as_ref()?, canvas)
    }

    /// The tokens that each row may become: canvas after canvas what it may still become, and the positions at which is
    /// drawn.
    pub fn sets<'a>(
        &self,
        rows: impl IntoIterator<Item = (&'a Option<Fit<'a>>, Vec<usize>)>,
    ) -> TokenSets {
        if self.grammar.is_none() && self.suppress.is_empty() {
            return TokenSets::default();
        }
        let mut sets = TokenSets::new(self.vocab_size);
        for (fit, positions) in rows {
            let mut last = None;
            for position in positions {
                match (fit, last) {
                    (Some(fit), Some(last)) if fit.alike(position, last) => {}
                    (Some(fit), _) => fit.insert(position, sets.add_empty()),
                    (None, None) if sets.rows() == 0 => sets.add_without(&self.suppress),
                    (None, _) => {}
                }
                last = Some(position);
                sets.push_row();
            }
        }
        sets
    }
}
