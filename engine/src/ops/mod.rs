//! The operations, one file each: shape rule, backward rule, kernels and twin.

mod activation;
mod adamw;
mod add_rows;
mod attention;
mod categorical;
mod drift;
mod dropout;
mod elementwise;
mod embedding;
mod epilogue;
mod gated;
mod gated_residual;
mod gather_rows;
mod grad_norm;
mod head_loss;
mod heads;
mod linear;
mod matmul;
mod modulation;
mod muon;
mod norm;
mod orthogonalise;
mod parts;
mod restrict;
mod roofline;
mod rotary;
mod row_loss;
mod store_rows;
mod subs;
mod update;
pub mod visibility;
mod weighted_sum;

pub use activation::Activation;
pub use adamw::{
    ADAM_M, ADAM_V, AdamwConfig, BIAS1, BIAS2, EMA, EMA_DECAY, LR, ROUNDING_KEY, TRAINING,
};
pub use attention::{Attend, Seen};
pub use categorical::{
    Draws, INVERSE_TEMPERATURE, KEY_WORDS, Never, OPEN, Race, SHARPNESS, TOP_K, TOP_P,
};
pub use drift::Last;
pub use dropout::{DROPOUT_KEY, Dropout};
pub use embedding::{PARTS, SEGMENTS, SegmentInputs, Segments, embedding_segments};
pub use gather_rows::{NOT_LISTED, ROWS, RowList};
pub use grad_norm::LOSS_SCALE;
pub use head_loss::HeadLoss;
pub use heads::Heads;
pub use matmul::Form;
pub use modulation::Modulation;
pub use muon::MuonConfig;
pub use norm::Norm;
pub use orthogonalise::{NORM_EPS, QUINTIC, STEPS};
pub use restrict::Allowed;
pub use rotary::{inv_freq, rotary_frequencies, rotary_row};
pub use row_loss::{COEFFICIENTS, RowLoss};
pub use update::Rule;
