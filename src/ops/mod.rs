//! The operations, one file each: shape rule, backward rule, kernels and twin.

mod adamw;
mod attention;
mod cached_attention;
mod categorical;
mod dropout;
mod elementwise;
mod embedding;
mod gated_residual;
mod grad_norm;
mod head_loss;
mod layer_norm;
mod linear;
mod masked_rows;
mod matmul;
mod roofline;
mod rotary;
mod row_loss;
mod subs;
mod weighted_sum;

pub use adamw::AdamwConfig;
pub use categorical::Draws;
pub use dropout::Dropout;
pub use embedding::{SegmentInputs, Segments, embedding_segments};
pub use head_loss::HeadLoss;
pub use layer_norm::Modulation;
pub use masked_rows::{NOT_LISTED, RowList};
pub use matmul::Form;
pub use rotary::{inv_freq, rotary_row};
pub use row_loss::{COEFFICIENTS, RowLoss};
