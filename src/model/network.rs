//! A trunk with its parameters laid out: what graphs are built from.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Layout, Storage, Tensor};
use crate::model::params::{Declared, Group, Params};
use crate::model::trunk::{Call, Options, Trunk};
use crate::program::{Arena, Element, Room};

/// Elements of a slab where nothing is to be allocated.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const NO_LIMIT: usize = usize::MAX / 8;

/// A network: what it computes, and where its parameters lie.
#[derive(Clone, Debug)]
pub struct Network {
    /// What it computes.
    pub trunk: Arc<dyn Trunk>,
    /// Where its parameters lie.
    pub layout: Arc<Layout>,
    declared: Arc<[Declared]>,
    groups: Arc<[(String, Group)]>,
}

impl Network {
    /// Finds the parameters by building the network once for one token, and lays them out as there is room: a number of
    /// elements, or what [`Device::room`](crate::device::Device::room) says; matrices are kept in elements of type `weights`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a tensor does not fit a slab; what the trunk says.
    pub fn new(trunk: Arc<dyn Trunk>, room: impl Into<Room>, weights: Element) -> Result<Self> {
        Self::with_elements(trunk, room, weights, &[])
    }

    /// As [`Network::new`], with matrices that are named kept in elements of their own.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_elements(
        trunk: Arc<dyn Trunk>,
        room: impl Into<Room>,
        weights: Element,
        own: &[(String, Element)],
    ) -> Result<Self> {
        let mut g = Graph::new(Arc::default());
        let mut params = Params::declaring(weights, own);
        let options = Options::of(1, 1);
        let mut call = Call::new(&mut g, &*trunk, options)?;
        let hidden = trunk.build(&mut g, &mut params, &mut call)?;
        trunk.head(&mut g, &mut params, hidden)?;
        let (layout, declared, groups) = params.finish(room.into())?;
        Ok(Self {
            trunk,
            layout: Arc::new(layout),
            declared: declared.into(),
            groups: groups.into(),
        })
    }

    /// A graph with the network in it, up to its hidden states.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that cannot be; what the trunk says.
    pub fn begin(&self, options: Options) -> Result<(Graph, Call, Tensor)> {
        let mut g = Graph::new(self.layout.clone());
        let (call, hidden) = self.append(&mut g, options)?;
        Ok((g, call, hidden))
    }

    /// The network once more in a graph over its layout.
    ///
    /// # Errors
    /// As [`Network::begin`].
    pub fn append(&self, g: &mut Graph, options: Options) -> Result<(Call, Tensor)> {
        let mut call = Call::new(g, &*self.trunk, options)?;
        let hidden = self.trunk.build(g, &mut self.params(), &mut call)?;
        Ok((call, hidden))
    }

    /// What the parameter of that name is for.
    pub fn group(&self, name: &str) -> Group {
        let found = self.groups.iter().find(|(known, _)| known == name);
        found.map_or(Group::Vector, |(_, group)| *group)
    }

    /// The parameters, found in the layout by name, for one more graph over it.
    pub fn params(&self) -> Params {
        Params::of(self.layout.clone())
    }

    /// The network of a trunk with the weights of a file, see [`Network::load`].
    ///
    /// # Errors
    /// As [`Network::new`] and [`Network::load`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn open(
        device: &crate::device::Device,
        trunk: Arc<dyn Trunk>,
        weights: Element,
        path: &std::path::Path,
    ) -> Result<(Self, Storage)> {
        let network = Self::new(trunk, device.room(), weights)?;
        let mut storage = Storage::new(device, &network.layout, &[crate::graph::PARAMS]).await?;
        network.load(path, &mut storage)?;
        Ok((network, storage))
    }

    /// Reads the weights of a file, or of the shards that its index names, into the arena
    /// [`PARAMS`](crate::graph::PARAMS), one tensor after the other: every parameter and nothing else, but for what the
    /// trunk says that files may hold besides.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the tensor, also where it does not fit half precision; [`Error::Io`]; what the
    /// device refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(&self, path: &std::path::Path, storage: &mut Storage) -> Result<()> {
        use crate::graph::PARAMS;
        use crate::io::safetensors::{TensorSpec, read_each};
        let ignored = self.trunk.ignored();
        let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
        let keys = self.layout.keys().iter().zip(&*self.declared);
        let specs: Vec<_> = keys
            .map(|(key, declared)| {
                let mut shape = key.shape.clone();
                if declared.transposed {
                    shape.reverse();
                }
                TensorSpec::new(key.key.clone(), shape)
            })
            .collect();
        read_each(path, &specs, &ignored, &mut |index, mut values| {
            if let (true, &[rows, columns]) =
                (self.declared[index].transposed, &specs[index].shape[..])
            {
                let at = |i: usize| values[i % rows * columns + i / rows];
                values = (0..rows * columns).map(at).collect();
            }
            self.check(path, index, &values)?;
            storage.set(PARAMS, index, &values)
        })
    }

    /// An error that names what a parameter's elements cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn check(&self, path: &std::path::Path, index: usize, values: &[f32]) -> Result<()> {
        let key = &self.layout.keys()[index];
        let element = self.layout.slabs()[key.slab].element;
        match values.iter().position(|&x| !element.holds(x)) {
            None => Ok(()),
            Some(place) => {
                let problem = format!(
                    "element {place} is {}, too large for {element}: take bf16 or q8",
                    values[place]
                );
                Err(Error::checkpoint(path, Some(&key.key), problem))
            }
        }
    }

    /// Writes initial values to each of `arenas`.
    ///
    /// # Errors
    /// [`Error::Internal`] if the storage does not have an arena; what the device refuses.
    pub fn initialise(&self, storage: &mut Storage, arenas: &[Arena], seed: u64) -> Result<()> {
        for &arena in arenas {
            storage.write(arena, |index, key| {
                let missing = || Error::Internal(format!("{} was never declared", key.key));
                let declared = self.declared.get(index).ok_or_else(missing)?;
                Ok(declared.init.values(key.len(), index, seed))
            })?;
        }
        Ok(())
    }
}
