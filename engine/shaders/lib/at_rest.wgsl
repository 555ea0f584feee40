// Packed numbers (src/program/element.rs), four at a time, `at` a multiple of four: the two words that they lie in, and
// the numbers of these words. F16, BF16: words of two. Q8, Q4: the head of a block of 32, and a word of it.

//#if Q8
const BLOCK_WORDS = 9u;
const PER_WORD = 4u;
//#endif
//#if Q4
const BLOCK_WORDS = 5u;
const PER_WORD = 8u;
//#endif

//#if BLOCKS
fn first_word(at: u32) -> u32 {
  return at / 32u * BLOCK_WORDS;
}

fn second_word(at: u32) -> u32 {
  return at / 32u * BLOCK_WORDS + 1u + at % 32u / PER_WORD;
}
//#else
fn first_word(at: u32) -> u32 {
  return at / 2u;
}

fn second_word(at: u32) -> u32 {
  return at / 2u + 1u;
}
//#endif

fn four_of(first: u32, second: u32, at: u32) -> vec4<f32> {
  //#if F16
  return vec4<f32>(unpack2x16float(first), unpack2x16float(second));
  //#endif
  //#if BF16
  let low = bitcast<vec2<f32>>(vec2<u32>(first, second) << vec2<u32>(16u));
  let high = bitcast<vec2<f32>>(vec2<u32>(first, second) & vec2<u32>(0xffff0000u));
  return vec4<f32>(low.x, high.x, low.y, high.y);
  //#endif
  //#if Q8
  let bytes = bitcast<vec4<i32>>(vec4<u32>(second) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
  return bitcast<f32>(first) * vec4<f32>(bytes);
  //#endif
  //#if Q4
  let head = unpack2x16float(first); // scale and offset
  let four = second >> (at % PER_WORD * 4u);
  return head.x * vec4<f32>((vec4<u32>(four) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) + head.y;
  //#endif
}
