//! What can be sampled: errors of canvases and settings that could not work.

use crate::config::{Cache, SamplerKind};
use crate::error::{Error, Result};
use crate::model::check_tokens;
use crate::sample::Canvas;

/// Errors of canvases that no model could fill.
pub fn check_canvases(canvases: &[Canvas], vocab_size: usize, mask_index: u32) -> Result<()> {
    if canvases.is_empty() {
        return Err(Error::argument("canvases", 0, "there must be at least one"));
    }
    for canvas in canvases {
        if canvas.is_empty() {
            let problem = "there must be at least one position";
            return Err(Error::argument("canvas length", 0, problem));
        }
        check_tokens(&canvas.tokens(mask_index), vocab_size)?;
        if let Some(i) = (0..canvas.len()).find(|&i| canvas.token(i) == Some(mask_index)) {
            let problem = "holds the mask token; open it instead";
            return Err(Error::argument("canvas position", i, problem));
        }
    }
    Ok(())
}

/// The sampler of an autoregressive model.
pub fn left_to_right(asked: SamplerKind) -> Result<SamplerKind> {
    if [SamplerKind::ANCESTRAL, SamplerKind::LEFT_TO_RIGHT].contains(&asked) {
        return Ok(SamplerKind::LEFT_TO_RIGHT);
    }
    let problem = "an autoregressive model samples left-to-right; leave it out";
    Err(Error::config("sampling.sampler", asked.name, problem))
}

/// Errors of a cache that an autoregressive model does not have.
pub fn check_cache(cache: Cache) -> Result<()> {
    if matches!(cache, Cache::Exact | Cache::Off) {
        return Ok(());
    }
    let problem =
        "is for denoisers: an autoregressive model keeps what does not change; leave it out";
    Err(Error::config("sampling.cache", cache, problem))
}

/// Errors of a canvas that an autoregressive model cannot fill.
pub fn check_prefix(canvas: &Canvas) -> Result<()> {
    let masked = canvas.masked();
    if masked.first() == Some(&0) {
        let problem = "is open, but an autoregressive model predicts from what stands before: give \
                       it a BOS";
        return Err(Error::argument("canvas position", 0, problem));
    }
    let first = masked.first().copied().unwrap_or(canvas.len());
    if let Some(i) = (first..canvas.len()).find(|&i| canvas.token(i).is_some()) {
        let problem = format!(
            "holds a token behind the open position {first}, which an autoregressive model would \
             not see: open it, or use a diffusion model"
        );
        return Err(Error::argument("canvas position", i, problem));
    }
    Ok(())
}
