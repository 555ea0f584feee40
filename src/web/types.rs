//! Types of the objects that go in and out, for TypeScript.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What every function of this module throws. */
export interface MdlmError extends Error {
  /** Stable kind: no_adapter, unsupported, device_lost, out_of_memory, shape, token, config, argument, busy,
   *  checkpoint, corpus, io, non_finite, cancelled, internal. */
  code: string;
  /** A next step for a person. */
  hint?: string;
}
export type DeviceKind = "auto" | "webgpu" | "cpu";
export interface DeviceInfo {
  kind: "webgpu" | "cpu";
  name: string;
  detail: string;
  /** Whether it is GPU hardware. */
  hardware: boolean;
  /** Why it was taken. */
  reason: string;
}
/** Pipelines compiled, of those that are wanted. */
export interface Compilation { done: number; total: number; }
export interface ModelInfo {
  /** "mdlm", "ar", or the model_type of another program's model. */
  kind: string;
  parameters: number;
  bytes: number;
  vocab_size: number;
  mask_index: number;
  length: number;
  /** Of models of this crate's family. */
  hidden_size?: number;
  n_blocks?: number;
  n_heads?: number;
  /** What stands at the beginning of a canvas, if something does. */
  begin?: number;
  /** Token that begins a text; absent without a tokenizer. */
  bos?: number;
  /** Token that ends a document. */
  eos?: number;
  /** Token that fills up short texts, if there is one. */
  pad?: number;
}
/** The files of a model in the published layout. */
export interface ModelFiles { config: Uint8Array; weights: Uint8Array; tokenizer?: Uint8Array; }
/** How to read another program's model, where its files leave it open or say something else. */
export interface OpenOptions {
  /** How matrices are kept; "f32" if absent. */
  weights?: "f32" | "f16" | "bf16" | "q8" | "q4";
  mask?: number;
  /** Whether a row's logits are about the token behind it. */
  shift?: boolean;
  /** Positions of the blocks whose rows do not see those behind them; 0: every row sees all. */
  block?: number;
  model_type?: string;
}
/** What a published model is and needs. */
export interface Inspection {
  model_type: string; parameters: number; vocab_size: number;
  /** Ids below this one stand for something. */
  ids: number;
  mask_index: number; length: number; shift: boolean; block?: number;
  /** Whether there is a tokenizer.json. */
  tokenizer: boolean;
  /** How it is sampled unless told otherwise. */
  sampling: SampleOptions;
  /** Bytes of the weights, and of all that sampling needs; why the device cannot, if it is known not to. */
  memory: { weights: string; bytes: number; with_canvas: number; problem?: string }[];
  /** What is wrong with the weights' files, by their headers. */
  damage?: string;
}
/** One entry a position; a mask is an open position that holds the model's mask_index. */
export interface Canvas { tokens: Uint32Array; frozen: Uint8Array; }
/** The library's SampleConfig, the samplers' options among the others; what is absent keeps its default, what is unknown is refused. */
export interface SampleOptions extends SamplerOptions {
  steps?: number; seed?: number; sampler?: SamplerKind; temperature?: number; top_k?: number;
  top_p?: number; stride?: number; block?: number; guidance?: number;
  cache?: "exact" | "off" | "prefix" | "dual"; ends?: number[]; suppress?: number[]; late?: number[];
  regex?: string; json_schema?: string;
}
/** A sampler: which positions a step fills. */
export interface SamplerInfo {
  name: SamplerKind;
  summary: string;
  /** Whether it reads `steps`; the others take as many as they need. */
  has_steps: boolean;
  options: { key: keyof SamplerOptions; help: string; default: number; whole: boolean }[];
}
export interface Revealed { position: number; token: number; probability: number; entropy: number; }
export interface StepReport {
  step: number;
  /** 0 where the sampler takes as many as it needs. */
  steps: number;
  t: number;
  /** Share of tokens that are not masked at time t. */
  alpha_t: number;
  revealed: Revealed[];
  remasked: number[];
  masked: number;
  network_calls: number;
}
/** Training of a small model on one text. */
export interface TrainOptions {
  steps?: number; batch?: number; length?: number; lr?: number; seed?: number;
  /** "char": the text's own characters; "byte": the 256 bytes. */
  tokenizer?: "char" | "byte";
}
export interface StepStats {
  /** `null`: not finite, so the step changed nothing. */
  loss: number | null; grad_norm: number | null;
  step: number; lr: number; tokens: number; skipped: number;
}
export interface TrainerInfo {
  parameters: number; vocab_size: number; length: number; batch: number; steps: number;
  train_blocks: number; valid_blocks: number;
  /** Perplexity of the token frequencies alone on the held-out text. */
  unigram_perplexity: number;
}
/** `null`: not finite; a single block has no error. */
export interface Perplexity { perplexity: number | null; std_err: number | null; tokens: number; }
"#;

#[wasm_bindgen]
extern "C" {
    /// What a device is and why it was taken.
    #[wasm_bindgen(typescript_type = "DeviceInfo")]
    pub type DeviceInfo;
    /// Pipelines compiled, of those that are wanted.
    #[wasm_bindgen(typescript_type = "Compilation")]
    pub type Compilation;
    /// Size, shape and special tokens of a model.
    #[wasm_bindgen(typescript_type = "ModelInfo")]
    pub type ModelInfo;
    /// The files of one folder.
    #[wasm_bindgen(typescript_type = "File[]")]
    pub type GivenFiles;
    /// How to read another program's model; `undefined`: as its files say.
    #[wasm_bindgen(typescript_type = "OpenOptions | undefined")]
    pub type OpenOptions;
    /// What a published model is and needs.
    #[wasm_bindgen(typescript_type = "Inspection")]
    pub type Inspection;
    /// Files of a model in the published layout, as bytes.
    #[wasm_bindgen(typescript_type = "ModelFiles")]
    pub type ModelFiles;
    /// A canvas: tokens and frozen flags, one entry a position each.
    #[wasm_bindgen(typescript_type = "Canvas")]
    pub type JsCanvas;
    /// Settings of a sampler; `undefined`: the defaults.
    #[wasm_bindgen(typescript_type = "SampleOptions | undefined")]
    pub type SampleOptions;
    /// Names, summaries and options of all samplers.
    #[wasm_bindgen(typescript_type = "SamplerInfo[]")]
    pub type Samplers;
    /// What a sampling step did; `undefined` when nothing is left to do.
    #[wasm_bindgen(typescript_type = "StepReport | undefined")]
    pub type StepReport;
    /// Settings of a training run; `undefined`: the defaults.
    #[wasm_bindgen(typescript_type = "TrainOptions | undefined")]
    pub type TrainOptions;
    /// Figures of a training step.
    #[wasm_bindgen(typescript_type = "StepStats")]
    pub type StepStats;
    /// Sizes of a training run, and the unigram perplexity of its held-out text.
    #[wasm_bindgen(typescript_type = "TrainerInfo")]
    pub type TrainerInfo;
    /// Perplexity with its error.
    #[wasm_bindgen(typescript_type = "Perplexity")]
    pub type Perplexity;
    /// Text of every token, by id.
    #[wasm_bindgen(typescript_type = "string[]")]
    pub type Texts;
    /// Ids of tokens that are parts of characters, with their bytes.
    #[wasm_bindgen(typescript_type = "[id: number, bytes: number[]][]")]
    pub type Fragments;
}
