//! Windows over a canvas that is longer than the model: it is filled window after window, each
//! with the tokens before it as context (the reference's semi-autoregressive strides).

use std::ops::Range;

use crate::error::{Error, Result};

/// Windows of one size, `stride` apart. The last one ends with the canvas, so it may overlap the
/// one before it by more, and every window is as long as the model. Or blocks of a canvas that the model takes whole:
/// the window is all of it, and what is filled in it goes from block to block.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Positions of the longest canvas.
    length: usize,
    size: usize,
    stride: usize,
    block: usize,
    /// What is filled in each canvas: from where its first block begins to its end.
    open: Vec<Range<usize>>,
}

impl Windows {
    /// Of canvases for a model that takes `most` positions; stride 0: half of that. In blocks of `block` positions, if
    /// that is not 0. `open`: from the beginning of each canvas's first block to its end.
    pub fn new(most: usize, stride: usize, block: usize, open: Vec<Range<usize>>) -> Result<Self> {
        let length = open.iter().map(|open| open.end).max().unwrap_or(0);
        let size = length.min(most);
        let stride = if stride == 0 { most / 2 } else { stride };
        let long = format!("a canvas of {length} is longer than the model, which takes {most}");
        if length > most && block > 0 {
            return Err(Error::config("sampling.block", block, long));
        }
        if length > most && open.iter().any(|open| open.end != length) {
            let problem = format!("{long}: make all canvases as long");
            return Err(Error::argument("canvas length", length, problem));
        }
        if length > most && !(1..most).contains(&stride) {
            let problem = format!(
                "must be in 1..{most}: a canvas of {length} is longer than the model, and a \
                 window needs context"
            );
            return Err(Error::config("sampling.stride", stride, problem));
        }
        Ok(Self {
            length,
            size,
            stride,
            block,
            open,
        })
    }

    /// How many windows or blocks there are.
    pub fn count(&self) -> usize {
        match self.block {
            0 => 1 + (self.length - self.size).div_ceil(self.stride.max(1)),
            block => {
                let blocks = self.open.iter().map(|open| open.len().div_ceil(block));
                blocks.max().unwrap_or(1).max(1)
            }
        }
    }

    /// Positions that the network sees in window `index`.
    pub fn range(&self, index: usize) -> Range<usize> {
        let moved = if self.block == 0 {
            index * self.stride
        } else {
            0
        };
        let start = moved.min(self.length - self.size);
        start..start + self.size
    }

    /// Positions of a canvas that are window `index`'s to fill, beside those that were left open before it.
    pub fn reach(&self, index: usize, canvas: usize) -> Range<usize> {
        let open = &self.open[canvas];
        match (self.block, index) {
            (0, 0) => self.range(0).start..self.range(0).end.min(open.end),
            (0, _) => self.range(index - 1).end..self.range(index).end,
            (block, _) => {
                let at = |i: usize| (open.start + i * block).min(open.end);
                at(index)..at(index + 1)
            }
        }
    }

    /// How many positions of window `index` each canvas has, and where in the window its first block begins.
    pub fn places(&self, index: usize) -> [Vec<usize>; 2] {
        let range = self.range(index);
        let within = |at: usize| at.clamp(range.start, range.end) - range.start;
        let lengths = self.open.iter().map(|open| within(open.end));
        let first = self.open.iter().map(|open| within(open.start));
        [lengths.collect(), first.collect()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(most: usize, stride: usize, block: usize, length: usize) -> Result<Windows> {
        Windows::new(most, stride, block, std::iter::once(0..length).collect())
    }

    #[test]
    fn windows_cover_the_canvas() {
        for (length, most, stride) in [(5, 8, 0), (8, 8, 0), (9, 8, 0), (50, 8, 3), (51, 8, 7)] {
            let windows = windows(most, stride, 0, length).unwrap();
            let mut end = 0;
            for i in 0..windows.count() {
                let range = windows.range(i);
                assert_eq!(windows.reach(i, 0), end..range.end);
                assert!(range.start <= end && range.end > end);
                assert_eq!(range.len(), length.min(most));
                end = range.end;
            }
            assert_eq!(end, length);
        }
        for stride in [8, 9] {
            assert!(windows(8, stride, 0, 9).is_err());
        }
        assert!(windows(1, 0, 0, 2).is_err());
    }

    #[test]
    fn blocks_begin_where_a_canvas_is_open() {
        let made = Windows::new(16, 0, 4, vec![2..11, 6..11, 3..5]).unwrap();
        let reach = |canvas| [0, 1, 2].map(|i| made.reach(i, canvas));
        assert_eq!((made.count(), made.range(2)), (3, 0..11));
        assert_eq!(reach(0), [2..6, 6..10, 10..11]);
        assert_eq!(reach(1), [6..10, 10..11, 11..11]);
        assert_eq!(reach(2), [3..5, 5..5, 5..5]);
        assert_eq!(made.places(1), [[11, 11, 5], [2, 6, 3]]);
        assert!(windows(16, 0, 4, 17).is_err());
        assert!(Windows::new(16, 0, 0, vec![0..17, 0..16]).is_err());
    }
}
