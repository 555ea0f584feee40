// The activation that a flag picks; include math before.
fn activate(x: f32) -> f32 {
  //#if SILU
  return x * sigmoid(x);
  //#endif
  //#if GELU_TANH
  return gelu(x);
  //#endif
  //#if GELU_ERF
  return gelu_erf(x);
  //#endif
}

fn activation_slope(x: f32) -> f32 {
  //#if SILU
  return silu_backward(x);
  //#endif
  //#if GELU_TANH
  return gelu_backward(x);
  //#endif
  //#if GELU_ERF
  return gelu_erf_backward(x);
  //#endif
}
