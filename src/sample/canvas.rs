//! A sequence under construction.

use std::ops::Range;

use crate::data::Tokenizer;
use crate::error::{Error, Result};

/// Longest canvas that is made of a prompt.
const LONGEST: usize = 1 << 24;
/// Most open positions of a template.
const MOST: usize = 1 << 16;

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    token: Option<u32>,
    frozen: bool,
}

/// Tokens and masks. A *frozen* position keeps its token; an *open* one is filled by a sampler.
///
/// ```
/// use mdlm::{Canvas, Tokenizer};
///
/// let tokenizer = Tokenizer::byte();
/// let canvas = Canvas::parse("a [MASK:3] cat", &tokenizer)?;
/// assert_eq!(canvas.masked().len(), 3);
/// assert_eq!(canvas.text(&tokenizer), "a ___ cat");
/// # Ok::<(), mdlm::Error>(())
/// ```
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
    /// [`Error::Argument`] if the tokens do not fit.
    pub fn prompt(tokens: &[u32], length: usize) -> Result<Self> {
        check_length(tokens.len(), length)?;
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

    /// The same between frozen tokens, such as those that texts began and ended with in training
    /// ([`Model::frame`](crate::model::Model::frame)).
    pub fn framed(self, [begin, end]: [Option<u32>; 2]) -> Self {
        let [mut canvas, end] =
            [begin, end].map(|token| Self::of(token.map(|id| (Some(id), true))));
        canvas.append(self);
        canvas.append(end);
        canvas
    }

    /// Adds the positions of another canvas at the end.
    pub fn append(&mut self, other: Self) {
        self.positions.extend(other.positions);
    }

    /// Reads a template: text is frozen, `[MASK]` is one open position and `[MASK:n]` are n; `\[MASK]` is the
    /// text `[MASK]`.
    ///
    /// Text is split into tokens as if its gaps were words: the space before a gap is that of the gap's first
    /// token, and text behind a gap does not begin anew.
    ///
    /// # Errors
    /// [`Error::Argument`] for a malformed mask or too many of them, or what the tokenizer refuses.
    pub fn parse(template: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::read(template, tokenizer, false)
    }

    /// As [`Canvas::parse`], followed by open positions up to `length`, so that the template's end is the
    /// beginning of a gap.
    ///
    /// # Errors
    /// As [`Canvas::parse`]; [`Error::Argument`] if the template does not fit.
    pub fn begin(template: &str, tokenizer: &Tokenizer, length: usize) -> Result<Self> {
        let mut canvas = Self::read(template, tokenizer, true)?;
        check_length(canvas.len(), length)?;
        canvas.append(Self::open(length - canvas.len()));
        Ok(canvas)
    }

    fn read(template: &str, tokenizer: &Tokenizer, goes_on: bool) -> Result<Self> {
        let parts = parts(template)?;
        let mut canvas = Self::open(0);
        for (i, part) in parts.iter().enumerate() {
            let more = match part {
                Part::Gap(count) => Self::open(*count),
                Part::Text(text) => {
                    let before = i + 1 < parts.len() || goes_on;
                    let ids = tokenizer.encode_part(text, i > 0, before)?;
                    Self::of(ids.into_iter().map(|id| (Some(id), true)))
                }
            };
            canvas.append(more);
        }
        Ok(canvas)
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
            Error::argument(
                "range",
                format!("{range:?}"),
                format!("outside a canvas of {length}"),
            )
        })
    }

    /// Freezes positions that hold a token.
    ///
    /// # Errors
    /// [`Error::Argument`] if the range leaves the canvas or holds a mask.
    pub fn freeze(&mut self, range: Range<usize>) -> Result<()> {
        let text = format!("{range:?}");
        let positions = self.range(range)?;
        if positions.iter().any(|p| p.token.is_none()) {
            return Err(Error::argument(
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
    /// [`Error::Argument`] if the range leaves the canvas.
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

    pub(super) fn truncate(&mut self, length: usize) {
        self.positions.truncate(length);
    }

    pub(super) fn mask(&mut self, position: usize) {
        self.positions[position].token = None;
    }

    /// The text; masked positions show as `_`.
    pub fn text(&self, tokenizer: &Tokenizer) -> String {
        tokenizer.decode_with(&self.tokens(tokenizer.mask_index()), "_")
    }
}

/// Errors of a canvas that is too short for its tokens, or too long for any text.
fn check_length(tokens: usize, length: usize) -> Result<()> {
    if length > LONGEST {
        let problem = format!("must be at most {LONGEST}");
        return Err(Error::argument("canvas length", length, problem));
    }
    if tokens > length {
        let problem = format!("{tokens} tokens do not fit a canvas of {length}");
        return Err(Error::argument("prompt", tokens, problem));
    }
    Ok(())
}

/// A part of a template; between two texts lies a gap.
enum Part {
    Text(String),
    Gap(usize),
}

/// Splits a template, without empty parts.
fn parts(template: &str) -> Result<Vec<Part>> {
    const OPEN: &str = "[MASK";
    let (mut parts, mut text) = (Vec::new(), String::new());
    let (mut rest, mut masks) = (template, 0);
    while let Some(at) = rest.find(OPEN) {
        let (before, gap) = rest.split_at(at);
        let inner = &gap[OPEN.len()..];
        if let Some(before) = before.strip_suffix('\\') {
            text += before;
            text += OPEN;
            rest = inner;
            continue;
        }
        let bad = |problem: &str| {
            let shown: String = gap.chars().take(40).collect();
            let problem = format!("{problem}; \\[MASK is the text itself");
            Error::argument("template", shown, problem)
        };
        let (number, behind) = inner
            .split_once(']')
            .ok_or_else(|| bad("a [MASK without ]"))?;
        let count = match number.strip_prefix(':') {
            Some(n) => n.parse().map_err(|_| bad("[MASK:n] wants a number"))?,
            None if number.is_empty() => 1,
            None => return Err(bad("want [MASK] or [MASK:n]")),
        };
        masks = usize::saturating_add(masks, count);
        if masks > MOST {
            return Err(bad(&format!("more than {MOST} masks")));
        }
        text += before;
        rest = behind;
        if count == 0 {
            continue;
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        match parts.last_mut() {
            Some(Part::Gap(before)) => *before += count,
            _ => parts.push(Part::Gap(count)),
        }
    }
    text += rest;
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}
