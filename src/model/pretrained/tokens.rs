//! The tokenizer of somebody else's model, and which of its tokens is the mask.

use std::path::Path;

use serde::Deserialize;

use super::Described;
use crate::data::gguf;
use crate::data::{SpecialNames, Tokenizer};
use crate::error::{Error, Result};
use crate::io::checkpoint::read_text;
use crate::io::gguf::Metadata;
use crate::io::keyed;
use crate::model::published::MAX_CONFIG_BYTES;

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

/// The tokenizer of a folder or of a GGUF file, if there is one, and the mask's id. The id is `mask`, else what the
/// configuration says, else what the tokenizer calls its mask.
///
/// # Errors
/// [`Error::Checkpoint`] if nothing says which id the mask is, or the tokenizer has ids that the network lacks;
/// [`Error::Corpus`] for a file that is no tokenizer; [`Error::Io`].
pub(crate) fn tokenizer(
    dir: &Path,
    described: &Described,
    mask: Option<u32>,
) -> Result<(Option<Tokenizer>, u32)> {
    let path = dir.join("tokenizer.json");
    let (names, json) = match path.is_file() {
        true => (names(dir)?, Some(Source::File)),
        false => (SpecialNames::default(), None),
    };
    fitted(&path, described, mask, names, json)
}

/// As [`tokenizer`], of a file with this metadata.
///
/// # Errors
/// As [`tokenizer`].
pub(crate) fn gguf_tokenizer(
    path: &Path,
    metadata: &Metadata,
    described: &Described,
    mask: Option<u32>,
) -> Result<(Option<Tokenizer>, u32)> {
    let (json, names) = gguf::tokenizer(metadata)?.unzip();
    let source = json.map(Source::Json);
    fitted(path, described, mask, names.unwrap_or_default(), source)
}

/// Where a `tokenizer.json` is.
enum Source {
    File,
    Json(Vec<u8>),
}

impl Source {
    fn read(&self, path: &Path, names: &SpecialNames) -> Result<Tokenizer> {
        match self {
            Self::File => Tokenizer::from_file_named(path, names),
            Self::Json(json) => Tokenizer::from_json_named(json, names)
                .map_err(|e| Error::checkpoint(path, None, e.to_string())),
        }
    }
}

/// A tokenizer whose mask and ids are the network's.
fn fitted(
    path: &Path,
    described: &Described,
    mask: Option<u32>,
    mut names: SpecialNames,
    source: Option<Source>,
) -> Result<(Option<Tokenizer>, u32)> {
    let (rows, mask) = (described.trunk.vocab_size(), mask.or(described.mask_token));
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    if let Some(id) = mask.filter(|&id| id as usize >= rows) {
        return Err(damaged(format!(
            "the mask is {id}, beyond the network's {rows} rows"
        )));
    }
    let Some(source) = source else {
        let mask = mask.ok_or_else(|| {
            damaged(
                "there is no tokenizer, and nothing else says which id the mask is: say it".into(),
            )
        })?;
        return Ok((None, mask));
    };
    let mut tokenizer = source.read(path, &names)?;
    if let Some(id) = mask.filter(|&id| id != tokenizer.mask_index()) {
        let name = tokenizer.token_name(id);
        names.mask_token = name.ok_or_else(|| damaged(format!("has no token {id}, the mask")))?;
        tokenizer = source.read(path, &names)?;
    }
    if tokenizer.token_name(tokenizer.mask_index()).is_none() {
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
fn names(dir: &Path) -> Result<SpecialNames> {
    let path = dir.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(SpecialNames::default());
    }
    let text = read_text(&path, MAX_CONFIG_BYTES)?;
    let names: Names =
        keyed::parse(text.as_bytes()).map_err(|e| Error::checkpoint(&path, None, e))?;
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
