//! Where each parameter lies in the arenas.

use crate::error::{Error, OF_PARAMETER, Result};
use crate::program::{Element, Room, Slab};

/// Handle of a parameter in the [`Layout`] that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(usize);

/// A parameter and its place, see [`Layout::params`].
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// Its handle.
    pub id: ParamId,
    /// Its name; of one that files hold in parts, that of the whole.
    pub name: &'a str,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// Index of its slab in [`Layout::slabs`].
    pub slab: usize,
    /// First element in the slab, a multiple of 64.
    pub offset: usize,
}

/// A parameter tensor as the graph sees it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) slab: usize,
    pub(super) offset: usize,
}

/// A tensor as files see it: a range of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name in checkpoints.
    pub key: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Index of its slab in [`Layout::slabs`].
    pub slab: usize,
    /// First element in the slab.
    pub offset: usize,
}

impl Key {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Placement of all parameters of a model, the same in every arena.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    slabs: Vec<Slab>,
    entries: Vec<Entry>,
    keys: Vec<Key>,
    /// Bytes of a binding; `None`: no bound.
    binding: Option<u64>,
}

impl Layout {
    /// Starts a layout whose slabs fit one binding. A tensor that does not has a slab of its own, if a buffer has room
    /// for it: operations on tables then take it in parts.
    pub fn builder(room: impl Into<Room>) -> LayoutBuilder {
        let room = room.into();
        LayoutBuilder {
            buffer: room.buffer,
            frozen: false,
            state: Element::F32,
            layout: Self {
                binding: Some(4 * room.binding as u64),
                ..Self::default()
            },
        }
    }

    /// The same parameters laid out anew for an optimiser's state of such elements: f32 or bf16, which needs more room
    /// between tensors.
    ///
    /// # Errors
    /// As [`LayoutBuilder::stacked`].
    pub fn with_state(&self, room: impl Into<Room>, state: Element) -> Result<Self> {
        let mut builder = Self::builder(room);
        builder.state = state;
        for entry in &self.entries {
            let Slab {
                element, frozen, ..
            } = self.slabs[entry.slab];
            let range = entry.offset..entry.offset + entry.shape.iter().product::<usize>();
            let within = |key: &&Key| key.slab == entry.slab && range.contains(&key.offset);
            let mut parts: Vec<&Key> = self.keys.iter().filter(within).collect();
            parts.sort_by_key(|key| key.offset);
            let parts = parts.into_iter().map(|k| (k.key.clone(), k.shape.clone()));
            let parts: Vec<_> = parts.collect();
            builder.freeze(frozen);
            builder.stacked(&entry.name, &entry.shape, element, &parts)?;
        }
        let place = |name: &str| self.keys.iter().position(|key| key.key == name);
        Ok(builder.finish(|name| place(name).unwrap_or_default()))
    }

    /// Bytes of a binding; `None`: no bound.
    pub fn binding(&self) -> Option<u64> {
        self.binding
    }

    /// Length and element type of each slab.
    pub fn slabs(&self) -> &[Slab] {
        &self.slabs
    }

    /// The slabs whose tensors are trained.
    pub fn trained(&self) -> impl Iterator<Item = usize> {
        (0..self.slabs.len()).filter(|&i| !self.slabs[i].frozen)
    }

    /// The trained slabs that this rank updates: all of them, unless the layout is [`Layout::shared`].
    pub fn owned(&self) -> impl Iterator<Item = usize> {
        self.trained().filter(|&i| self.slabs[i].owned)
    }

    /// The rank that updates each slab of a layout for `size` ranks, as even as may be; the same at every rank.
    pub fn owners(&self, size: usize) -> Vec<usize> {
        let mut order: Vec<usize> = self.trained().collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.slabs[i].len));
        let (mut owners, mut loads) = (vec![0; self.slabs.len()], vec![0; size]);
        for slab in order {
            let rank = (0..size).min_by_key(|&rank| loads[rank]).unwrap_or(0);
            owners[slab] = rank;
            loads[rank] += self.slabs[slab].len;
        }
        owners
    }

    /// The same parameters in slabs that are small enough to be shared out among `size` ranks, of which `rank` owns
    /// its part.
    ///
    /// # Errors
    /// As [`LayoutBuilder::stacked`].
    pub fn shared(&self, rank: usize, size: usize) -> Result<Self> {
        let trained: usize = self.trained().map(|i| self.slabs[i].len).sum();
        let room = Room {
            binding: trained.div_ceil(SLABS_A_RANK * size),
            buffer: MOST,
        };
        let state = self.slabs.first().map_or(Element::F32, |slab| slab.state);
        let mut made = self.with_state(room, state)?;
        made.binding = self.binding;
        let owners = made.owners(size);
        for (slab, owner) in made.slabs.iter_mut().zip(owners) {
            slab.owned = owner == rank;
        }
        Ok(made)
    }

    /// The tensors that files hold and that are trained, with their places among [`Layout::keys`].
    pub fn trained_keys(&self) -> impl Iterator<Item = (usize, &Key)> {
        let keys = self.keys.iter().enumerate();
        keys.filter(|(_, key)| !self.is_frozen(key))
    }

    /// Whether a tensor is never trained.
    pub fn is_frozen(&self, key: &Key) -> bool {
        self.slabs[key.slab].frozen
    }

    /// The tensors that files hold, in order of creation.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Number of parameters, without padding; there may be more than memory of 32 bits can count.
    pub fn parameters(&self) -> u64 {
        self.keys.iter().map(|key| key.len() as u64).sum()
    }

    /// The parameters as graphs see them, in the order of their places.
    pub fn params(&self) -> impl Iterator<Item = Param<'_>> {
        self.entries.iter().enumerate().map(|(i, entry)| Param {
            id: ParamId(i),
            name: &entry.name,
            shape: &entry.shape,
            slab: entry.slab,
            offset: entry.offset,
        })
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        let place = self.entries.iter().position(|entry| entry.name == name);
        place.map(ParamId)
    }

    pub(super) fn entry(&self, id: ParamId) -> &Entry {
        &self.entries[id.0]
    }
}

/// Places tensors one after the other, each in the newest slab of its element type if that has
/// room.
#[derive(Debug)]
pub struct LayoutBuilder {
    /// Words of 32 bits that a buffer holds.
    buffer: usize,
    frozen: bool,
    state: Element,
    layout: Layout,
}

/// Slabs that each rank owns of a shared layout: enough to be even, few enough to be one dispatch each.
const SLABS_A_RANK: usize = 4;

/// Bytes that tensors are aligned to: the largest binding alignment of WebGPU.
const ALIGN: usize = 256;

/// Most elements of a slab, so that sums of two are still numbers.
const MOST: usize = usize::MAX / 4;

impl LayoutBuilder {
    /// Whether the tensors that follow are never trained.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Adds a tensor of f32 stored under its own name.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<ParamId> {
        let parts = [(name.to_owned(), shape.to_vec())];
        self.stacked(name, shape, Element::F32, &parts)
    }

    /// Adds a tensor that files hold as several, one after the other.
    pub fn stacked(
        &mut self,
        name: &str,
        shape: &[usize],
        element: Element,
        parts: &[(String, Vec<usize>)],
    ) -> Result<ParamId> {
        let (block, words) = element.block();
        // offsets are counted in elements, also where these are packed
        let most = (self.buffer / words).saturating_mul(block).min(MOST);
        let count = shape.iter().map(|&extent| extent as u64);
        let count = count.fold(1, u64::saturating_mul);
        if count > most as u64 {
            return Err(Error::Unsupported {
                what: format!("{OF_PARAMETER}{name} in one buffer"),
                need: (count / block as u64).saturating_mul(4 * words as u64),
                have: 4 * self.buffer as u64,
            });
        }
        let len: usize = shape.iter().product();
        let total: usize = parts.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        if total != len {
            return Err(Error::Internal(format!(
                "{name}: parts of {total} elements, {len} expected"
            )));
        }
        let binding = self.layout.binding.unwrap_or(u64::MAX);
        let slabs = &mut self.layout.slabs;
        // whole blocks that take a multiple of that many bytes, whatever the words of a block
        let align = ALIGN / 4 * block.max(self.state.block().0);
        let unit = block.max(self.state.block().0);
        let split = parts.split_last().map_or(&[][..], |(_, before)| before);
        let cut = |(_, shape): &&(String, Vec<usize>)| {
            !shape.iter().product::<usize>().is_multiple_of(unit)
        };
        if let Some((part, _)) = split.iter().find(cut) {
            let problem = format!(
                "{part} has no multiple of {unit} elements; keep weights and moments in f32"
            );
            return Err(Error::argument("weights", element, problem));
        }
        let fits = |used: usize| element.bytes(used.next_multiple_of(align) + len) <= binding;
        let alike = |slab: &Slab| slab.element == element && slab.frozen == self.frozen;
        let open = slabs.iter().rposition(alike);
        let slab = match open.filter(|&i| fits(slabs[i].len)) {
            Some(i) => i,
            None => {
                slabs.push(Slab {
                    len: 0,
                    element,
                    frozen: self.frozen,
                    state: self.state,
                    owned: true,
                });
                slabs.len() - 1
            }
        };
        let offset = slabs[slab].len.next_multiple_of(align);
        slabs[slab].len = offset + len;
        self.layout.entries.push(Entry {
            name: name.to_owned(),
            shape: shape.to_vec(),
            slab,
            offset,
        });
        let mut at = offset;
        for (key, shape) in parts {
            let key = Key {
                key: key.clone(),
                shape: shape.clone(),
                slab,
                offset: at,
            };
            at += key.len();
            self.layout.keys.push(key);
        }
        Ok(ParamId(self.layout.entries.len() - 1))
    }

    /// Ends the layout, with its keys in the order of `rank`.
    pub fn finish(mut self, rank: impl Fn(&str) -> usize) -> Layout {
        self.layout.keys.sort_by_key(|k| rank(&k.key));
        self.layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_slabs_evenly() {
        let mut builder = Layout::builder(usize::MAX / 8);
        for (i, len) in [1000, 300, 20, 700, 640, 5, 900, 333]
            .into_iter()
            .enumerate()
        {
            let halves = [
                (format!("{i}.a"), vec![len / 2]),
                (format!("{i}.b"), vec![len - len / 2]),
            ];
            builder
                .stacked(&i.to_string(), &[len], Element::F32, &halves)
                .unwrap();
        }
        let whole = builder.finish(|_| 0);
        let parts: Vec<Layout> = (0..2).map(|rank| whole.shared(rank, 2).unwrap()).collect();
        assert_eq!(parts[0].keys(), parts[1].keys());
        for (slab, (a, b)) in parts[0].slabs().iter().zip(parts[1].slabs()).enumerate() {
            assert!(a.owned != b.owned, "slab {slab} has one owner");
        }
        let owned = |layout: &Layout| layout.owned().map(|i| layout.slabs()[i].len).sum::<usize>();
        let (a, b) = (owned(&parts[0]), owned(&parts[1]));
        assert!(a.abs_diff(b) <= 1000 && a + b >= 3898, "{a} {b}");
        // nothing lies on anything else, and what files call a part is where the graph's tensor is
        let mut used = vec![Vec::new(); parts[0].slabs().len()];
        for (old, key) in whole.keys().iter().zip(parts[0].keys()) {
            assert_eq!((&old.key, &old.shape), (&key.key, &key.shape));
            used[key.slab].push(key.offset..key.offset + key.len());
        }
        for (slab, mut ranges) in used.into_iter().enumerate() {
            ranges.sort_by_key(|range| range.start);
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(ranges.last().unwrap().end <= parts[0].slabs()[slab].len);
        }
    }

    #[test]
    fn limits_are_of_bytes() {
        let holds = |element: Element, len: usize| {
            let part = ("x".to_owned(), vec![len]);
            let mut builder = Layout::builder(900);
            builder.stacked("x", &[len], element, &[part]).is_ok()
        };
        for (element, most) in [
            (Element::F32, 900),
            (Element::F16, 1800),
            (Element::Q8, 3200),
            (Element::Q4, 5760),
        ] {
            assert!(element.bytes(most) <= 3600);
            assert!(
                holds(element, most) && !holds(element, most + 1),
                "{element}"
            );
        }
        // more elements than can be counted
        let part = ("x".to_owned(), vec![usize::MAX, 2]);
        let mut builder = Layout::builder(usize::MAX / 8);
        let error = builder.stacked("x", &[usize::MAX, 2], Element::Q4, &[part]);
        assert_eq!(error.unwrap_err().code(), "unsupported");
    }
}
