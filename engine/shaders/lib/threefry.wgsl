// Threefry-2x32 with 20 rounds; mirrors src/rng.rs.
fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
  let k2 = 0x1BD11BDAu ^ key.x ^ key.y;
  var x = counter + key;
  x = threefry_even(x);
  x += vec2<u32>(key.y, k2 + 1u);
  x = threefry_odd(x);
  x += vec2<u32>(k2, key.x + 2u);
  x = threefry_even(x);
  x += vec2<u32>(key.x, key.y + 3u);
  x = threefry_odd(x);
  x += vec2<u32>(key.y, k2 + 4u);
  x = threefry_even(x);
  x += vec2<u32>(k2, key.x + 5u);
  return x;
}

fn threefry_round(x: vec2<u32>, left: u32) -> vec2<u32> {
  let sum = x.x + x.y;
  return vec2<u32>(sum, ((x.y << left) | (x.y >> (32u - left))) ^ sum);
}

fn threefry_even(x: vec2<u32>) -> vec2<u32> {
  return threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
}

fn threefry_odd(x: vec2<u32>) -> vec2<u32> {
  return threefry_round(threefry_round(threefry_round(threefry_round(x, 17u), 29u), 16u), 24u);
}

// Dropout factor of element `index` at `site`: 0 with probability threshold / 2^32, else `scale`.
fn dropout(key: vec2<u32>, site: u32, index: u32, threshold: u32, scale: f32) -> f32 {
  let words = threefry(key, vec2<u32>(index >> 1u, site));
  return select(0.0, scale, select(words.x, words.y, (index & 1u) == 1u) >= threshold);
}

// Factors of the four elements from `index` on, a multiple of 4.
fn dropout_of_four(key: vec2<u32>, site: u32, index: u32, threshold: u32, scale: f32) -> vec4<f32> {
  let pair = index >> 1u;
  let words = vec4<u32>(threefry(key, vec2<u32>(pair, site)), threefry(key, vec2<u32>(pair + 1u, site)));
  return select(vec4<f32>(), vec4<f32>(scale), words >= vec4<u32>(threshold));
}
