//! Parameters, declared where a network uses them: name, shape, initial values and element type. Layout, files and
//! counts follow.

use std::sync::Arc;

use crate::config::LoraConfig;
use crate::error::{Error, Result};
use crate::graph::{Graph, Layout, Tensor};
use crate::model::held::Held;
use crate::ops::Dropout;
use crate::program::{Element, Room};
use crate::rng::{Rng, Stream};

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// Uniform in ±bound.
    Uniform(f64),
}

impl Init {
    /// The reference's for a linear layer of this width, weight and bias alike.
    pub fn linear(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f64).sqrt())
    }

    /// Values of the `index`-th parameter of a model, rounded to f32 so that every executor starts from the same
    /// numbers.
    pub(crate) fn values(self, n: usize, index: usize, seed: u64) -> Vec<f64> {
        match self {
            Self::Zeros => vec![0.0; n],
            Self::Ones => vec![1.0; n],
            Self::Uniform(bound) => {
                let mut rng = Rng::new(seed, Stream::Init, index as u64);
                let next = |_| f64::from((bound * (2.0 * rng.uniform() - 1.0)) as f32);
                (0..n).map(next).collect()
            }
        }
    }
}

/// What a parameter is for, which decides how it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A matrix between hidden states; equal groups of its rows are matrices of their own, such as q, k and v.
    Hidden {
        /// How many.
        parts: usize,
    },
    /// A table of rows that tokens or positions choose.
    Embedding,
    /// The matrix that makes logits.
    Head,
    /// Matrices and biases that make modulation out of the noise level.
    Modulation,
    /// Norms and biases.
    Vector,
    /// Matrices of a low-rank adapter.
    Adapter,
}

/// What the parameter of each name is for.
pub(crate) type Groups = Vec<(String, Group)>;

/// What files hold of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    /// Which tensor of the graph it is part of.
    tensor: usize,
    pub(crate) key: String,
    shape: Vec<usize>,
    pub(crate) init: Init,
    /// How files hold it.
    pub(crate) held: Held,
}

#[derive(Clone, Debug)]
struct Whole {
    name: String,
    shape: Vec<usize>,
    element: Element,
    group: Group,
    /// Whether it is never trained.
    frozen: bool,
}

/// The parameters of a network that is being built: the first time they are declared, later they are found in the
/// layout that came of it.
#[derive(Debug)]
pub struct Params {
    layout: Option<Arc<Layout>>,
    /// Element in which weights are declared that operations can unpack; over a layout, which knows it, F32.
    weights: Element,
    /// Which projections have adapters; with any, nothing else is trained.
    lora: LoraConfig,
    /// Those of matrices that are kept otherwise, by name.
    own: Vec<(String, Element)>,
    tensors: Vec<Whole>,
    declared: Vec<Declared>,
}

/// A linear layer's weight `[out, in]` and bias `[out]`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[out, in]`, in half precision if the model keeps matrices so.
    pub weight: Tensor,
    /// `[out]` in f32; `None` for a layer without bias.
    pub bias: Option<Tensor>,
    /// What is added to its output, see [`Linear::adapt`].
    pub(crate) adapter: Option<Adapter>,
}

/// `y + scale B (A x)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adapter {
    /// `[rank, in]`.
    a: Tensor,
    /// `[out, rank]`.
    b: Tensor,
    scale: f64,
}

impl Linear {
    /// The layer's output `y`, with its adapter's on `x` added if it has one.
    ///
    /// # Errors
    /// [`Error::Shape`] for an `x` or a `y` of another width.
    pub fn adapt(&self, g: &mut Graph, name: &str, x: Tensor, y: Tensor) -> Result<Tensor> {
        let Some(Adapter { a, b, scale }) = self.adapter else {
            return Ok(y);
        };
        let low = g.linear(&format!("{name}.lora_A"), x, a, None)?;
        let low = g.scale(&format!("{name}.lora"), low, scale)?;
        let (part, whole) = (format!("{name}.lora_B"), g.name(y).to_owned());
        let names = [part.as_str(), whole.as_str()];
        Ok(g.linear_residual(names, low, b, None, y, None, Dropout::default())?[1])
    }
}

impl Params {
    /// For the building that declares: matrices in elements of type `weights`, but for those that are named.
    pub(crate) fn declaring(
        weights: Element,
        own: &[(String, Element)],
        lora: &LoraConfig,
    ) -> Self {
        Self {
            layout: None,
            weights,
            own: own.to_vec(),
            lora: lora.clone(),
            tensors: Vec::new(),
            declared: Vec::new(),
        }
    }

    /// For a graph over a layout.
    pub(crate) fn of(layout: Arc<Layout>, lora: &LoraConfig) -> Self {
        Self {
            layout: Some(layout),
            ..Self::declaring(Element::F32, &[], lora)
        }
    }

    /// Element in which weights are declared that operations can unpack; over a layout, which knows it, F32.
    pub fn weights(&self) -> Element {
        self.weights
    }

    /// A parameter of f32 that files hold under its name.
    ///
    /// # Errors
    /// [`Error::Internal`] for one that was declared with another shape.
    pub fn tensor(
        &mut self,
        g: &mut Graph,
        name: &str,
        shape: &[usize],
        init: Init,
    ) -> Result<Tensor> {
        let tensor = self.stack(g, name, shape, Element::F32)?;
        self.part(name, name, shape, init);
        Ok(tensor)
    }

    /// A matrix that operations may unpack from half precision: a weight, or a table.
    ///
    /// # Errors
    /// As [`Params::tensor`].
    pub fn matrix(
        &mut self,
        g: &mut Graph,
        name: &str,
        shape: [usize; 2],
        init: Init,
    ) -> Result<Tensor> {
        let known = self.tensors.iter().any(|t| t.name == name);
        let own = self.own.iter().find(|(own, _)| own == name);
        let element = own.map_or(self.weights, |(_, element)| *element);
        let tensor = self.stack(g, name, &shape, element)?;
        self.part(name, name, &shape, init);
        if !known {
            self.group(name, Group::Hidden { parts: 1 });
        }
        Ok(tensor)
    }

    /// `name.weight [out, in]` and, with `bias`, `name.bias [out]`.
    ///
    /// # Errors
    /// As [`Params::tensor`].
    pub fn linear(
        &mut self,
        g: &mut Graph,
        name: &str,
        [out, input]: [usize; 2],
        bias: bool,
        init: Init,
    ) -> Result<Linear> {
        let weight = self.matrix(g, &format!("{name}.weight"), [out, input], init)?;
        let bias = bias.then(|| self.tensor(g, &format!("{name}.bias"), &[out], init));
        let bias = bias.transpose()?;
        let adapter = match self.lora.adapts(name) {
            true => Some(self.adapter(g, name, [out, input])?),
            false => None,
        };
        Ok(Linear {
            weight,
            bias,
            adapter,
        })
    }

    /// An adapter on `name`, which at first adds nothing.
    fn adapter(&mut self, g: &mut Graph, name: &str, [out, input]: [usize; 2]) -> Result<Adapter> {
        let (rank, scale) = (self.lora.rank, self.lora.scale());
        let mut part = |part: &str, shape: [usize; 2], init| {
            let name = format!("{name}.lora_{part}.weight");
            let tensor = self.tensor(g, &name, &shape, init)?;
            self.group(&name, Group::Adapter);
            Ok::<_, Error>(tensor)
        };
        Ok(Adapter {
            a: part("A", [rank, input], Init::linear(input))?,
            b: part("B", [out, rank], Init::Zeros)?,
            scale,
        })
    }

    /// A linear layer whose weight files hold as `[in, out]`.
    ///
    /// # Errors
    /// As [`Params::tensor`].
    pub fn transposed(
        &mut self,
        g: &mut Graph,
        name: &str,
        shape: [usize; 2],
        init: Init,
    ) -> Result<Linear> {
        let made = self.linear(g, name, shape, true, init)?;
        self.held(&format!("{name}.weight"), Held::Transposed);
        Ok(made)
    }

    /// Says how files hold a matrix, if not as it is.
    pub(crate) fn held(&mut self, key: &str, held: Held) {
        if let Some(declared) = self.declared.iter_mut().find(|d| d.key == key) {
            declared.held = held;
        }
    }

    /// A tensor whose parts files hold under names of their own: see [`Params::part`].
    ///
    /// # Errors
    /// As [`Params::tensor`].
    pub fn stack(
        &mut self,
        g: &mut Graph,
        name: &str,
        shape: &[usize],
        element: Element,
    ) -> Result<Tensor> {
        if let Some(layout) = &self.layout {
            let missing = || Error::Internal(format!("the layout has no parameter {name}"));
            return Ok(g.param(layout.find(name).ok_or_else(missing)?));
        }
        match self.tensors.iter().find(|t| t.name == name) {
            None => self.tensors.push(Whole {
                name: name.to_owned(),
                shape: shape.to_vec(),
                element,
                group: Group::Vector,
                frozen: !self.lora.is_none(),
            }),
            Some(known) if known.shape != shape => {
                let problem = format!("{name} is {:?} and {shape:?}", known.shape);
                return Err(Error::Internal(problem));
            }
            Some(_) => {}
        }
        Ok(g.sketch(name, shape, element))
    }

    /// Says what a tensor is for: by default a matrix is [`Group::Hidden`], the rest [`Group::Vector`].
    pub fn group(&mut self, name: &str, group: Group) {
        if let Some(whole) = self.tensors.iter_mut().find(|t| t.name == name) {
            whole.group = group;
            whole.frozen &= group != Group::Adapter;
        }
    }

    /// Declares the next part of a stacked tensor.
    pub fn part(&mut self, stack: &str, key: &str, shape: &[usize], init: Init) {
        let tensor = self.tensors.iter().position(|t| t.name == stack);
        if let Some(tensor) = tensor
            && self.declared.iter().all(|d| d.key != key)
        {
            self.declared.push(Declared {
                tensor,
                key: key.to_owned(),
                shape: shape.to_vec(),
                init,
                held: Held::Plain,
            });
        }
    }

    /// Lays out what was declared, as there is room; files hold it in the order of declaration.
    pub(crate) fn finish(self, room: Room) -> Result<(Layout, Vec<Declared>, Groups)> {
        let mut builder = Layout::builder(room);
        for (i, whole) in self.tensors.iter().enumerate() {
            let parts: Vec<_> = self
                .declared
                .iter()
                .filter(|d| d.tensor == i)
                .map(|d| (d.key.clone(), d.shape.clone()))
                .collect();
            builder.freeze(whole.frozen);
            builder.stacked(&whole.name, &whole.shape, whole.element, &parts)?;
        }
        let declared = self.declared;
        let rank = |key: &str| declared.iter().position(|d| d.key == key).unwrap_or(0);
        let layout = builder.finish(rank);
        let groups = self.tensors.into_iter().map(|t| (t.name, t.group));
        Ok((layout, declared, groups.collect()))
    }
}
