//! Windows over a canvas that is longer than the model: it is filled window after window, each
//! with the tokens before it as context (the reference's semi-autoregressive strides).

use std::ops::Range;

use crate::error::{Error, Result};

/// Windows of one size, `stride` apart. The last one ends with the canvas, so it may overlap the
/// one before it by more, and every window is as long as the model.
#[derive(Clone, Debug)]
pub struct Windows {
    length: usize,
    size: usize,
    stride: usize,
}

impl Windows {
    /// Of a canvas of `length` positions for a model that takes `most`; stride 0: half of that.
    pub fn new(length: usize, most: usize, stride: usize) -> Result<Self> {
        let size = length.min(most);
        let stride = if stride == 0 { most / 2 } else { stride };
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
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + (self.length - self.size).div_ceil(self.stride.max(1))
    }

    /// Positions of window `index`.
    pub fn range(&self, index: usize) -> Range<usize> {
        let start = (index * self.stride).min(self.length - self.size);
        start..start + self.size
    }

    /// The first position of window `index` that no window before it has.
    pub fn fresh(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.range(index - 1).end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_canvas() {
        for (length, most, stride) in [(5, 8, 0), (8, 8, 0), (9, 8, 0), (50, 8, 3), (51, 8, 7)] {
            let windows = Windows::new(length, most, stride).unwrap();
            let mut end = 0;
            for i in 0..windows.count() {
                let range = windows.range(i);
                assert!(windows.fresh(i) == end && range.start <= end && range.end > end);
                assert_eq!(range.len(), length.min(most));
                end = range.end;
            }
            assert_eq!(end, length);
        }
        for stride in [8, 9] {
            assert!(Windows::new(9, 8, stride).is_err());
        }
        assert!(Windows::new(2, 1, 0).is_err());
    }
}
