// Which tile of C the workgroup `tile` makes, of how many rows, and which terms it sums; stands in a function.
  //#if SPLIT
  let plane = tile % p.planes;
  tile /= p.planes;
  first.z = plane * p.m * p.n;
  //#endif
  let row0 = (tile / p.tiles_n) * TILE_M;
  let col0 = (tile % p.tiles_n) * TILE_N;
  //#if DYNAMIC_M
  let m = counted_from(counted(), p.base, p.m);
  //#else
  let m = p.m;
  //#endif
  //#if DYNAMIC_K
  let terms = counted_from(counted(), p.base, p.k);
  //#else
  let terms = p.k;
  //#endif
  //#if SPLIT
  let slices = (terms + TILE_K - 1u) / TILE_K;
  let span = (slices + p.planes - 1u) / p.planes * TILE_K;
  let k_begin = plane * span;
  let k_end = min(k_begin + span, terms);
  //#else
  const k_begin = 0u;
  let k_end = terms;
  //#endif
