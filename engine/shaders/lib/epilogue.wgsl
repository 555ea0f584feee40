// What becomes of the sums of a matrix product, see `matmul`.

//#include math
//#if DROPOUT
//#include threefry
//#endif

fn store_row(row: u32, col: u32, values: vec4<f32>) {
  //#if VEC_C
  if (col < p.n) {
    store(row, col, values);
  }
  //#else
  for (var j = 0u; j < 4u; j++) {
    if (col + j < p.n) {
      store(row, col + j, values[j]);
    }
  }
  //#endif
}

//#if GELU
fn activated(x: Value) -> Value {
  //#if VEC_C
  return vec4<f32>(gelu(x.x), gelu(x.y), gelu(x.z), gelu(x.w));
  //#else
  return gelu(x);
  //#endif
}
//#endif

//#if DROPOUT
// Dropout factors of the element at `index`, or of four.
fn factors(index: u32) -> Value {
  //#if VEC_C
  return dropout_of_four(now.dropout_key, p.site, index, p.threshold, p.keep_scale);
  //#else
  return dropout(now.dropout_key, p.site, index, p.threshold, p.keep_scale);
  //#endif
}
//#endif

fn store(row: u32, col: u32, sum: Value) {
  let index = first.z + row * p.n + col;
  let at = index / WIDE;
  var value = sum;
  //#if COMBINE
  value = p.alpha * value + p.beta * d[at];
  //#endif
  //#if BIAS
  value += bias[col / WIDE];
  //#endif
  //#if ACCUMULATE
  value += Value(c[at]);
  //#endif
  c[at] = Stored(value);
  //#if GELU
  second[at] = SecondStored(activated(value));
  //#endif
  //#if RESIDUAL
  var branch = value;
  //#if DROPOUT
  branch *= factors(index);
  //#endif
  //#if GATE
  branch *= modulation[((row / p.sample_rows) * p.mod_stride + p.gate_column + col) / WIDE];
  //#endif
  second[at] = SecondStored(residual[at] + branch);
  //#endif
}
