//! Numbers as they travel: little endian, whatever the machine.

/// The bytes of numbers.
pub(super) fn of_floats(data: &[f32]) -> Vec<u8> {
    let bytes: Vec<_> = data.iter().map(|x| x.to_le_bytes()).collect();
    bytes.into_flattened()
}

/// The numbers of bytes.
pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|&bytes| f32::from_le_bytes(bytes))
}

/// The bytes of numbers in double precision.
pub(super) fn of_doubles(data: &[f64]) -> Vec<u8> {
    let bytes: Vec<_> = data.iter().map(|x| x.to_le_bytes()).collect();
    bytes.into_flattened()
}

/// The numbers of bytes, in double precision.
pub(super) fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|&bytes| f64::from_le_bytes(bytes))
}
