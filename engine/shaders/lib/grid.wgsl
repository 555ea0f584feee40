// Number of a workgroup in a grid that was folded at 32768 (`Grid` in src/gpu/program.rs).
fn group_index(group: vec3<u32>) -> u32 {
  return group.y * 32768u + group.x;
}
