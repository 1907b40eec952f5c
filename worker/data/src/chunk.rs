//! Rows on their way from a file to a table.

/// Some rows of a data set that follow one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// The first row's number; from 0.
    pub first_row: u64,
    /// Rows of every column.
    pub rows: usize,
    /// The columns, in the order they were asked for.
    pub columns: Vec<ChunkColumn>,
}

/// One column of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkColumn {
    /// The column's name.
    pub name: String,
    /// Shape of one row's value; empty for a number or a text.
    pub shape: Vec<u32>,
    /// Its values.
    pub values: Values,
}

/// The values of some rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Rows x width numbers, row-major; NaN where there is none.
    Numbers(Vec<f64>),
    /// A text per row, empty where there is none.
    Texts(Texts),
    /// A picture per row.
    Pictures(Vec<Picture>),
}

impl Values {
    /// Memory that they take, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Numbers(numbers) => size_of_val(numbers.as_slice()),
            Self::Texts(texts) => texts.size_bytes(),
            Self::Pictures(pictures) => pictures.iter().map(|picture| picture.pixels.len()).sum(),
        }
    }
}

/// Texts, one after the other in one string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts {
    bytes: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Adds one.
    pub fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
    }

    /// Memory that they take, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.ends.as_slice())
    }

    /// Those from `begin` up to `end`.
    pub(crate) fn slice(&self, begin: usize, end: usize) -> Self {
        let at = |row: usize| row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let (from, to) = (at(begin), at(end));
        Self {
            bytes: self.bytes[from..to].to_owned(),
            ends: self.ends[begin..end].iter().map(|end| end - from).collect(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ends.iter().enumerate().map(|(index, &end)| {
            let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[begin..end]
        })
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = Self::default();
        for text in texts {
            all.push(text.as_ref());
        }
        all
    }
}

/// A picture, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Numbers per pixel: 1 grey, 3 red, green and blue.
    pub channels: u8,
    /// Height x width x channels.
    pub pixels: Vec<u8>,
}
