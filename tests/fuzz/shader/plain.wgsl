const N: u32 = 1;
@compute @workgroup_size(1) fn main() {}
