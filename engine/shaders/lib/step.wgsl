// The scalars of this run.
//#scalars
@group(1) @binding(0) var<uniform> now: Step;

//#counter
// clamp(count - base, 0, most) without wrapping below zero.
fn counted_from(count: u32, base: u32, most: u32) -> u32 {
  return min(max(count, base) - base, most);
}
