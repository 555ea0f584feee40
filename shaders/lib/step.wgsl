// Values that change from step to step; mirrors `Step::words` in src/device/program.rs.
struct Step {
  dropout_key: vec2<u32>,
  draw_key: vec2<u32>,
  rows: u32,
  parts: u32,
  segments: u32,
  top_k: u32,
  lr: f32,
  bias1: f32,
  bias2: f32,
  ema_decay: f32,
  inverse_temperature: f32,
  top_p: f32,
  reserved: vec2<u32>,
}
@group(1) @binding(0) var<uniform> now: Step;

// Number of a workgroup in a grid that was folded at 32768 (`Grid` in src/gpu/executor.rs).
fn group_index(group: vec3<u32>) -> u32 {
  return group.y * 32768u + group.x;
}

// clamp(now.rows - base, 0, most) without wrapping below zero.
fn rows_from(base: u32, most: u32) -> u32 {
  return min(max(now.rows, base) - base, most);
}
