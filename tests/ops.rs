//! Every operation: its kernels and its f32 twin against its f64 twin, its backward rule against
//! central differences, on sizes that fit no tile.
#![allow(clippy::unwrap_used)]

mod common;

mod ops {
    mod adamw;
    mod add_rows;
    mod attention;
    mod categorical;
    mod elementwise;
    mod embedding;
    mod gated;
    mod gather_rows;
    mod grad_norm;
    mod head_loss;
    mod linear;
    mod muon;
    mod norm;
    mod rotary;
    mod store_rows;
    mod subs;
    mod weighted_sum;
}
