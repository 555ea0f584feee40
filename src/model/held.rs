//! How weight files hold a matrix that networks have otherwise.

/// How files hold a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// As it is.
    Plain,
    /// Rows as columns.
    Transposed,
    /// Without the last row, which is 0.
    Short,
    /// The rows of queries, keys and values one group of heads after the other, where the network has all queries first,
    /// then all keys, then all values.
    Grouped {
        /// Rows of a head.
        head_dim: usize,
        /// Heads of queries in a group; each has one head of keys and one of values.
        queries: usize,
    },
}

impl Held {
    /// The shape in files of a tensor of the network.
    pub(crate) fn shape(self, mut shape: Vec<usize>) -> Vec<usize> {
        match self {
            Self::Transposed => shape.reverse(),
            Self::Short => shape[0] -= 1,
            Self::Plain | Self::Grouped { .. } => {}
        }
        shape
    }

    /// Whether parts of the tensor of `count` elements in files are parts of the network's, in whole blocks of every
    /// element type.
    pub(crate) fn in_order(self, count: usize) -> bool {
        match self {
            Self::Plain => true,
            Self::Short => count.is_multiple_of(32),
            Self::Transposed | Self::Grouped { .. } => false,
        }
    }

    /// The network's `[rows, columns]` of what files hold.
    pub(crate) fn read(self, values: Vec<f32>, [rows, columns]: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Plain => values,
            Self::Transposed => turned(&values, columns, rows),
            Self::Short => [values, vec![0.0; columns]].concat(),
            Self::Grouped { .. } => self.sorted(&values, [rows, columns], |to, from| (to, from)),
        }
    }

    /// What files hold of the network's `[rows, columns]`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn written(self, mut values: Vec<f32>, [rows, columns]: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Plain => values,
            Self::Transposed => turned(&values, rows, columns),
            Self::Short => {
                values.truncate((rows - 1) * columns);
                values
            }
            Self::Grouped { .. } => self.sorted(&values, [rows, columns], |to, from| (from, to)),
        }
    }

    /// Rows in another order; `way` says which of a row's places, the network's and the file's, is which.
    fn sorted(
        self,
        values: &[f32],
        [rows, columns]: [usize; 2],
        way: fn(usize, usize) -> (usize, usize),
    ) -> Vec<f32> {
        let mut made = vec![0.0; values.len()];
        for row in 0..rows {
            let (to, from) = way(self.place(row, rows), row);
            made[to * columns..][..columns].copy_from_slice(&values[from * columns..][..columns]);
        }
        made
    }

    /// Where the network has a row of files.
    fn place(self, row: usize, rows: usize) -> usize {
        let Self::Grouped { head_dim, queries } = self else {
            return row;
        };
        let groups = rows / (head_dim * (queries + 2));
        let (head, within) = (row / head_dim, row % head_dim);
        let (group, part) = (head / (queries + 2), head % (queries + 2));
        let head = match part.checked_sub(queries) {
            None => group * queries + part,
            Some(part) => groups * (queries + part) + group,
        };
        head * head_dim + within
    }
}

/// A matrix `[rows, columns]` as `[columns, rows]`.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |i: usize| values[i % rows * columns + i / rows];
    (0..rows * columns).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let grouped = Held::Grouped {
            head_dim: 2,
            queries: 2,
        };
        for (held, rows) in [
            (Held::Plain, 5),
            (Held::Transposed, 5),
            (Held::Short, 5),
            (grouped, 16),
        ] {
            let shape = held.shape(vec![rows, 3]);
            let count: usize = shape.iter().product();
            let in_file: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let made = held.read(in_file.clone(), [rows, 3]);
            assert_eq!(made.len(), rows * 3);
            assert_eq!(held.written(made, [rows, 3]), in_file, "{held:?}");
        }
        // two groups: q q k v, q q k v
        let rows: Vec<f32> = (0..16).map(|row| row as f32).collect();
        let made = grouped.read(rows, [16, 1]);
        let heads: Vec<f32> = made.iter().step_by(2).map(|row| row / 2.0).collect();
        assert_eq!(heads, [0.0, 1.0, 4.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    }
}
