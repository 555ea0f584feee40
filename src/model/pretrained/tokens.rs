//! The tokenizer of somebody else's model, and which of its tokens is the mask.

use serde::Deserialize;

use super::Described;
use crate::data::{SpecialNames, Tokenizer};
use crate::error::{Error, Result};
use crate::io::files::{Files, read_text};
use crate::io::keyed;
use crate::model::published::{MAX_CONFIG_BYTES, TOKENIZER};
#[cfg(not(target_arch = "wasm32"))]
use crate::{data::gguf, io::gguf::Metadata};

/// A name of a token: alone, or with how it is found in text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Plain(String),
    Full { content: String },
}

#[derive(Deserialize)]
struct Names {
    bos_token: Option<Name>,
    eos_token: Option<Name>,
    mask_token: Option<Name>,
    pad_token: Option<Name>,
}

/// The tokenizer among some files, if there is one, and the mask's id. The id is `mask`, else what the configuration
/// says, else what the tokenizer calls its mask.
///
/// # Errors
/// [`Error::Checkpoint`] if nothing says which id the mask is, or the tokenizer has ids that the network lacks;
/// [`Error::Corpus`] for a file that is no tokenizer; [`Error::Io`].
pub(crate) async fn tokenizer(
    files: &impl Files,
    described: &Described,
    mask: Option<u32>,
) -> Result<(Option<Tokenizer>, u32)> {
    let path = files.path(TOKENIZER);
    if !files.has(TOKENIZER) {
        return fitted(&path, described, mask, SpecialNames::default(), None);
    }
    let json = Tokenizer::read(files, TOKENIZER).await?;
    let made = |names: &SpecialNames| Tokenizer::from_named(&path, &json, names);
    fitted(&path, described, mask, names(files).await?, Some(&made))
}

/// As [`tokenizer`], of a GGUF file with this metadata.
///
/// # Errors
/// As [`tokenizer`].
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn gguf_tokenizer(
    path: &std::path::Path,
    metadata: &Metadata,
    described: &Described,
    mask: Option<u32>,
) -> Result<(Option<Tokenizer>, u32)> {
    let Some((json, names)) = gguf::tokenizer(metadata)? else {
        return fitted(path, described, mask, SpecialNames::default(), None);
    };
    let made = |names: &SpecialNames| {
        Tokenizer::from_json_named(&json, names)
            .map_err(|e| Error::checkpoint(path, None, e.to_string()))
    };
    fitted(path, described, mask, names, Some(&made))
}

/// Makes a tokenizer with names of special tokens.
type Maker<'a> = dyn Fn(&SpecialNames) -> Result<Tokenizer> + 'a;

/// A tokenizer whose mask and ids are the network's.
fn fitted(
    path: &std::path::Path,
    described: &Described,
    mask: Option<u32>,
    mut names: SpecialNames,
    made: Option<&Maker<'_>>,
) -> Result<(Option<Tokenizer>, u32)> {
    let (rows, mask) = (described.trunk.vocab_size(), mask.or(described.mask_token));
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    if let Some(id) = mask.filter(|&id| id as usize >= rows) {
        return Err(damaged(format!(
            "the mask is {id}, beyond the network's {rows} rows"
        )));
    }
    let Some(made) = made else {
        let mask = mask.ok_or_else(|| {
            damaged(
                "there is no tokenizer, and nothing else says which id the mask is: say it".into(),
            )
        })?;
        return Ok((None, mask));
    };
    let mut tokenizer = made(&names)?;
    if let Some(id) = mask.filter(|&id| id != tokenizer.mask_index()) {
        let name = tokenizer.token_name(id);
        names.mask_token = name.ok_or_else(|| damaged(format!("has no token {id}, the mask")))?;
        tokenizer = made(&names)?;
    }
    let guessed = mask.is_none() && tokenizer.lacks_mask();
    // a mask that no tokenizer has stands behind all that they have
    let behind = mask.is_some() && tokenizer.lacks_mask();
    if guessed || !behind && tokenizer.token_name(tokenizer.mask_index()).is_none() {
        let problem = "neither it nor config.json says which id the mask is: say it";
        return Err(damaged(problem.into()));
    }
    if tokenizer.vocab_size() > rows {
        let problem = format!(
            "has {} ids, the network {rows} rows",
            tokenizer.vocab_size()
        );
        return Err(damaged(problem));
    }
    let mask = tokenizer.mask_index();
    Ok((Some(tokenizer), mask))
}

/// Names of special tokens in `tokenizer_config.json`; the usual ones where it says nothing.
async fn names(files: &impl Files) -> Result<SpecialNames> {
    const NAME: &str = "tokenizer_config.json";
    if !files.has(NAME) {
        return Ok(SpecialNames::default());
    }
    let text = read_text(files, NAME, MAX_CONFIG_BYTES).await?;
    let names: Names =
        keyed::parse(text.as_bytes()).map_err(|e| Error::checkpoint(&files.path(NAME), None, e))?;
    let name = |name: Option<Name>| match name {
        Some(Name::Plain(name) | Name::Full { content: name }) => name,
        None => String::new(),
    };
    Ok(SpecialNames {
        bos_token: name(names.bos_token),
        eos_token: name(names.eos_token),
        mask_token: name(names.mask_token),
        pad_token: name(names.pad_token),
    })
}
