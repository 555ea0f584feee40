// Whether a query sees a key, by the rows' (own, rank, from, upto); mirrors src/ops/visibility.rs.
fn sees(query: vec4<u32>, key: vec4<u32>) -> bool {
  return (query.x == key.x && query.x != 0xffffffffu) || (query.z <= key.y && key.y < query.w);
}
