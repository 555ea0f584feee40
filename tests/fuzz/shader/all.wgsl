//#include lib/math
//#params
const N: u32 = 1u;
const GROUP: u32 = 64;
//#if GRADIENT
@group(0) @binding(0) var<storage> x: array<f32>;
//#else
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
//#endif
@compute @workgroup_size(GROUP) fn main() {
    //#unroll i 4
    for (var i = 0u; i < 4u; i++) {
        x[i] = 0.0;
    }
    //#end
}
