//! A trunk with its parameters laid out: what graphs are built from.

use std::sync::Arc;

use crate::config::LoraConfig;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Graph, Key, Layout, PARAMS, Storage, Tensor};
use crate::io::files::Files;
use crate::io::safetensors::{TensorSpec, check_each, read_each};
use crate::model::params::{Declared, Group, Params};
use crate::model::trunk::{Call, Options, Trunk};
use crate::program::{Arena, Element, Room};

/// Elements of a slab where nothing is to be allocated.
pub(super) const NO_LIMIT: usize = usize::MAX / 4;

/// A network: what it computes, and where its parameters lie.
#[derive(Clone, Debug)]
pub struct Network {
    /// What it computes.
    pub trunk: Arc<dyn Trunk>,
    /// Where its parameters lie.
    pub layout: Arc<Layout>,
    declared: Arc<[Declared]>,
    groups: Arc<[(String, Group)]>,
    /// The adapters on it.
    pub(crate) lora: LoraConfig,
}

impl Network {
    /// Finds the parameters by building the network once for one token, and lays them out as there is room: a number of
    /// elements, or what [`Device::room`](crate::device::Device::room) says; matrices are kept in elements of type `weights`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a tensor does not fit a slab; what the trunk says.
    pub fn new(trunk: Arc<dyn Trunk>, room: impl Into<Room>, weights: Element) -> Result<Self> {
        Self::made(trunk, room.into(), weights, &[], &LoraConfig::default())
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
        Self::made(trunk, room.into(), weights, own, &LoraConfig::default())
    }

    /// As [`Network::new`], with adapters, of which alone anything is trained.
    ///
    /// # Errors
    /// As [`Network::new`]; [`Error::Config`] if the trunk has no projection that they are for.
    pub fn adapted(
        trunk: Arc<dyn Trunk>,
        room: impl Into<Room>,
        weights: Element,
        lora: &LoraConfig,
    ) -> Result<Self> {
        Self::made(trunk, room.into(), weights, &[], lora)
    }

    fn made(
        trunk: Arc<dyn Trunk>,
        room: Room,
        weights: Element,
        own: &[(String, Element)],
        lora: &LoraConfig,
    ) -> Result<Self> {
        let mut g = Graph::new(Arc::default());
        let mut params = Params::declaring(weights, own, lora);
        let options = Options::of(1, 1);
        let mut call = Call::new(&mut g, &*trunk, options)?;
        let hidden = trunk.build(&mut g, &mut params, &mut call)?;
        trunk.head(&mut g, &mut params, hidden)?;
        let (layout, declared, groups) = params.finish(room)?;
        let made = Self {
            trunk,
            layout: Arc::new(layout),
            declared: declared.into(),
            groups: groups.into(),
            lora: lora.clone(),
        };
        made.check_adapters()?;
        Ok(made)
    }

    /// Every target must name a projection of a trunk that can have adapters.
    fn check_adapters(&self) -> Result<()> {
        let refuse = |target: &str, problem: &str| {
            Err(Error::config("lora.targets", target, problem.to_owned()))
        };
        if self.lora.is_none() {
            return Ok(());
        }
        if !self.trunk.adaptable() {
            let problem = "are for decoders of the Llama family; train all of this model instead";
            return refuse(&self.lora.targets.join(", "), problem);
        }
        for target in &self.lora.targets {
            let one = LoraConfig {
                targets: vec![target.clone()],
                ..self.lora.clone()
            };
            let adapted = |key: &Key| {
                let module = key.key.strip_suffix(".lora_A.weight");
                module.is_some_and(|module| one.adapts(module))
            };
            if !self.layout.keys().iter().any(adapted) {
                return refuse(target, "is no projection of the model");
            }
        }
        Ok(())
    }

    /// A graph with the network in it, up to its hidden states.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that cannot be; what the trunk says.
    pub fn begin(&self, options: Options) -> Result<(Graph, Call, Tensor)> {
        let mut g = Graph::new(self.layout.clone());
        if options.keep_all {
            g.keep_all();
        }
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
        Params::of(self.layout.clone(), &self.lora)
    }

    /// The network of a trunk with the weights of a file, see [`Network::load`].
    ///
    /// # Errors
    /// As [`Network::new`] and [`Network::load`].
    pub async fn open(
        device: &Device,
        trunk: Arc<dyn Trunk>,
        weights: Element,
        files: &impl Files,
        name: &str,
    ) -> Result<(Self, Storage)> {
        let network = Self::new(trunk, device.room(), weights)?;
        let storage = network.stored(device, files, name).await?;
        Ok((network, storage))
    }

    /// The weights of a file on a device. Its header is checked before anything is allocated, whatever sizes the
    /// description asks for.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub(crate) async fn stored(
        &self,
        device: &Device,
        files: &impl Files,
        name: &str,
    ) -> Result<Storage> {
        self.check(files, name).await?;
        let mut storage = Storage::new(device, &self.layout, &[PARAMS]).await?;
        self.load(files, name, &mut storage).await?;
        Ok(storage)
    }

    /// Reads the weights of a file, or of the shards that its index names, into the arena
    /// [`PARAMS`](crate::graph::PARAMS), part after part of one tensor after the other: every parameter but those of
    /// adapters and nothing else, but for what the trunk says that files may hold besides.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the tensor, also where it does not fit half precision; [`Error::Io`]; what the
    /// device refuses.
    pub async fn load(&self, files: &impl Files, name: &str, storage: &mut Storage) -> Result<()> {
        let mut keep = |index: usize, first: usize, values: &[f32]| {
            storage.set_part(PARAMS, index, first, values)
        };
        self.read(files, name, &mut keep).await
    }

    /// As [`Network::load`], the parts of each tensor given to `sink` with its place among the layout's keys and the
    /// place of the part's first element.
    ///
    /// # Errors
    /// As [`Network::load`], and what `sink` says.
    pub(crate) async fn read(
        &self,
        files: &impl Files,
        name: &str,
        sink: &mut impl FnMut(usize, usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (places, specs) = self.specs();
        let ignored = self.trunk.ignored();
        let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
        let path = files.path(name);
        // what there is so far of a tensor that files hold in another order
        let mut whole = Vec::new();
        let mut keep = |i: usize, first: usize, values: &[f32]| {
            let (index, count) = (places[i], specs[i].count());
            self.holds(&path, index, first, values)?;
            let held = self.declared[index].held;
            let &[rows, columns] = &self.layout.keys()[index].shape[..] else {
                return sink(index, first, values);
            };
            if held.in_order(count) {
                sink(index, first, values)?;
                let left = rows * columns - count;
                return match left > 0 && first + values.len() == count {
                    true => sink(index, count, &vec![0.0; left]),
                    false => Ok(()),
                };
            }
            whole.extend(values);
            if whole.len() < count {
                return Ok(());
            }
            let values = held.read(std::mem::take(&mut whole), [rows, columns]);
            sink(index, 0, &values)
        };
        read_each(files, name, &specs, &ignored, &mut keep).await
    }

    /// An error that names what a parameter's elements cannot hold of its values from `first` on.
    pub(crate) fn holds(
        &self,
        path: &std::path::Path,
        index: usize,
        first: usize,
        values: &[f32],
    ) -> Result<()> {
        let key = &self.layout.keys()[index];
        let element = self.layout.slabs()[key.slab].element;
        let Some(place) = values.iter().position(|&x| !element.holds(x)) else {
            return Ok(());
        };
        let problem = format!(
            "element {} is {}, too large for {element}: take bf16 or q8",
            first + place,
            values[place]
        );
        Err(Error::checkpoint(path, Some(&key.key), problem))
    }

    /// What [`Network::load`] would find wrong with the headers of the files, which are all that it reads.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub async fn check(&self, files: &impl Files, name: &str) -> Result<()> {
        let ignored = self.trunk.ignored();
        let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
        check_each(files, name, &self.specs().1, &ignored).await
    }

    /// Writes a file that [`Network::load`] reads; `values` are those of every key of the layout.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Argument`] that names the tensor whose values are too large for the precision.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn write(
        &self,
        path: &std::path::Path,
        values: &[Vec<f64>],
        precision: crate::io::safetensors::Precision,
    ) -> Result<()> {
        let (places, specs) = self.specs();
        crate::io::safetensors::write_file(path, &specs, precision, |i| {
            let index = places[i];
            let values: Vec<f32> = values[index].iter().map(|&x| x as f32).collect();
            let held = self.declared[index].held;
            Ok(match self.layout.keys()[index].shape[..] {
                [rows, columns] => held.written(values, [rows, columns]),
                _ => values,
            }
            .into())
        })
    }

    /// What files hold of the network but of adapters: places among the layout's keys, names and shapes.
    fn specs(&self) -> (Vec<usize>, Vec<TensorSpec>) {
        let keys = self.layout.keys().iter().zip(&*self.declared).enumerate();
        let base = |key: &Key| self.lora.is_none() || self.layout.is_frozen(key);
        keys.filter(|(_, (key, _))| base(key))
            .map(|(i, (key, declared))| {
                let shape = declared.held.shape(key.shape.clone());
                let spec = TensorSpec::new(key.key.clone(), shape);
                (i, spec)
            })
            .unzip()
    }

    /// Initial values of the parameter at a place among the layout's keys.
    ///
    /// # Errors
    /// [`Error::Internal`] for a place that there is not.
    pub(crate) fn initial(&self, index: usize, seed: u64) -> Result<Vec<f64>> {
        let key = self.layout.keys().get(index).zip(self.declared.get(index));
        let missing = || Error::Internal(format!("parameter {index} was never declared"));
        let (key, declared) = key.ok_or_else(missing)?;
        Ok(declared.init.values(key.len(), index, seed))
    }

    /// Writes initial values to each of `arenas`.
    ///
    /// # Errors
    /// [`Error::Internal`] if the storage does not have an arena; what the device refuses.
    pub fn initialise(&self, storage: &mut Storage, arenas: &[Arena], seed: u64) -> Result<()> {
        for &arena in arenas {
            storage.write(arena, |index, _| self.initial(index, seed))?;
        }
        Ok(())
    }
}
