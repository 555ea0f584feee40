//! The optimiser's update of every parameter, each by a rule of its own.

use crate::error::Result;
use crate::graph::{GRADS, Graph, ParamId, Tensor};
use crate::ops::adamw::AdamwConfig;
use crate::ops::muon::{Matrix, MuonConfig, Place};

/// How a parameter is updated; `rate` multiplies the learning rate of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// AdamW.
    Adamw {
        /// Its constants.
        config: AdamwConfig,
        /// Share of the learning rate.
        rate: f64,
    },
    /// Muon, for a matrix `[rows, columns]`.
    Muon {
        /// Its constants.
        config: MuonConfig,
        /// Share of the learning rate.
        rate: f64,
        /// Equal groups of rows that are made orthogonal apart, such as q, k and v.
        parts: usize,
    },
}

impl Rule {
    /// AdamW at the learning rate, for all parameters alike: the reference's optimiser.
    pub fn adamw(config: AdamwConfig) -> impl Fn(&str, &[usize]) -> Self {
        move |_, _| Self::Adamw { config, rate: 1.0 }
    }
}

impl Graph {
    /// Appends the update of every parameter by the rule for its name and shape, then clears the gradients. Neighbours
    /// with one AdamW rule are updated together; matrices of one shape are made orthogonal together.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `stats` is not what [`Graph::grad_norm`] makes, or a parameter of Muon is not a
    /// matrix of that many parts.
    pub fn update(&mut self, stats: Tensor, rule: impl Fn(&str, &[usize]) -> Rule) -> Result<()> {
        self.expect("update", stats, &[4])?;
        let layout = self.layout().clone();
        let mut matrices: Vec<Matrix> = Vec::new();
        // of several ranks each updates its own part
        for slab in layout.owned() {
            let params: Vec<_> = layout.params().filter(|p| p.slab == slab).collect();
            let mut begun: Option<(AdamwConfig, f64, usize)> = None;
            for param in &params {
                match rule(param.name, param.shape) {
                    Rule::Adamw { config, rate } => {
                        if let Some((old, share, first)) = begun
                            && (old, share) != (config, rate)
                        {
                            self.adamw(stats, slab, first..param.offset, old, share)?;
                            begun = None;
                        }
                        begun.get_or_insert((config, rate, param.offset));
                    }
                    Rule::Muon {
                        config,
                        rate,
                        parts,
                    } => {
                        if let Some((old, share, first)) = begun.take() {
                            self.adamw(stats, slab, first..param.offset, old, share)?;
                        }
                        let place = self.matrix(param.id, param.shape, parts)?;
                        matrices.push(Matrix {
                            id: param.id,
                            place,
                            config,
                            rate,
                        });
                    }
                }
            }
            if let Some((config, rate, first)) = begun {
                let end = layout.slabs()[slab].len;
                self.adamw(stats, slab, first..end, config, rate)?;
            }
        }
        while let Some(first) = matrices.first() {
            let shape = first.place.matrices(1).shape;
            let alike = |matrix: &Matrix| matrix.place.matrices(1).shape == shape;
            let (mut batch, rest): (Vec<_>, Vec<_>) = matrices.into_iter().partition(alike);
            self.muon(stats, &mut batch)?;
            matrices = rest;
        }
        for slab in layout.trained() {
            let grads = self.slab(GRADS, slab);
            self.zero(grads)?;
        }
        Ok(())
    }

    /// Where a parameter's parts would lie on their own.
    fn matrix(&mut self, id: ParamId, shape: &[usize], parts: usize) -> Result<Place> {
        let &[rows, cols] = shape else {
            let param = self.param(id);
            return Err(self.misfit("muon", param, "a matrix"));
        };
        if parts == 0 || rows % parts != 0 {
            let param = self.param(id);
            return Err(self.misfit("muon", param, &format!("{parts} equal groups of rows")));
        }
        Ok(Place {
            shape: [rows / parts, cols],
            parts,
            first: 0,
            stride: 0,
        })
    }

    /// Updates parameters whose parts have one shape, up to transposition.
    fn muon(&mut self, stats: Tensor, batch: &mut [Matrix]) -> Result<()> {
        let count = batch.iter().map(|matrix| matrix.place.parts).sum();
        let matrices = batch[0].place.matrices(count);
        let x = matrices.activation(self, "muon");
        let mut first = 0;
        for matrix in &mut *batch {
            let place = &mut matrix.place;
            (place.first, place.stride) = (first, matrices.stride());
            first += place.parts * matrices.stride();
            self.muon_momentum(matrix, stats, x)?;
        }
        let x = self.orthogonalise(x, matrices)?;
        for matrix in batch {
            self.muon_apply(matrix, stats, x)?;
        }
        Ok(())
    }
}
