//! The values that cross the border to a plugin, as plain Rust types.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A kind of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// IEEE 754 single precision.
    Float32,
    /// Signed 64-bit integers.
    Int64,
    /// Bytes.
    Uint8,
    /// UTF-8 strings.
    Text,
}

/// Strings, one after another: string `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings {
    /// Where each string starts, and at last where the last one ends.
    pub offsets: Vec<u32>,
    /// All strings, UTF-8.
    pub bytes: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }
}

impl Strings {
    /// The number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a string. `None`, and nothing changes, beyond 4 GiB.
    pub fn push(&mut self, text: &str) -> Option<()> {
        let end = u32::try_from(self.bytes.len() + text.len()).ok()?;
        self.bytes.extend_from_slice(text.as_bytes());
        self.offsets.push(end);
        Some(())
    }

    /// String `index`; `None` past the end, or where offsets or UTF-8 are broken.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let (start, end) = (*self.offsets.get(index)?, *self.offsets.get(index + 1)?);
        std::str::from_utf8(self.bytes.get(start as usize..end as usize)?).ok()
    }

    fn check(&self) -> Result<(), String> {
        let (first, last) = (self.offsets.first(), self.offsets.last());
        if first != Some(&0) || last.is_none_or(|last| *last as usize != self.bytes.len()) {
            return Err("has offsets that don't span its bytes".to_owned());
        }
        match (0..self.len()).find(|index| self.get(*index).is_none()) {
            Some(index) => Err(format!(
                "has a broken offset or broken UTF-8 at string {index}"
            )),
            None => Ok(()),
        }
    }
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// f32.
    Float32(Vec<f32>),
    /// i64.
    Int64(Vec<i64>),
    /// u8.
    Uint8(Vec<u8>),
    /// Strings.
    Text(Strings),
}

impl Values {
    /// The kind of the elements.
    #[must_use]
    pub fn element(&self) -> Element {
        match self {
            Self::Float32(_) => Element::Float32,
            Self::Int64(_) => Element::Int64,
            Self::Uint8(_) => Element::Uint8,
            Self::Text(_) => Element::Text,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Uint8(values) => values.len(),
            Self::Text(strings) => strings.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named column of a batch, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name, unique in its batch.
    pub name: String,
    /// All extents, rows first.
    pub shape: Vec<u32>,
    /// The elements.
    pub values: Values,
}

impl Tensor {
    fn check(&self, rows: u32) -> Result<(), String> {
        if self.shape.first() != Some(&rows) {
            return Err(format!(
                "has shape {:?} in a batch of {rows} rows",
                self.shape
            ));
        }
        let extents = self.shape.iter().map(|extent| *extent as usize);
        let wanted = extents.fold(1_usize, usize::saturating_mul);
        if wanted != self.values.len() {
            return Err(format!(
                "has shape {:?} but {} values",
                self.shape,
                self.values.len()
            ));
        }
        match &self.values {
            Values::Text(strings) => strings.check(),
            _ => Ok(()),
        }
    }
}

/// Some rows of a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The first extent of every tensor.
    pub rows: u32,
    /// The columns.
    pub tensors: Vec<Tensor>,
}

impl Batch {
    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Whether names are unique, and shapes, numbers of values and strings agree.
    ///
    /// # Errors
    /// A sentence fragment that names the first tensor at fault.
    pub fn check(&self) -> Result<(), String> {
        let mut names = HashSet::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            if !names.insert(tensor.name.as_str()) {
                return Err(format!("tensor `{}` is there twice", tensor.name));
            }
            tensor
                .check(self.rows)
                .map_err(|why| format!("tensor `{}` {why}", tensor.name))?;
        }
        Ok(())
    }

    /// Feeds everything to a hash, so that equal hashes mean equal bits (`==` has NaN and -0).
    pub(crate) fn hash_bits(&self, hasher: &mut blake3::Hasher) {
        let mut number = |value: u64| {
            hasher.update(&value.to_le_bytes());
        };
        number(u64::from(self.rows));
        number(self.tensors.len() as u64);
        for tensor in &self.tensors {
            hasher.update(&(tensor.name.len() as u64).to_le_bytes());
            hasher.update(tensor.name.as_bytes());
            hasher.update(&(tensor.shape.len() as u64).to_le_bytes());
            update_all(hasher, &tensor.shape, |extent| extent.to_le_bytes());
            hasher.update(&[tensor.values.element() as u8]);
            match &tensor.values {
                Values::Float32(values) => {
                    update_all(hasher, values, |value| value.to_bits().to_le_bytes());
                }
                Values::Int64(values) => update_all(hasher, values, |value| value.to_le_bytes()),
                Values::Uint8(values) => {
                    hasher.update(values);
                }
                Values::Text(strings) => {
                    update_all(hasher, &strings.offsets, |offset| offset.to_le_bytes());
                    hasher.update(&strings.bytes);
                }
            }
        }
    }
}

fn update_all<T: Copy, const N: usize>(
    hasher: &mut blake3::Hasher,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) {
    values.iter().for_each(|value| {
        hasher.update(&bytes(*value));
    });
}

#[cfg(test)]
mod tests;
