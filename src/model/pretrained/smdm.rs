//! SMDM: Llamas whose files come without a configuration, so that their sizes are those of their tensors.

use std::sync::Arc;

use serde::Deserialize;

use super::described::{Described, possible};
use crate::error::{Error, Result};
use crate::io::files::Files;
use crate::io::keyed;
use crate::io::safetensors::shapes;
use crate::model::trunks::{Llama, Names};

/// What a `config.json` that somebody wrote for such a file may say.
#[derive(Default, Deserialize)]
struct SmdmFields {
    n_head: Option<usize>,
}

/// Tokens of the longest sequence, in all that were published.
const LENGTH: usize = 2048;

/// Heads of the published models of a width: 64 wide, those of the larger ones 128.
fn published(width: usize, mlp_size: usize) -> Option<usize> {
    match width {
        640 if mlp_size == 1600 => Some(8),
        _ if mlp_size != width.saturating_mul(4) => None,
        256 | 384 | 512 | 576 | 640 | 768 | 896 | 1024 => Some(width / 64),
        1280 | 1408 | 1536 | 1792 | 2048 | 2176 => Some(width / 128),
        _ => None,
    }
}

/// What the weights `name` say of themselves; `config` is the text of a `config.json`, if there is one.
pub(super) async fn describe(
    files: &impl Files,
    name: &str,
    config: Option<&str>,
    model_type: &str,
) -> Result<Described> {
    let path = files.path(name);
    let damaged = |problem: String| Error::checkpoint(&path, None, problem);
    let fields: SmdmFields = match config {
        Some(text) => keyed::parse(text.as_bytes()).map_err(damaged)?,
        None => SmdmFields::default(),
    };
    let tensors = shapes(files, name).await?;
    let shape = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name);
        match tensor.map(|tensor| &tensor.shape[..]) {
            Some(&[rows, columns]) => Ok([rows, columns]),
            Some(other) => Err(damaged(format!("{name} is {other:?}, no matrix"))),
            None => Err(damaged(format!("has no {name}, which SMDM's files have"))),
        }
    };
    let [table, width] = shape("transformer.wte.weight")?;
    let [rows, _] = shape("lm_head.weight")?;
    if table.checked_sub(1) != Some(rows) {
        let problem =
            format!("its table has {table} rows for the {rows} of its head, not one more");
        return Err(damaged(problem));
    }
    let [mlp_size, _] = shape("transformer.h.0.mlp.swiglu.w1.weight")?;
    let [qkv, _] = shape("transformer.h.0.attn.attn.weight")?;
    let blocks = tensors
        .iter()
        .filter(|tensor| tensor.name.ends_with(".norm_1.weight"));
    let heads = fields.n_head.or_else(|| published(width, mlp_size)).ok_or_else(|| {
        damaged(format!(
            "is {width} wide with {mlp_size} between gate and down, as none that was published: say the number of heads, \
             {{\"model_type\": \"smdm\", \"n_head\": N}} as config.json of a folder with the file as model.safetensors"
        ))
    })?;
    let head_dim = width / heads.max(1);
    let kv_heads = (qkv / head_dim.max(1)).saturating_sub(heads) / 2;
    let n_blocks = blocks.count();
    possible(
        &[n_blocks, mlp_size, table],
        width,
        heads,
        kv_heads.max(1),
        head_dim,
    )
    .map_err(damaged)?;
    if kv_heads == 0 || qkv != (heads + 2 * kv_heads) * head_dim || heads * head_dim != width {
        let problem = format!(
            "{heads} heads cannot be: queries, keys and values have {qkv} rows for a width of {width}"
        );
        return Err(damaged(problem));
    }
    let trunk = Llama {
        vocab_size: table,
        hidden_size: width,
        n_blocks,
        n_heads: heads,
        n_kv_heads: kv_heads,
        head_dim,
        mlp_size,
        length: LENGTH,
        eps: 1e-5,
        rotary_base: 10000.0,
        rotary_dim: head_dim,
        qkv_bias: false,
        qk_norm: false,
        tied: false,
        causal: false,
        windows: Vec::new(),
        frozen_token: None,
        blind_pads: false,
        names: Names::Smdm,
    };
    let found = (Arc::new(trunk) as _, Some(rows as u32));
    Ok(Described::new(model_type.to_owned(), found, None))
}
