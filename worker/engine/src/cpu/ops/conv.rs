//! Convolutions, as products over unfolded windows. A tile of windows is unfolded at a time, so
//! that the product reads it from the cache. Parts of the channels have products of their own; a
//! depthwise convolution has none.

use stoker_model::{Conv, Op};

use super::super::product::{Matrix, multiply};
use super::super::simd::Level;
use super::super::{lanes, unfold};
use super::{Context, Epilogue, depthwise, each_group, gradient, transpose};

/// A tile: which images of a group, and which of their output rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    image: usize,
    images: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
}

/// The tiles of `images` images, in order.
pub(super) fn tiles(conv: &Conv, images: usize) -> impl Iterator<Item = Cut> {
    let (tile, out_height) = (conv.tile, conv.out_height);
    (0..images).step_by(tile.images).flat_map(move |image| {
        (0..out_height).step_by(tile.rows).map(move |row| Cut {
            image,
            images: tile.images.min(images - image),
            row,
            rows: tile.rows.min(out_height - row),
        })
    })
}

impl Cut {
    /// Windows in the tile.
    pub(super) const fn positions(&self, conv: &Conv) -> usize {
        self.images * self.rows * conv.out_width
    }

    /// Where the tile's outputs are in a group's `[images, positions, out_channels]`.
    pub(super) const fn outputs(&self, conv: &Conv) -> std::ops::Range<usize> {
        let first = (self.image * conv.out_height + self.row) * conv.out_width;
        first * conv.out_channels..(first + self.positions(conv)) * conv.out_channels
    }

    /// Where an image of the tile is in a group's inputs.
    pub(super) const fn input(&self, conv: &Conv, index: usize) -> std::ops::Range<usize> {
        let first = (self.image + index) * conv.in_floats();
        first..first + conv.in_floats()
    }

    /// Floats of one image's windows.
    pub(super) const fn image_columns(&self, conv: &Conv) -> usize {
        self.rows * conv.out_width * conv.window()
    }

    fn unfold(&self, level: Level, conv: &Conv, part: usize, x: &[f32], columns: &mut [f32]) {
        let size = self.image_columns(conv);
        for (index, columns) in columns.chunks_exact_mut(size).take(self.images).enumerate() {
            let image = &x[self.input(conv, index)];
            if unfold::is_dense(conv) {
                unfold::unfold(level, columns, image, conv, self.row, self.rows);
            } else {
                unfold::unfold_part(level, columns, image, conv, part, self.row, self.rows);
            }
        }
    }

    /// y = conv(x, W) of the tile, part by part.
    fn multiply(
        &self,
        level: Level,
        k_block: usize,
        conv: &Conv,
        [y, columns]: [&mut [f32]; 2],
        [x, transposed]: [&[f32]; 2],
    ) {
        let (positions, window, count) =
            (self.positions(conv), conv.window(), conv.group_outputs());
        let weight = Matrix::new(transposed, window, conv.out_channels);
        for part in 0..conv.groups() {
            self.unfold(level, conv, part, x, columns);
            let (windows, rest) = columns.split_at_mut(positions * window);
            let windows = Matrix::new(windows, positions, window);
            let weight = weight.columns_from(part * count, count);
            if conv.cuts == 0 {
                return multiply(level, k_block, y, false, windows, weight);
            }
            let out = &mut rest[..positions * count];
            multiply(level, k_block, out, false, windows, weight);
            let each = y.chunks_exact_mut(conv.out_channels);
            for (y, out) in each.zip(out.chunks_exact(count)) {
                y[part * count..][..count].copy_from_slice(out);
            }
        }
    }

    pub(super) fn fold(
        &self,
        level: Level,
        conv: &Conv,
        part: usize,
        dx: &mut [f32],
        columns: &[f32],
    ) {
        let each = columns.chunks_exact(self.image_columns(conv));
        for (index, columns) in each.enumerate() {
            let image = &mut dx[self.input(conv, index)];
            if unfold::is_dense(conv) {
                unfold::fold(level, image, columns, conv, self.row, self.rows);
            } else {
                unfold::fold_part(level, image, columns, conv, part, self.row, self.rows);
            }
        }
    }
}

/// y = f(conv(x, W) + b); groups cut the rows.
pub(super) fn forward(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Conv2d {
        x,
        y,
        weight,
        bias,
        activation,
        pre,
        transposed,
        conv,
        columns,
    } = op
    else {
        return;
    };
    let plan = context.plan();
    let rows = plan.rows.div_ceil(groups);
    let weight = context.parameter(*weight);
    let epilogue = Epilogue {
        level: context.level,
        bias: bias.map(|bias| context.parameter(bias)),
        activation: *activation,
    };
    let out = rows * conv.positions() * conv.out_channels;
    let values = [Some(*x), Some(*y), *pre, *columns, *transposed];
    let [x, y, pre, columns, transposed] = context.arena.optional(values);
    transpose(
        epilogue.level,
        groups,
        transposed,
        weight,
        conv.out_channels,
    );
    let transposed = &*transposed;
    let sizes = [
        (x, rows * conv.in_floats()),
        (y, out),
        (pre, out),
        (columns, conv.tile_floats()),
    ];
    each_group(groups, sizes, |_, [x, y, pre, columns]| {
        if conv.is_depthwise() {
            depthwise::forward(epilogue.level, y, x, transposed, conv);
            return epilogue.apply(y, pre);
        }
        for cut in tiles(conv, x.len() / conv.in_floats()) {
            let outputs = cut.outputs(conv);
            let y = &mut y[outputs.clone()];
            cut.multiply(
                epilogue.level,
                plan.k_block,
                conv,
                [y, columns],
                [x, transposed],
            );
            let pre = if pre.is_empty() {
                &mut []
            } else {
                &mut pre[outputs]
            };
            epilogue.apply(y, pre);
        }
    });
}

/// dW; groups cut the rows, and each keeps a sum of its own.
pub(super) fn grad_weight(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Conv2dGradWeight {
        dy,
        x,
        weight,
        conv,
        columns,
        partials,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let window = conv.window();
    let values = [Some(*dy), Some(*x), *columns, *partials];
    let [dy, x, columns, partials] = context.arena.optional(values);
    let dw = gradient(context.gradients, plan, *weight);
    let sum = |dy: &[f32], x: &[f32], columns: &mut [f32], dw: &mut [f32]| {
        if conv.is_depthwise() {
            return depthwise::grad_weight(level, dw, columns, dy, x, conv);
        }
        dw.fill(0.0);
        let count = conv.group_outputs();
        for cut in tiles(conv, x.len() / conv.in_floats()) {
            let positions = cut.positions(conv);
            let dy = Matrix::new(&dy[cut.outputs(conv)], positions, conv.out_channels);
            for (part, dw) in dw.chunks_exact_mut(count * window).enumerate() {
                cut.unfold(level, conv, part, x, columns);
                let windows = Matrix::new(&columns[..positions * window], positions, window);
                let dy = dy.columns_from(part * count, count).transposed();
                multiply(level, plan.k_block, dw, true, dy, windows);
            }
        }
    };
    if groups == 1 {
        return sum(dy, x, columns, dw);
    }
    let out = rows * conv.positions() * conv.out_channels;
    let sizes = [
        (dy, out),
        (x, rows * conv.in_floats()),
        (columns, conv.tile_floats()),
        (&mut *partials, dw.len()),
    ];
    each_group(groups, sizes, |_, [dy, x, columns, partial]| {
        sum(dy, x, columns, partial)
    });
    add_partials(level, dw, partials);
}

/// The sum of the groups' sums, in their order.
pub(super) fn add_partials(level: Level, sum: &mut [f32], partials: &[f32]) {
    sum.fill(0.0);
    for partial in partials.chunks_exact(sum.len()) {
        lanes::add(level, sum, partial);
    }
}

/// dx; groups cut the rows.
pub(super) fn grad_input(op: &Op, groups: usize, context: &mut Context<'_>) {
    let Op::Conv2dGradInput {
        dy,
        dx,
        weight,
        conv,
        columns,
    } = op
    else {
        return;
    };
    let (plan, level) = (context.plan(), context.level);
    let rows = plan.rows.div_ceil(groups);
    let window = conv.window();
    let stored = context.parameter(*weight);
    let weight = Matrix::new(stored, conv.out_channels, window);
    let [dy, dx, columns] = context.arena.optional([Some(*dy), Some(*dx), *columns]);
    let sizes = [
        (dy, rows * conv.positions() * conv.out_channels),
        (dx, rows * conv.in_floats()),
        (columns, conv.tile_floats()),
    ];
    each_group(groups, sizes, |_, [dy, dx, columns]| {
        if conv.is_depthwise() {
            return depthwise::grad_input(level, dx, dy, columns, stored, conv);
        }
        dx.fill(0.0);
        let count = conv.group_outputs();
        for cut in tiles(conv, dx.len() / conv.in_floats()) {
            let positions = cut.positions(conv);
            let dy = Matrix::new(&dy[cut.outputs(conv)], positions, conv.out_channels);
            let columns = &mut columns[..positions * window];
            for part in 0..conv.groups() {
                let dy = dy.columns_from(part * count, count);
                let weight = weight.rows_from(part * count, count);
                multiply(level, plan.k_block, columns, false, dy, weight);
                cut.fold(level, conv, part, dx, columns);
            }
        }
    });
}
