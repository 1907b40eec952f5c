//! What the compiler refuses to build. A spec is small text: without limits it could ask for more
//! than any machine has.

/// Most parameters of a model.
pub const PARAMETERS_MAX: u64 = 1 << 31;
/// Largest arena of one virtual shard, in bytes.
pub const ARENA_MAX_BYTES: u64 = 64 << 30;
/// Most classes of a cross-entropy target.
pub const CLASSES_MAX: u64 = 65_536;

/// Largest number of floats in one tensor; products of sizes are checked against it before they
/// are used.
const TENSOR_MAX_FLOATS: usize = 1 << 34;

/// The product of sizes, or nothing when it is beyond any limit.
pub(crate) fn product(sizes: &[usize]) -> Option<usize> {
    sizes
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size))
        .filter(|&all| all <= TENSOR_MAX_FLOATS)
}
