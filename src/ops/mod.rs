//! The operations, one file each: shape rule, backward rule, kernels and twin.

mod adamw;
mod attention;
mod cached_attention;
mod categorical;
mod dropout;
mod elementwise;
mod embedding;
mod epilogue;
mod gated_residual;
mod gather_rows;
mod grad_norm;
mod head_loss;
mod linear;
mod matmul;
mod modulation;
mod norm;
mod roofline;
mod rotary;
mod row_loss;
mod subs;
mod weighted_sum;

pub use adamw::{ADAM_M, ADAM_V, AdamwConfig, BIAS1, BIAS2, EMA, EMA_DECAY, LR, TRAINING};
pub use categorical::{DRAW_KEY, Draws, INVERSE_TEMPERATURE, TOP_K, TOP_P};
pub use dropout::{DROPOUT_KEY, Dropout};
pub use embedding::{PARTS, SEGMENTS, SegmentInputs, Segments, embedding_segments};
pub use gather_rows::{NOT_LISTED, ROWS, RowList};
pub use head_loss::HeadLoss;
pub use matmul::Form;
pub use modulation::Modulation;
pub use norm::Norm;
pub use rotary::{inv_freq, rotary_row};
pub use row_loss::{COEFFICIENTS, RowLoss};
