//! Limits that a model's fields are held to.

use crate::error::FieldError;

/// Most layers in one model.
const LAYERS_MAX: usize = 1024;
/// Largest width of a layer: units or channels.
pub(super) const WIDTH_MAX: u32 = 1 << 20;
/// Most layers of one recurrent block.
const RECURRENT_LAYERS_MAX: u32 = 64;

/// What is wrong so far.
#[derive(Default)]
pub(super) struct Checks(pub(super) Vec<FieldError>);

impl Checks {
    pub(super) fn count(&mut self, field: &str, count: usize) {
        if count > LAYERS_MAX {
            let message = format!("{count} given, at most {LAYERS_MAX} allowed");
            self.0.push(FieldError::new(field, message));
        }
    }

    pub(super) fn width(&mut self, field: String, value: u32) {
        if !(1..=WIDTH_MAX).contains(&value) {
            self.0.push(FieldError::new(
                field,
                format!("{value} is not in 1 to {WIDTH_MAX}"),
            ));
        }
    }

    pub(super) fn widths(&mut self, field: &str, values: &[u32]) {
        self.count(field, values.len());
        for (index, &value) in values.iter().enumerate() {
            self.width(format!("{field}[{index}]"), value);
        }
    }

    pub(super) fn optional_width(&mut self, field: String, value: Option<u32>) {
        self.width(field, value.unwrap_or(1));
    }

    pub(super) fn above_zero(&mut self, field: String, value: f32) {
        if !(value > 0.0 && value.is_finite()) {
            let message = format!("{value} is not a number above 0");
            self.0.push(FieldError::new(field, message));
        }
    }

    pub(super) fn momentum(&mut self, field: String, value: f32) {
        if !(value > 0.0 && value <= 1.0) {
            let message = format!("{value} is not above 0 and up to 1");
            self.0.push(FieldError::new(field, message));
        }
    }

    /// `part` must divide `whole`; what is out of range is told elsewhere.
    pub(super) fn divides(&mut self, field: String, part: u32, whole: u32, name: &str) {
        if part > 0 && !whole.is_multiple_of(part) {
            let message = format!("{part} doesn't divide {name}, which is {whole}");
            self.0.push(FieldError::new(field, message));
        }
    }

    /// Channels, kernel, stride, dilation and groups of a convolution.
    pub(super) fn conv(&mut self, at: &str, sizes: [u32; 5]) {
        let names = ["channels", "kernel", "stride", "dilation", "groups"];
        for (name, size) in names.into_iter().zip(sizes) {
            self.width(format!("{at}.{name}"), size);
        }
        let [channels, .., groups] = sizes;
        self.divides(format!("{at}.groups"), groups, channels, "`channels`");
    }

    pub(super) fn heads(&mut self, at: &str, heads: u32, kv_heads: Option<u32>) {
        self.width(format!("{at}heads"), heads);
        self.optional_width(format!("{at}kv_heads"), kv_heads);
        self.divides(
            format!("{at}kv_heads"),
            kv_heads.unwrap_or(1),
            heads,
            "`heads`",
        );
    }

    /// Units and layers of recurrent layers, and what is dropped between them.
    pub(super) fn recurrent(&mut self, at: &str, [units, layers]: [u32; 2], dropout: f32) {
        self.width(format!("{at}units"), units);
        if !(1..=RECURRENT_LAYERS_MAX).contains(&layers) {
            let message = format!("{layers} is not in 1 to {RECURRENT_LAYERS_MAX}");
            self.0.push(FieldError::new(format!("{at}layers"), message));
        }
        self.share(format!("{at}dropout"), dropout);
    }

    pub(super) fn share(&mut self, field: String, value: f32) {
        if !(0.0..1.0).contains(&value) {
            let message = format!("{value} is not a share: from 0 up to, not including, 1");
            self.0.push(FieldError::new(field, message));
        }
    }
}

/// Refuses numbers that aren't in 0 up to, not including, 1.
pub(super) fn check_shares(shares: &[(&str, f32)]) -> Vec<FieldError> {
    let refused = |(field, value): &(&str, f32)| {
        FieldError::new(
            *field,
            format!("{value} is not in 0 up to, not including, 1"),
        )
    };
    shares
        .iter()
        .filter(|(_, value)| !(0.0..1.0).contains(value))
        .map(refused)
        .collect()
}

/// Refuses numbers that aren't above 0.
pub(super) fn check_positive(values: &[(&str, f32)]) -> Vec<FieldError> {
    let refused = |(field, value): &(&str, f32)| {
        FieldError::new(*field, format!("{value} is not above 0 and finite"))
    };
    values
        .iter()
        .filter(|(_, v)| !(v.is_finite() && *v > 0.0))
        .map(refused)
        .collect()
}
