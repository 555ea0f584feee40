// What matrix products read and write, see `matmul`.

// numbers of a, b, c and the second output in memory; what is computed is f32
alias OfA = f32;
alias OfB = f32;
alias OfC = f32;
alias OfSecond = f32;
//#if VEC_A
@group(0) @binding(0) var<storage, read> a: array<vec4<OfA>>;
//#else
@group(0) @binding(0) var<storage, read> a: array<OfA>;
//#endif
//#if PACKED
//#include at_rest
@group(0) @binding(1) var<storage, read> b: array<u32>;
//#else
//#if VEC_B
@group(0) @binding(1) var<storage, read> b: array<vec4<OfB>>;
//#else
@group(0) @binding(1) var<storage, read> b: array<OfB>;
//#endif
//#endif
//#if VEC_C
alias Value = vec4<f32>;
alias Stored = vec4<OfC>;
alias SecondStored = vec4<OfSecond>;
const WIDE = 4u;
//#else
alias Value = f32;
alias Stored = OfC;
alias SecondStored = OfSecond;
const WIDE = 1u;
//#endif
//#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<Value>; // [n]
//#endif
//#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<Value>; // [m, n]
//#endif
//#if COMBINE
@group(0) @binding(3) var<storage, read> d: array<Value>; // [m, n]
//#endif
//#if GATE
@group(0) @binding(4) var<storage, read> modulation: array<Value>;
//#endif
@group(0) @binding(5) var<storage, read_write> c: array<Stored>; // [m, n]
//#if SECOND
@group(0) @binding(6) var<storage, read_write> second: array<SecondStored>; // [m, n]
//#endif
//#if COLUMN_SUM
@group(0) @binding(7) var<storage, read_write> column_sum: array<f32>; // [m]
//#endif
@group(0) @binding(8) var<uniform> p: Params;

//#if PLACED
var<private> first: vec3<u32>; // where a product's A, B and C begin, or its plane of C
//#else
const first = vec3<u32>();
//#endif

// Four of A: along m at one term, or along k in one row.
fn load_a(row: u32, k: u32) -> vec4<f32> {
  //#if A_T
  let at = first.x + k * p.m + row;
  let step = 1u;
  //#else
  let at = first.x + row * p.k + k;
  let step = p.k;
  //#endif
  //#if VEC_A
  return vec4<f32>(a[at / 4u]);
  //#else
  return vec4<f32>(f32(a[at]), f32(a[at + step]), f32(a[at + 2u * step]), f32(a[at + 3u * step]));
  //#endif
}

fn load_b(col: u32, k: u32) -> vec4<f32> {
  //#if B_T
  let at = first.y + col * p.k + k;
  let step = p.k;
  //#else
  let at = first.y + k * p.n + col;
  let step = 1u;
  //#endif
  //#if VEC_B
  //#if PACKED
  return four_of(b[first_word(at)], b[second_word(at)], at);
  //#else
  return vec4<f32>(b[at / 4u]);
  //#endif
  //#else
  return vec4<f32>(number_of_b(at), number_of_b(at + step), number_of_b(at + 2u * step), number_of_b(at + 3u * step));
  //#endif
}

//#if !VEC_B
fn number_of_b(at: u32) -> f32 {
  //#if PACKED
  let four = at & 0xfffffffcu;
  return four_of(b[first_word(four)], b[second_word(four)], four)[at & 3u];
  //#else
  return f32(b[at]);
  //#endif
}
//#endif
