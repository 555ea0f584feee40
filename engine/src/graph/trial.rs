//! Matrix units are trusted after they have multiplied right once: drivers and the feature of wgpu are young.

use std::sync::Arc;

use super::{FORWARD, Graph, PARAMS, Session, Storage, Tensor};
use crate::device::{Backend, Device};
use crate::error::Result;
use crate::gpu::{Context, Tuning};
use crate::program::{Arena, Element, Step};

impl Session {
    /// Plans the graph and creates everything it needs. `weights` is the arena bound as
    /// parameters (their average can stand in for them); `outputs` come back from every run.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] or [`crate::Error::OutOfMemory`] if the device cannot hold it;
    /// [`crate::Error::Internal`] for a storage of another model or device.
    pub async fn new(
        device: &Device,
        graph: &mut Graph,
        storage: &Storage,
        weights: Arena,
        outputs: &[Tensor],
    ) -> Result<Self> {
        let tuning = match device.backend() {
            Backend::Gpu(context) => Some(trusted(device, context, graph).await?),
            _ => None,
        };
        Self::tuned(device, graph, storage, weights, outputs, tuning).await
    }
}

/// The device's constants, without its matrix units if a graph would use them and they do not multiply right.
async fn trusted(device: &Device, context: &Context, graph: &Graph) -> Result<Tuning> {
    let tuning = context.tuning;
    let without = Tuning {
        cooperative: None,
        ..tuning
    };
    if cfg!(target_arch = "wasm32") || tuning.cooperative.is_none() || !graph.has_halves() {
        return Ok(without);
    }
    let right = match context.units_right.get() {
        Some(&right) => right,
        None => {
            let right = multiply_right(device, tuning).await?;
            *context.units_right.get_or_init(|| right)
        }
    };
    Ok(if right { tuning } else { without })
}

/// Multiplies whole numbers, whose sums are exact in f16, in both of the kernel's tiles.
async fn multiply_right(device: &Device, tuning: Tuning) -> Result<bool> {
    const TERMS: usize = 64;
    let number = |row: usize, k: usize| ((row * 7 + k * 5 + row * k) % 9) as f64 - 4.0;
    let matrix = |rows: usize| -> Vec<f64> {
        let index = 0..rows * TERMS;
        index.map(|i| number(i / TERMS, i % TERMS)).collect()
    };
    for rows in [64, 1024] {
        let mut graph = Graph::new(Arc::default());
        let a = graph.input("a", &[rows, TERMS]);
        let same = graph.input("same", &[TERMS, TERMS]);
        let b = graph.input("b", &[rows, TERMS]);
        graph.set_precision(Element::F16);
        let half = graph.linear("half", a, same, None)?;
        graph.set_precision(Element::F32);
        let c = graph.linear("c", half, b, None)?;
        let layout = graph.layout().clone();
        let mut storage = Storage::new(device, &layout, &[PARAMS]).await?;
        let mut session =
            Session::tuned(device, &mut graph, &storage, PARAMS, &[c], Some(tuning)).await?;
        let unit: Vec<f64> = (0..TERMS * TERMS)
            .map(|i| f64::from(u8::from(i / TERMS == i % TERMS)))
            .collect();
        session.write(a, &matrix(rows))?;
        session.write(same, &unit)?;
        session.write(b, &matrix(rows))?;
        let got = session
            .run(&mut storage, &Step::default(), &[FORWARD])
            .await?;
        let product = |i: usize| -> f64 {
            let (row, col) = (i / rows, i % rows);
            (0..TERMS).map(|k| number(row, k) * number(col, k)).sum()
        };
        if !got.iter().enumerate().all(|(i, &c)| c == product(i)) {
            return Ok(false);
        }
    }
    Ok(true)
}
