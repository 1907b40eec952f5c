//! Curves as points, as many as a plot needs.

use stoker_domain::spec::Measure;

/// Most points of a curve.
const POINTS_MAX: usize = 1000;
/// Ranges of a longer curve's length, each with up to four points.
const RANGES: usize = POINTS_MAX / 4;

/// A curve of one class or column.
pub(super) struct Curve {
    pub(super) label: (&'static str, usize),
    pub(super) area: f64,
    /// What is measured twice, and the threshold as a probability.
    pub(super) points: Vec<[f64; 3]>,
}

/// The points of a curve: all, or in each range of its length the first, the last, the lowest and
/// the highest, so that no corner is lost.
pub(super) struct Thinned {
    length: f64,
    count: usize,
    all: Vec<[f64; 3]>,
    ranges: Vec<Vec<Point>>,
}

#[derive(Clone, Copy)]
struct Point {
    /// Its place on the curve.
    index: usize,
    height: f64,
    point: [f64; 3],
}

impl Thinned {
    /// Of a curve whose length goes up to so much.
    pub(super) fn new(length: f64) -> Self {
        Self {
            length,
            count: 0,
            all: Vec::new(),
            ranges: vec![Vec::new(); RANGES],
        }
    }

    /// Adds the next point: how far along the curve it is, and how high.
    pub(super) fn add(&mut self, (along, height): (f64, f64), point: [f64; 3]) {
        if self.count < POINTS_MAX {
            self.all.push(point);
        }
        let index = self.count;
        self.count += 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 up to the number of ranges"
        )]
        let range = (along / self.length * RANGES as f64) as usize;
        let kept = &mut self.ranges[range.min(RANGES - 1)];
        let point = Point {
            index,
            height,
            point,
        };
        // The first, the lowest, the highest and the last.
        match kept.as_mut_slice() {
            [_, low, high, last] => {
                *last = point;
                if height < low.height {
                    *low = point;
                }
                if height > high.height {
                    *high = point;
                }
            }
            _ => *kept = vec![point; 4],
        }
    }

    pub(super) fn finish(self) -> Vec<[f64; 3]> {
        if self.count <= POINTS_MAX {
            return self.all;
        }
        let mut points: Vec<Point> = self.ranges.into_iter().flatten().collect();
        points.sort_by_key(|point| point.index);
        points.dedup_by_key(|point| point.index);
        points.into_iter().map(|point| point.point).collect()
    }
}

/// The file of a measure's curves: its name and content.
pub(super) fn write(measure: Measure, curves: impl Iterator<Item = Curve>) -> (String, Vec<u8>) {
    let (name, area, axes) = match measure {
        Measure::RocAuc => ("roc.json", "roc_auc", ["fpr", "tpr"]),
        _ => ("pr.json", "pr_auc", ["precision", "recall"]),
    };
    let curves: Vec<serde_json::Value> = curves
        .map(|curve| {
            let column = |index: usize| -> Vec<f64> {
                curve.points.iter().map(|point| point[index]).collect()
            };
            // No threshold is above all scores: null.
            serde_json::json!({
                curve.label.0: curve.label.1,
                area: curve.area,
                axes[0]: column(0),
                axes[1]: column(1),
                "threshold": column(2),
            })
        })
        .collect();
    let json = serde_json::to_vec(&serde_json::json!({ "curves": curves }));
    (name.to_owned(), json.unwrap_or_default())
}
