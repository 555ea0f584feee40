// A number of two that share a word: the lower half if `index` is even. F16 or BF16; both convert exactly.
fn unpacked(word: u32, index: u32) -> f32 {
  //#if F16
  let pair = unpack2x16float(word);
  return select(pair.x, pair.y, (index & 1u) == 1u);
  //#endif
  //#if BF16
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (index & 1u) == 1u));
  //#endif
}
