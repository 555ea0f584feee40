//! Windows over a canvas that is longer than the model: it is filled window after window, each
//! with the tokens before it as context (the reference's semi-autoregressive strides).

use std::ops::Range;

use crate::error::{Error, Result};

/// Windows of one size, `stride` apart. The last one ends with the canvas, so it may overlap the
/// one before it by more, and every window is as long as the model. Or blocks of a canvas that the model takes whole:
/// the window is all of it, and what is filled in it goes from block to block.
#[derive(Clone, Debug)]
pub struct Windows {
    length: usize,
    size: usize,
    stride: usize,
    block: usize,
    /// Where the blocks of each canvas begin.
    first: Vec<usize>,
}

impl Windows {
    /// Of canvases of `length` positions for a model that takes `most`; stride 0: half of that. In blocks of `block`
    /// positions, if that is not 0, from the `first` open one of each canvas.
    pub fn new(
        length: usize,
        most: usize,
        stride: usize,
        block: usize,
        first: Vec<usize>,
    ) -> Result<Self> {
        let size = length.min(most);
        let stride = if stride == 0 { most / 2 } else { stride };
        if length > most && block > 0 {
            let problem =
                format!("a canvas of {length} is longer than the model, which takes {most}");
            return Err(Error::config("sampling.block", block, problem));
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
            first,
        })
    }

    /// How many windows or blocks there are.
    pub fn count(&self) -> usize {
        match self.block {
            0 => 1 + (self.length - self.size).div_ceil(self.stride.max(1)),
            block => {
                let first = self.first.iter().min().copied().unwrap_or(0);
                (self.length - first).div_ceil(block).max(1)
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
        match (self.block, index) {
            (0, 0) => self.range(0),
            (0, _) => self.range(index - 1).end..self.range(index).end,
            (block, _) => {
                let at = |i: usize| (self.first[canvas] + i * block).min(self.length);
                at(index)..at(index + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_canvas() {
        for (length, most, stride) in [(5, 8, 0), (8, 8, 0), (9, 8, 0), (50, 8, 3), (51, 8, 7)] {
            let windows = Windows::new(length, most, stride, 0, vec![0]).unwrap();
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
            assert!(Windows::new(9, 8, stride, 0, vec![0]).is_err());
        }
        assert!(Windows::new(2, 1, 0, 0, vec![0]).is_err());
    }

    #[test]
    fn blocks_begin_where_a_canvas_is_open() {
        let windows = Windows::new(11, 16, 0, 4, vec![2, 6]).unwrap();
        let reach = |canvas| [0, 1, 2].map(|i| windows.reach(i, canvas));
        assert_eq!((windows.count(), windows.range(2)), (3, 0..11));
        assert_eq!(reach(0), [2..6, 6..10, 10..11]);
        assert_eq!(reach(1), [6..10, 10..11, 11..11]);
        assert!(Windows::new(17, 16, 0, 4, vec![0]).is_err());
    }
}
