//! A sequence under construction.

use std::ops::Range;

use crate::data::Tokenizer;
use crate::error::{Error, Result};

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    token: Option<u32>,
    frozen: bool,
}

/// Tokens and masks. A *frozen* position keeps its token; an *open* one is filled by a sampler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    positions: Vec<Position>,
}

impl Canvas {
    /// `length` open, masked positions.
    pub fn open(length: usize) -> Self {
        Self {
            positions: vec![
                Position {
                    token: None,
                    frozen: false
                };
                length
            ],
        }
    }

    /// Frozen tokens followed by open positions up to `length`.
    ///
    /// # Errors
    /// [`Error::Config`] if the tokens do not fit.
    pub fn prompt(tokens: &[u32], length: usize) -> Result<Self> {
        if tokens.len() > length {
            let problem = format!("{} tokens do not fit a canvas of {length}", tokens.len());
            return Err(Error::config("prompt", tokens.len(), problem));
        }
        let mut canvas = Self::open(length);
        for (position, &token) in canvas.positions.iter_mut().zip(tokens) {
            *position = Position {
                token: Some(token),
                frozen: true,
            };
        }
        Ok(canvas)
    }

    /// Tokens, `None` where masked, each frozen or open. A mask is always open.
    pub fn of(positions: impl IntoIterator<Item = (Option<u32>, bool)>) -> Self {
        let position = |(token, frozen): (Option<u32>, bool)| Position {
            token,
            frozen: frozen && token.is_some(),
        };
        Self {
            positions: positions.into_iter().map(position).collect(),
        }
    }

    /// Adds the positions of another canvas at the end.
    pub fn append(&mut self, other: Self) {
        self.positions.extend(other.positions);
    }

    /// Reads a template: text is frozen, `[MASK]` is one open position and `[MASK:n]` are n.
    ///
    /// # Errors
    /// [`Error::Config`] for a malformed mask, or what the tokenizer refuses.
    pub fn parse(template: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let mut canvas = Self::open(0);
        let mut rest = template;
        while let Some(at) = rest.find("[MASK") {
            canvas.push_text(&rest[..at], tokenizer)?;
            let inner = &rest[at + 5..];
            let bad = |problem: &str| Error::config("template", &rest[at..], problem.to_owned());
            let end = inner.find(']').ok_or_else(|| bad("a [MASK without ]"))?;
            let count = match inner[..end].strip_prefix(':') {
                Some(n) => n.parse().map_err(|_| bad("[MASK:n] wants a number"))?,
                None if end == 0 => 1,
                None => return Err(bad("want [MASK] or [MASK:n]")),
            };
            if count > 1 << 16 {
                return Err(bad("more than 65536 masks"));
            }
            canvas.positions.extend(Self::open(count).positions);
            rest = &inner[end + 1..];
        }
        canvas.push_text(rest, tokenizer)?;
        Ok(canvas)
    }

    fn push_text(&mut self, text: &str, tokenizer: &Tokenizer) -> Result<()> {
        let ids = if text.is_empty() {
            Vec::new()
        } else {
            tokenizer.encode(text)?
        };
        self.positions.extend(ids.into_iter().map(|id| Position {
            token: Some(id),
            frozen: true,
        }));
        Ok(())
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    fn range(&mut self, range: Range<usize>) -> Result<&mut [Position]> {
        let length = self.len();
        self.positions.get_mut(range.clone()).ok_or_else(|| {
            Error::config(
                "range",
                format!("{range:?}"),
                format!("outside a canvas of {length}"),
            )
        })
    }

    /// Freezes positions that hold a token.
    ///
    /// # Errors
    /// [`Error::Config`] if the range leaves the canvas or holds a mask.
    pub fn freeze(&mut self, range: Range<usize>) -> Result<()> {
        let text = format!("{range:?}");
        let positions = self.range(range)?;
        if positions.iter().any(|p| p.token.is_none()) {
            return Err(Error::config(
                "range",
                text,
                "a masked position cannot be frozen",
            ));
        }
        positions.iter_mut().for_each(|p| p.frozen = true);
        Ok(())
    }

    /// Masks positions again and opens them.
    ///
    /// # Errors
    /// [`Error::Config`] if the range leaves the canvas.
    pub fn reopen(&mut self, range: Range<usize>) -> Result<()> {
        self.range(range)?.fill(Position {
            token: None,
            frozen: false,
        });
        Ok(())
    }

    /// Token at a position; `None` where it is masked.
    pub fn token(&self, position: usize) -> Option<u32> {
        self.positions.get(position)?.token
    }

    /// Whether a position is frozen.
    pub fn is_frozen(&self, position: usize) -> bool {
        self.positions.get(position).is_some_and(|p| p.frozen)
    }

    /// Tokens, with `mask_index` at masked positions.
    pub fn tokens(&self, mask_index: u32) -> Vec<u32> {
        self.positions
            .iter()
            .map(|p| p.token.unwrap_or(mask_index))
            .collect()
    }

    /// Masked positions, in order.
    pub fn masked(&self) -> Vec<usize> {
        (0..self.len())
            .filter(|&i| self.positions[i].token.is_none())
            .collect()
    }

    pub(super) fn reveal(&mut self, position: usize, token: u32) {
        self.positions[position].token = Some(token);
    }

    pub(super) fn mask(&mut self, position: usize) {
        self.positions[position].token = None;
    }

    /// The text; masked positions show as `_`.
    pub fn text(&self, tokenizer: &Tokenizer) -> String {
        tokenizer.decode_with(&self.tokens(tokenizer.mask_index()), "_")
    }
}
