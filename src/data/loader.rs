//! Which block comes when: a pure function of seed, step and place in the batch, so that there is
//! no position to save and a resumed run sees what an unbroken one would.

use std::sync::Arc;

use super::blocks::Blocks;
#[cfg(not(target_arch = "wasm32"))]
use super::mixture::Mixture;
use crate::error::Result;
use crate::rng::{Rng, Stream};

/// Hands out the training blocks, every epoch in an order of its own; those of several sources by their weights.
#[derive(Clone, Debug)]
pub struct Loader {
    blocks: Arc<Blocks>,
    global_batch: usize,
    order: Order,
}

/// Which block comes when.
#[derive(Clone, Debug)]
enum Order {
    /// Those of one text, of which every epoch is shuffled.
    Shuffled(Shuffled),
    /// Those of several sources.
    #[cfg(not(target_arch = "wasm32"))]
    Mixed(Mixture),
}

/// The permutation of one epoch, kept because neighbouring steps share it.
#[derive(Clone, Debug)]
struct Shuffled {
    seed: u64,
    epoch: u64,
    blocks: Vec<usize>,
}

impl Shuffled {
    fn new(count: usize, seed: u64, epoch: u64) -> Self {
        let mut blocks: Vec<usize> = (0..count).collect();
        Rng::new(seed, Stream::Shuffle, epoch).shuffle(&mut blocks);
        Self {
            seed,
            epoch,
            blocks,
        }
    }

    fn index(&mut self, number: u64) -> usize {
        let count = self.blocks.len() as u64;
        let (epoch, place) = (number / count, (number % count) as usize);
        if self.epoch != epoch {
            *self = Self::new(self.blocks.len(), self.seed, epoch);
        }
        self.blocks[place]
    }
}

impl Order {
    fn new(blocks: &Blocks, seed: u64) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        if !blocks.portions().is_empty() {
            return Self::Mixed(Mixture::new(blocks.portions(), seed));
        }
        Self::Shuffled(Shuffled::new(blocks.count(), seed, 0))
    }

    fn index(&mut self, number: u64) -> usize {
        match self {
            Self::Shuffled(order) => order.index(number),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mixed(order) => order.index(number),
        }
    }
}

impl Loader {
    /// Batches of `global_batch` blocks.
    pub fn new(blocks: Arc<Blocks>, seed: u64, global_batch: usize) -> Self {
        let order = Order::new(&blocks, seed);
        Self {
            blocks,
            global_batch,
            order,
        }
    }

    /// Fills `out` with the ids of a step (counted from 0), `[global_batch, length]`, and `counts` with how many leading
    /// tokens of each sequence count, and how many are given (see [`Blocks::attended`], [`Blocks::given`]).
    ///
    /// # Errors
    /// Those of [`Blocks::block`].
    pub fn batch(
        &mut self,
        step: u64,
        out: &mut Vec<u32>,
        counts: &mut Vec<[usize; 2]>,
    ) -> Result<()> {
        out.clear();
        counts.clear();
        let first = step.wrapping_mul(self.global_batch as u64);
        for i in 0..self.global_batch as u64 {
            let index = self.order.index(first.wrapping_add(i));
            out.extend_from_slice(&self.blocks.block(index)?);
            counts.push([self.blocks.attended(index), self.blocks.given(index)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(seed: u64, global_batch: usize) -> Loader {
        let blocks = Blocks::new(2, (0..14).collect(), 14).unwrap();
        Loader::new(Arc::new(blocks), seed, global_batch)
    }

    fn batch(loader: &mut Loader, step: u64) -> Vec<u32> {
        let mut ids = vec![99];
        let mut counts = vec![[99; 2]];
        loader.batch(step, &mut ids, &mut counts).unwrap();
        assert_eq!(counts, vec![[2, 0]; ids.len() / 2]);
        ids
    }

    #[test]
    fn an_epoch_holds_each_block_once() {
        for global_batch in [1, 3, 7, 16] {
            let mut loader = loader(5, global_batch);
            let stream: Vec<u32> = (0..42).flat_map(|step| batch(&mut loader, step)).collect();
            let epochs: Vec<&[u32]> = stream.chunks_exact(14).collect();
            for epoch in &epochs {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..14).collect::<Vec<_>>());
                assert!(
                    epoch.chunks(2).all(|b| b[1] == b[0] + 1),
                    "a block was torn"
                );
            }
            assert!(epochs.windows(2).any(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn a_batch_depends_on_seed_and_step_only() {
        let mut forward = loader(5, 3);
        let expected: Vec<_> = (0..20).map(|step| batch(&mut forward, step)).collect();
        for step in (0..20).rev() {
            assert_eq!(batch(&mut loader(5, 3), step), expected[step as usize]);
            assert_eq!(batch(&mut forward, step), expected[step as usize]);
        }
        let mut other = loader(6, 3);
        assert!((0..20).any(|step| batch(&mut other, step) != expected[step as usize]));
    }

    #[test]
    fn the_batch_size_does_not_change_the_order() {
        let (mut one, mut four) = (loader(5, 1), loader(5, 4));
        let single: Vec<u32> = (0..8).flat_map(|step| batch(&mut one, step)).collect();
        let by_four: Vec<u32> = (0..2).flat_map(|step| batch(&mut four, step)).collect();
        assert_eq!(single, by_four);
    }
}
