//! Translation of WGSL for every backend that wgpu has.
