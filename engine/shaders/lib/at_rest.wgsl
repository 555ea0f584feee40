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

// Four numbers in two words.
fn unpacked_four(words: vec2<u32>) -> vec4<f32> {
  //#if F16
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  //#endif
  //#if BF16
  return vec4<f32>(
    bitcast<f32>(words.x << 16u),
    bitcast<f32>(words.x & 0xffff0000u),
    bitcast<f32>(words.y << 16u),
    bitcast<f32>(words.y & 0xffff0000u),
  );
  //#endif
}
