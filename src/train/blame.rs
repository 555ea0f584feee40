//! Which tensor of a step was not finite first.

use crate::config::OptimConfig;
use crate::device::Device;
use crate::error::Result;
use crate::graph::{GRADS, PARAMS, Storage, UPDATE};
use crate::model::{Network, Options, Pass};
use crate::ops::{RowLoss, TRAINING};
use crate::program::Step;
use crate::train::TrainSession;

/// Computes a step's passes again with everything kept, and names the first tensor with a number that is not finite, in
/// the order in which they come: weights, what the batch weighs, activations, their gradients, the weights' gradients;
/// where only the norm of these is not, the largest of them. `storage` is only read; on the device there is room needed
/// for a second one and for all activations.
///
/// # Errors
/// What the device refuses; [`crate::Error::DeviceLost`] and its kin.
pub async fn first_not_finite(
    device: &Device,
    network: &Network,
    storage: &Storage,
    optim: &OptimConfig,
    row_loss: RowLoss,
    options: Options,
    passes: &[(Step, &Pass)],
) -> Result<Option<String>> {
    let layout = &network.layout;
    let of_keys = |what: &str, values: &[Vec<f64>]| {
        let mut keys = layout.keys().iter().zip(values);
        keys.find_map(|(key, values)| found(what, &key.key, values))
    };
    let given = |(_, pass): &(Step, &Pass)| {
        let weights = found("batch's", "weights", &pass.weights);
        weights.or_else(|| found("batch's", "coefficients", &pass.coefficients))
    };
    let weights = of_keys("weight", &storage.read(PARAMS).await?);
    if let Some(first) = weights.or_else(|| passes.iter().find_map(given)) {
        return Ok(Some(first));
    }
    let mut apart = Storage::new(device, layout, &TRAINING).await?;
    for slab in 0..layout.slabs().len() {
        apart.copy_slab(PARAMS, slab, storage, PARAMS).await?;
    }
    let options = Options {
        keep_all: true,
        ..options
    };
    let made = TrainSession::new(device, network, &apart, optim, row_loss, options, None);
    let mut again = made.await?;
    for (step, pass) in passes {
        again.run(&mut apart, pass, step.clone(), false).await?;
        let graph = &again.graph.graph;
        let mut tensors = graph.computed_before(UPDATE);
        // logits become their gradients along with the losses of their rows, which say more
        let scored = tensors.iter().position(|&t| graph.name(t) == "logits");
        tensors.insert(scored.unwrap_or(0), again.graph.nll);
        for tensor in tensors {
            let len = graph.len(tensor);
            let values = again.session().read(&apart, tensor, len).await?;
            if let Some(first) = found("tensor", graph.name(tensor), &values) {
                return Ok(Some(first));
            }
        }
    }
    let gradients = apart.read(GRADS).await?;
    Ok(of_keys("gradient of", &gradients).or_else(|| too_large(network, &gradients)))
}

/// The largest of finite gradients, if their norm is not finite in f32.
fn too_large(network: &Network, gradients: &[Vec<f64>]) -> Option<String> {
    let squares: f64 = gradients.iter().flatten().map(|x| x * x).sum();
    if squares <= f32::MAX.into() {
        return None;
    }
    let keys = network.layout.keys().iter().zip(gradients);
    let all = keys.flat_map(|(key, values)| values.iter().enumerate().map(move |x| (key, x)));
    let (key, (place, value)) = all.max_by(|a, b| a.1.1.abs().total_cmp(&b.1.1.abs()))?;
    Some(format!(
        "the norm of gradients, the largest of which, of {}, element {place}, is {value:e}",
        key.key
    ))
}

/// The first of some values that is not finite, in words.
fn found(what: &str, name: &str, values: &[f64]) -> Option<String> {
    let place = values.iter().position(|value| !value.is_finite())?;
    Some(format!(
        "{what} {name}, element {place} is {}",
        values[place]
    ))
}
