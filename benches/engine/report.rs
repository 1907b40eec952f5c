//! The lines that are printed.

use serde_json::{Value, json};

use crate::shapes::Shape;
use crate::side::Side;

/// A peer's name, and the peer or why it isn't there.
pub(crate) type Peer = (String, Result<Side, String>);

/// One shape at one number of threads.
pub(crate) struct Measured<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) threads: u32,
    pub(crate) ours: Side,
    pub(crate) peers: Vec<Peer>,
    /// What the machine could do, before and after the blocks.
    pub(crate) peaks: [Value; 2],
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// A shape's line.
pub(crate) fn report(measured: &Measured<'_>) -> Value {
    let Measured {
        shape,
        threads,
        ours,
        peers,
        ..
    } = measured;
    let rows = (shape.steps * shape.task.rows) as f64;
    let step_ms = |seconds: &[f64]| 1e3 * median(seconds) / shape.steps as f64;
    let quoted = ours.hello["quoted"].as_i64().unwrap_or(0);
    let wall = median(&ours.wall_s);
    let mut line = json!({
        "shape": shape.task.name, "threads": threads,
        "samples_per_s": rows / wall, "ms_per_step": step_ms(&ours.wall_s),
        "cpu_ms_per_step": step_ms(&ours.cpu_s),
        "bytes": ours.bytes, "quoted_bytes": quoted,
        "quote_error": (ours.bytes - quoted).abs() as f64 / quoted as f64,
    });
    add_roofline(&mut line, measured);
    let mut ratio_best = f64::INFINITY;
    for (name, peer) in peers {
        let peer = match peer {
            Ok(peer) => peer,
            Err(error) => {
                line[name] = json!(format!("not available: {error}"));
                continue;
            }
        };
        let ratio = median(&peer.wall_s) / wall;
        let best = least(peer.wall_s.iter().copied());
        ratio_best = ratio_best.min(ratio);
        line[name] = json!({
            "version": peer.hello["version"], "samples_per_s": rows / median(&peer.wall_s),
            "best_block": rows / best, "ms_per_step": step_ms(&peer.wall_s),
            "cpu_ms_per_step": step_ms(&peer.cpu_s), "bytes": peer.bytes,
            "loss_error": loss_error(&ours.losses, &peer.losses),
        });
        line[format!("ratio_{name}")] = json!(ratio);
        line[format!("ratio_{name}_best_block")] = json!(best / wall);
        line[format!("cpu_ratio_{name}")] = json!(median(&peer.cpu_s) / median(&ours.cpu_s));
    }
    line["ratio_best"] = json!(ratio_best);
    line
}

/// The largest share by which a loss differs.
fn loss_error(ours: &[f64], theirs: &[f64]) -> f64 {
    let errors = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs() / b.abs());
    // max() takes a number over NaN.
    let errors = errors.map(|error| if error.is_nan() { f64::INFINITY } else { error });
    errors.fold(0.0, f64::max)
}

/// The time a step would take at the speed of products or of memory, and how much of it that is.
fn add_roofline(line: &mut Value, measured: &Measured<'_>) {
    let best = |key: &str| {
        let peaks = measured.peaks.iter().filter_map(|peak| peak[key].as_f64());
        peaks.fold(0.0, f64::max)
    };
    let of_plan = |key: &str| measured.ours.hello[key].as_f64().unwrap_or(f64::NAN);
    let (flops, moved) = (of_plan("flops"), of_plan("moved"));
    let (products, memory) = (best("flops_per_s"), best("bytes_per_s"));
    let (by_products, by_memory) = (flops / products, moved / memory);
    let step = median(&measured.ours.wall_s) / measured.shape.steps as f64;
    line["roofline"] = json!({
        "gflops_per_s": products / 1e9, "gemm_gflops_per_s": best("gemm_flops_per_s") / 1e9,
        "gbytes_per_s": memory / 1e9, "gflop_per_step": flops / 1e9,
        "gbyte_per_step": moved / 1e9, "products_ms": 1e3 * by_products,
        "memory_ms": 1e3 * by_memory,
    });
    line["roofline_share"] = json!(by_products.max(by_memory) / step);
}

/// The last line, over all shapes.
pub(crate) fn summary(lines: &[Value]) -> Value {
    let all = |key: &str| {
        lines
            .iter()
            .filter_map(|line| line[key].as_f64())
            .collect::<Vec<_>>()
    };
    let error = all("quote_error").into_iter().fold(0.0, f64::max);
    json!({
        "min_ratio_eager": least(all("ratio_eager")), "median_ratio_eager": median(&all("ratio_eager")),
        "min_ratio_eager_best_block": least(all("ratio_eager_best_block")),
        "min_ratio_best": least(all("ratio_best")), "max_quote_error": error,
    })
}
