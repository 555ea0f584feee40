//! The model, shared by the samplers made from it.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Object, Reflect, Uint8Array, Uint32Array};
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use super::arguments;
use super::convert::object;
use super::device::Device;
use super::error::{JsResult, thrown};
use super::types::{Fragments, JsCanvas, ModelFiles, ModelInfo, Texts};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::io::safetensors::Precision;
use crate::model::{Load, Model as Inner, Published};
use crate::sample::{Canvas, Denoiser, DrawOptions, Drawn, Facts};

/// A denoiser or its autoregressive sibling, with its weights on a device.
#[wasm_bindgen]
pub struct Model(pub(super) Shared);

/// A model that is lent to one call at a time.
#[derive(Clone)]
pub(super) struct Shared {
    slot: Rc<RefCell<Option<Inner>>>,
    /// What is known of it also while it works.
    pub(super) facts: Rc<Facts>,
    tokenizer: Rc<Option<Tokenizer>>,
    /// What stands at the beginning of a canvas.
    begin: Option<u32>,
}

/// A model taken out of its slot, which goes back when this is dropped.
pub(super) struct Loan<'a> {
    model: Option<Inner>,
    slot: &'a RefCell<Option<Inner>>,
}

impl Loan<'_> {
    pub(super) fn model(&mut self) -> Result<&mut Inner> {
        let busy = || Error::Busy { what: "the model" };
        self.model.as_mut().ok_or_else(busy)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if self.model.is_some() {
            *self.slot.borrow_mut() = self.model.take();
        }
    }
}

impl Shared {
    pub(super) fn new(model: Inner) -> Self {
        Self {
            facts: Rc::new(model.facts()),
            tokenizer: Rc::new(model.tokenizer().cloned()),
            begin: model.frame()[0],
            slot: Rc::new(RefCell::new(Some(model))),
        }
    }

    pub(super) fn lend(&self) -> Loan<'_> {
        Loan {
            model: self.slot.borrow_mut().take(),
            slot: &self.slot,
        }
    }

    pub(super) fn tokenizer(&self) -> JsResult<&Tokenizer> {
        let missing = || {
            let problem = "the model came without one";
            thrown(Error::argument("tokenizer", "none", problem))
        };
        self.tokenizer.as_ref().as_ref().ok_or_else(missing)
    }
}

impl Denoiser for Shared {
    fn facts(&self) -> Facts {
        (*self.facts).clone()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let mut loan = self.lend();
        loan.model()?.draw(xt, t, rows, options).await
    }
}

#[derive(Serialize)]
struct Info {
    kind: String,
    parameters: u64,
    bytes: u64,
    vocab_size: usize,
    mask_index: u32,
    length: usize,
    #[serde(flatten)]
    shape: Option<Shape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    begin: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad: Option<u32>,
}

/// Of models of this crate's family.
#[derive(Serialize)]
struct Shape {
    hidden_size: usize,
    n_blocks: usize,
    n_heads: usize,
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from the files of the published layout.
    pub async fn load(
        device: &Device,
        config: Vec<u8>,
        weights: Vec<u8>,
        tokenizer: Option<Vec<u8>>,
    ) -> JsResult<Model> {
        let files = Published {
            config,
            weights,
            tokenizer,
        };
        let device = device.0.clone();
        let how = Load::default();
        let model = Inner::load_files(&device, &files, &how)
            .await
            .map_err(thrown)?;
        Ok(Self(Shared::new(model)))
    }

    /// Size and shape, and the tokenizer's special tokens if there is one.
    pub fn info(&self) -> JsResult<ModelInfo> {
        let mut loan = self.0.lend();
        let model = loan.model().map_err(thrown)?;
        let (shape, size) = (model.config().ok(), model.info());
        let made = object(&Info {
            kind: model.model_type().to_owned(),
            parameters: size.parameters,
            bytes: size.bytes,
            vocab_size: model.vocab_size(),
            mask_index: model.mask_index(),
            length: model.length(),
            shape: shape.map(|config| Shape {
                hidden_size: config.hidden_size,
                n_blocks: config.n_blocks,
                n_heads: config.n_heads,
            }),
            begin: self.0.begin,
            bos: model.tokenizer().map(Tokenizer::bos),
            eos: model.tokenizer().map(Tokenizer::eos),
            pad: model.tokenizer().and_then(Tokenizer::pad),
        })?;
        Ok(made.unchecked_into())
    }

    /// Text of every token, by id.
    pub fn vocabulary(&self) -> JsResult<Texts> {
        let tokenizer = self.0.tokenizer()?;
        let ids = 0..self.0.facts.vocab_size as u32;
        let texts: Vec<String> = ids.map(|id| tokenizer.token_text(id)).collect();
        Ok(object(&texts)?.unchecked_into())
    }

    /// Tokens that are only parts of characters, with their bytes.
    pub fn fragments(&self) -> JsResult<Fragments> {
        let tokenizer = self.0.tokenizer()?;
        let ids = 0..self.0.facts.vocab_size as u32;
        let all: Vec<(u32, Vec<u8>)> = ids
            .filter_map(|id| Some((id, tokenizer.fragment(id)?)))
            .collect();
        Ok(object(&all)?.unchecked_into())
    }

    /// A canvas that begins with the token that begins a block, if the model has one there, then holds what a template says (text is
    /// frozen, `[MASK]` is an open position, `[MASK:n]` are n), and is open from there to `length`.
    pub fn canvas(&self, template: &str, length: usize) -> JsResult<JsCanvas> {
        let tokenizer = self.0.tokenizer()?;
        let (begin, facts) = (self.0.begin, &self.0.facts);
        let made = arguments::canvas(template, length, tokenizer, begin, facts.length);
        to_js(&made.map_err(thrown)?, facts.mask_index)
    }

    /// Text of tokens; masks read `_`.
    pub fn text(&self, tokens: &[u32]) -> JsResult<String> {
        Ok(self.0.tokenizer()?.decode_with(tokens, "_"))
    }

    /// Raw logits `[length, V]` of one noisy sequence at diffusion time t.
    pub async fn logits(&self, tokens: Vec<u32>, t: f64) -> JsResult<Vec<f32>> {
        let shared = self.0.clone();
        let sigma = shared.facts.schedule.sigma(t);
        let mut loan = shared.lend();
        let model = loan.model().map_err(thrown)?;
        model.logits(&tokens, &[sigma]).await.map_err(thrown)
    }

    /// Its files in the published layout, weights in f32.
    pub async fn save(&self) -> JsResult<ModelFiles> {
        let shared = self.0.clone();
        let mut loan = shared.lend();
        let model = loan.model().map_err(thrown)?;
        let files = model.publish(Precision::F32).await.map_err(thrown)?;
        let made = Object::new();
        let set = |key: &str, bytes: &[u8]| {
            Reflect::set(&made, &key.into(), &Uint8Array::from(bytes)).map(drop)
        };
        set("config", &files.config)?;
        set("weights", &files.weights)?;
        if let Some(tokenizer) = &files.tokenizer {
            set("tokenizer", tokenizer)?;
        }
        Ok(made.unchecked_into())
    }
}

/// A canvas as the two arrays that JavaScript has of it.
pub(super) fn to_js(canvas: &Canvas, mask_index: u32) -> JsResult<JsCanvas> {
    let tokens = Uint32Array::from(&canvas.tokens(mask_index)[..]);
    let frozen: Vec<u8> = (0..canvas.len())
        .map(|i| u8::from(canvas.is_frozen(i)))
        .collect();
    let made = Object::new();
    Reflect::set(&made, &"tokens".into(), &tokens)?;
    Reflect::set(&made, &"frozen".into(), &Uint8Array::from(&frozen[..]))?;
    Ok(made.unchecked_into())
}

/// The canvas of two arrays.
pub(super) fn from_js(canvas: &JsValue, mask_index: u32) -> JsResult<Canvas> {
    let refused = |problem: &str| thrown(Error::argument("canvas", "the object given", problem));
    let get = |key: &str| Reflect::get(canvas, &key.into());
    let tokens = get("tokens")?
        .dyn_into::<Uint32Array>()
        .map_err(|_| refused("tokens must be a Uint32Array"))?
        .to_vec();
    let frozen = get("frozen")?
        .dyn_into::<Uint8Array>()
        .map_err(|_| refused("frozen must be a Uint8Array"))?
        .to_vec();
    if tokens.len() != frozen.len() {
        return Err(refused("tokens and frozen must be of one length"));
    }
    let position = |(&token, &frozen): (&u32, &u8)| {
        let token = (token != mask_index).then_some(token);
        (token, frozen != 0)
    };
    Ok(Canvas::of(tokens.iter().zip(&frozen).map(position)))
}
