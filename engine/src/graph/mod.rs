//! The graph: operations on tensors, built once for a (config, batch, length), differentiated by
//! hand-written rules, planned, and then run many times on either executor.

mod backward;
mod build;
mod kernel;
mod layout;
mod look;
mod plan;
mod recompute;
mod report;
mod session;
mod storage;
mod tensor;
mod trial;

pub use build::{Backward, Graph, Lower, Op, Role};
pub use kernel::{Kernel, Operand};
pub use layout::{Key, Layout, LayoutBuilder, Param, ParamId};
pub use plan::Plan;
pub use report::Report;
pub use session::{RUNS, Running, Session};
pub use storage::Storage;
pub use tensor::{BACKWARD, FORWARD, GRADS, PARAMS, Tensor, UPDATE};
