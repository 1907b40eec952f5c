//! Attention as ONNX has it: products, masks and a softmax.

use super::writer::{Setting, Writer, long};
use crate::geometry::Attention;

/// Logarithm of the base of rotary positions' angles, 10,000.
const BASE_LN: f64 = 9.210_340_371_976_184;

/// From queries, keys and values `[batch, length, n]` to the heads' output; `turned` by rotary
/// positions.
pub(super) fn add_attention(
    writer: &mut Writer,
    layer: &str,
    x: &str,
    attention: &Attention,
    turned: bool,
) -> String {
    let [q, k, v] = split_heads(writer, layer, x, attention);
    let [q, k] = match turned {
        true => [q, k].map(|heads| turn(writer, layer, &heads, attention)),
        false => [q, k],
    };
    let [k, v] = [k, v].map(|heads| share(writer, layer, heads, attention));
    let k = writer.transpose(layer, &k, &[0, 1, 3, 2]);
    let scores = writer.node(layer, "MatMul", &[&q, &k], &[]);
    #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let scale = (1.0 / (attention.head_floats as f64).sqrt()) as f32;
    let scale = writer.floats(&[], &[scale]);
    let mut scores = writer.node(layer, "Mul", &[&scores, &scale], &[]);
    if attention.causal {
        let length = attention.length;
        let later = |index: usize| index % length > index / length;
        let mask: Vec<f32> = (0..length * length)
            .map(|index| if later(index) { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let mask = writer.floats(&[length, length], &mask);
        scores = writer.node(layer, "Add", &[&scores, &mask], &[]);
    }
    let shares = writer.node(layer, "Softmax", &[&scores], &[Setting::Int("axis", -1)]);
    let y = writer.node(layer, "MatMul", &[&shares, &v], &[]);
    let y = writer.transpose(layer, &y, &[0, 2, 1, 3]);
    let sizes = [0, long(attention.length), long(attention.out_features())];
    writer.reshape(layer, &y, &sizes)
}

/// Queries, keys and values as `[batch, heads, length, head_floats]`.
fn split_heads(writer: &mut Writer, layer: &str, x: &str, attention: &Attention) -> [String; 3] {
    let (heads, kv_heads) = (attention.heads, attention.kv_heads);
    let mut first = 0;
    [heads, kv_heads, kv_heads].map(|count| {
        let next = first + count * attention.head_floats;
        let [from, to, axis] = [long(first), long(next), 2].map(|n| writer.longs(&[n]));
        first = next;
        let part = writer.node(layer, "Slice", &[x, &from, &to, &axis], &[]);
        let sizes = [0, 0, long(count), long(attention.head_floats)];
        let part = writer.reshape(layer, &part, &sizes);
        writer.transpose(layer, &part, &[0, 2, 1, 3])
    })
}

/// Keys or values for each head of queries: neighbours share theirs.
fn share(writer: &mut Writer, layer: &str, x: String, attention: &Attention) -> String {
    let times = attention.heads / attention.kv_heads;
    if times == 1 {
        return x;
    }
    let (length, floats) = (long(attention.length), long(attention.head_floats));
    let apart = writer.reshape(
        layer,
        &x,
        &[0, long(attention.kv_heads), 1, length * floats],
    );
    let sizes = writer.longs(&[1, 1, long(times), 1]);
    let more = writer.node(layer, "Expand", &[&apart, &sizes], &[]);
    writer.reshape(layer, &more, &[0, long(attention.heads), length, floats])
}

/// Turns pairs of numbers, the halves of a head, by an angle that grows with the position.
fn turn(writer: &mut Writer, layer: &str, x: &str, attention: &Attention) -> String {
    let (length, pairs) = (attention.length, attention.head_floats / 2);
    let angle = |index: usize| {
        let (position, pair) = (index / pairs, index % pairs);
        position as f64 * (-(pair as f64 / pairs as f64) * BASE_LN).exp()
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let mut table = |of: fn(f64) -> f64| {
        let numbers: Vec<f32> = (0..length * pairs).map(|at| of(angle(at)) as f32).collect();
        writer.floats(&[length, pairs], &numbers)
    };
    let (cosines, sines) = (table(f64::cos), table(f64::sin));
    let axis = writer.longs(&[3]);
    let [zero, half, end] = [0, long(pairs), long(2 * pairs)].map(|n| writer.longs(&[n]));
    let left = writer.node(layer, "Slice", &[x, &zero, &half, &axis], &[]);
    let right = writer.node(layer, "Slice", &[x, &half, &end, &axis], &[]);
    let mut times = |a: &str, b: &str| writer.node(layer, "Mul", &[a, b], &[]);
    let products = [
        (times(&left, &cosines), times(&right, &sines)),
        (times(&right, &cosines), times(&left, &sines)),
    ];
    let [(a, b), (c, d)] = &products;
    let left = writer.node(layer, "Sub", &[a, b], &[]);
    let right = writer.node(layer, "Add", &[c, d], &[]);
    writer.node(
        layer,
        "Concat",
        &[&left, &right],
        &[Setting::Int("axis", -1)],
    )
}
