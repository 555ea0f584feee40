//! A small graph over random numbers: named tensors with their values, and what an operation makes of them.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

use mdlm_engine::error::Result;
use mdlm_engine::graph::{Graph, Layout, Tensor};
use mdlm_engine::ops::DROPOUT_KEY;
use mdlm_engine::program::{Extent, Step};
use mdlm_engine::rng::{Rng, Stream};

pub enum Role {
    /// Gets a gradient.
    Param(Vec<f64>),
    Input(Vec<f64>),
    Uint(Vec<u32>),
}

/// Named tensors with their values, and the step that they are run with.
pub struct Case {
    pub name: String,
    pub step: Step,
    /// Whether to take differences: not where a run is long.
    pub differences: bool,
    pub tensors: Vec<(&'static str, Vec<usize>, Role)>,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Self {
        let step = Step::default().with(DROPOUT_KEY, [11, 12]);
        Self {
            name: name.into(),
            step,
            differences: true,
            tensors: Vec::new(),
        }
    }

    /// A tensor that gets a gradient, uniform in ±scale.
    pub fn param(&mut self, name: &'static str, shape: &[usize], scale: f64) -> &mut Self {
        let values = self.values(shape, scale);
        self.add(name, shape, Role::Param(values))
    }

    /// Numbers without a gradient, uniform in ±scale.
    pub fn input(&mut self, name: &'static str, shape: &[usize], scale: f64) -> &mut Self {
        let values = self.values(shape, scale);
        self.add(name, shape, Role::Input(values))
    }

    /// Given numbers without a gradient.
    pub fn given(&mut self, name: &'static str, shape: &[usize], values: Vec<f64>) -> &mut Self {
        self.add(name, shape, Role::Input(values))
    }

    /// Integers; `values` may be shorter than the tensor.
    pub fn uint(&mut self, name: &'static str, shape: &[usize], values: &[u32]) -> &mut Self {
        self.add(name, shape, Role::Uint(values.to_vec()))
    }

    fn add(&mut self, name: &'static str, shape: &[usize], role: Role) -> &mut Self {
        self.tensors.push((name, shape.to_vec(), role));
        self
    }

    fn values(&self, shape: &[usize], scale: f64) -> Vec<f64> {
        let index = self.tensors.len() as u64;
        random(index, shape.iter().product(), scale)
    }

    pub fn params(&self) -> impl Iterator<Item = (&'static str, &[usize], &[f64])> {
        self.tensors
            .iter()
            .filter_map(|(name, shape, role)| match role {
                Role::Param(values) => Some((*name, &shape[..], &values[..])),
                _ => None,
            })
    }
}

/// Numbers uniform in ±scale that f32 can hold, so that every executor starts from the same.
pub fn random(stream: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut rng = Rng::new(1, Stream::Init, stream);
    let mut next = || f64::from((scale * (2.0 * rng.uniform() - 1.0)) as f32);
    (0..n).map(|_| next()).collect()
}

/// The case's tensors in a graph, by name.
pub struct Tensors(HashMap<&'static str, Tensor>);

impl Index<&str> for Tensors {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        &self.0[name]
    }
}

enum Loss {
    /// A random combination of the first output's elements.
    Combination,
    Own(Tensor),
    None,
}

#[derive(Clone, Copy)]
pub struct Output {
    pub tensor: Tensor,
    /// Elements that mean something.
    pub live: usize,
    pub exact: bool,
}

/// What a case's graph computes.
pub struct Made {
    outputs: Vec<Output>,
    loss: Loss,
}

impl Made {
    /// Outputs; the gradient checked is that of the first one.
    pub fn new(g: &Graph, outputs: &[Tensor]) -> Self {
        let output = |tensor| Output {
            tensor,
            live: g.len(tensor),
            exact: false,
        };
        Self {
            outputs: outputs.iter().map(|&t| output(t)).collect(),
            loss: Loss::Combination,
        }
    }

    /// Only the first elements of each output mean anything.
    pub fn first(mut self, lens: &[usize]) -> Self {
        for (output, &len) in self.outputs.iter_mut().zip(lens) {
            output.live = len;
        }
        self
    }

    /// Output `i` must be equal on every executor.
    pub fn exact(mut self, i: usize) -> Self {
        self.outputs[i].exact = true;
        self
    }

    /// The gradient checked is that of this scalar.
    pub fn loss(mut self, loss: Tensor) -> Self {
        self.loss = Loss::Own(loss);
        self
    }

    pub fn without_gradient(mut self) -> Self {
        self.loss = Loss::None;
        self
    }
}

/// Appends an operation to a graph over a case's tensors. It is told whether gradients are wanted, for operations that
/// make them in their forward pass.
pub type Build<'a> = &'a (dyn Fn(&mut Graph, &Tensors, bool) -> Result<Made> + Sync);

/// A case's graph.
pub struct Built {
    pub graph: Graph,
    pub tensors: Tensors,
    pub outputs: Vec<Output>,
    pub loss: Option<Tensor>,
    /// The weights of a combination, and their values.
    pub weights: Option<(Tensor, Vec<f64>)>,
}

impl Case {
    /// The graph, with parameters in slabs of at most `limit` elements; `gradient`: with the backward pass.
    pub fn graph(&self, limit: usize, gradient: bool, build: Build<'_>) -> Built {
        let mut layout = Layout::builder(limit);
        let mut ids = HashMap::new();
        for (name, shape, _) in self.params() {
            ids.insert(name, layout.tensor(name, shape).unwrap());
        }
        let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
        let place = |(name, shape, role): &(&'static str, Vec<usize>, Role)| {
            let tensor = match role {
                Role::Param(_) => g.param(ids[name]),
                Role::Input(_) => g.input(name, shape),
                Role::Uint(_) => g.input_uint(name, shape),
            };
            (*name, tensor)
        };
        let tensors = Tensors(self.tensors.iter().map(place).collect());
        let Made { outputs, loss } = build(&mut g, &tensors, gradient).unwrap();
        let mut weights = None;
        let loss = match loss {
            Loss::None => None,
            Loss::Own(loss) => Some(loss),
            Loss::Combination => {
                let Output {
                    tensor: y, live, ..
                } = outputs[0];
                let n = g.len(y);
                let w = g.input("combination", &[n]);
                let mut values = random(1000, n, 1.0);
                values[live..].fill(0.0);
                weights = Some((w, values));
                Some(g.weighted_sum("loss", y, w, Extent::Fixed(n)).unwrap())
            }
        };
        if let (Some(loss), true) = (loss, gradient) {
            g.backward(loss).unwrap();
        }
        Built {
            graph: g,
            tensors,
            outputs,
            loss,
            weights,
        }
    }
}
