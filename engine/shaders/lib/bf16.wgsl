// Numbers in bf16, two a word.
fn two_of(word: u32) -> vec2<f32> {
  return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

// Both, each rounded to a neighbour by 16 random bits; what is in bf16 already stays.
fn rounded_two(x: f32, y: f32, random: u32) -> u32 {
  let low = bitcast<u32>(x) + (random & 0xffffu);
  let high = bitcast<u32>(y) + (random >> 16u);
  return (low >> 16u) | (high & 0xffff0000u);
}
