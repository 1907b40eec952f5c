//! Token ids of text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{AddedToken, PreTokenizedString, PreTokenizer, Tokenizer};

use crate::error::DataError;
use crate::tokenizer::TEXT_MAX_BYTES;

/// The id after a text's end.
pub(super) const PADDING: u32 = 0;
/// The id of what no training row has.
pub(super) const UNKNOWN: u32 = 1;
/// Ids that stand for no text.
pub(super) const RESERVED: u32 = 2;

/// What ids stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenKind {
    /// Bytes of UTF-8.
    Bytes,
    /// Characters, the most frequent ones of the training rows.
    Chars,
    /// Pieces of words, found in the training rows by byte-pair encoding (Sennrich et al. 2016)
    /// over bytes.
    #[default]
    Bpe,
}

/// What was taken from the training rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Vocabulary {
    Bytes {},
    /// Characters by id.
    Chars {
        characters: Vec<char>,
    },
    /// A tokenizer as the library writes it.
    Bpe {
        tokenizer: Box<Tokenizer>,
    },
    /// One that came from elsewhere, and whether it adds the marks of its own.
    Given {
        tokenizer: Box<Tokenizer>,
        marks: bool,
    },
}

/// Counts what a vocabulary is made of.
#[derive(Debug, Default)]
pub(super) struct Counts {
    chars: BTreeMap<char, u64>,
    words: BTreeMap<String, u64>,
    bytes: usize,
}

/// Most bytes of different words.
const WORDS_MAX_BYTES: usize = 256 << 20;

fn failed(error: &dyn std::fmt::Display) -> DataError {
    DataError::Malformed(format!("tokenise: {error}"))
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

impl Counts {
    /// Takes in a text.
    pub(super) fn add(&mut self, kind: TokenKind, text: &str) -> Result<(), DataError> {
        match kind {
            TokenKind::Bytes => {}
            TokenKind::Chars => {
                for char in text.chars() {
                    *self.chars.entry(char).or_default() += 1;
                }
            }
            TokenKind::Bpe => {
                let mut pieces = PreTokenizedString::from(text);
                byte_level()
                    .pre_tokenize(&mut pieces)
                    .map_err(|error| failed(&error))?;
                let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
                for (word, ..) in pieces {
                    match self.words.get_mut(word) {
                        Some(count) => *count += 1,
                        None => {
                            self.bytes += word.len();
                            self.words.insert(word.to_owned(), 1);
                        }
                    }
                }
                if self.bytes > WORDS_MAX_BYTES {
                    return Err(DataError::TooLarge(format!(
                        "tokenise: the training rows have more than {WORDS_MAX_BYTES} bytes of different words"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The vocabulary of up to `size` ids, the reserved ones included.
    pub(super) fn vocabulary(self, kind: TokenKind, size: u32) -> Result<Vocabulary, DataError> {
        Ok(match kind {
            TokenKind::Bytes => Vocabulary::Bytes {},
            TokenKind::Chars => {
                let mut all: Vec<(char, u64)> = self.chars.into_iter().collect();
                all.sort_by_key(|&(char, count)| (std::cmp::Reverse(count), char));
                all.truncate((size - RESERVED) as usize);
                let mut characters: Vec<char> = all.into_iter().map(|(char, _)| char).collect();
                characters.sort_unstable();
                Vocabulary::Chars { characters }
            }
            TokenKind::Bpe => {
                let reserved = ["<pad>", "<unk>"].map(|name| AddedToken::from(name, true));
                let trainer = BpeTrainerBuilder::new()
                    .show_progress(false)
                    .vocab_size(size as usize)
                    .min_frequency(2)
                    .special_tokens(reserved.to_vec())
                    .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                    .build();
                let mut model = BPE::default();
                let words = self.words.into_iter();
                let words = words.map(|(word, count)| (word.as_str().into(), count));
                trainer
                    .do_train(&words.collect(), &mut model)
                    .map_err(|error| failed(&error))?;
                let mut tokenizer = Tokenizer::new(model);
                tokenizer.with_pre_tokenizer(Some(byte_level()));
                tokenizer.with_decoder(Some(byte_level()));
                Vocabulary::Bpe {
                    tokenizer: Box::new(tokenizer),
                }
            }
        })
    }
}

impl Vocabulary {
    /// The ids of a text.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, DataError> {
        Ok(match self {
            Self::Bytes {} => text
                .bytes()
                .map(|byte| u32::from(byte) + RESERVED)
                .collect(),
            Self::Chars { characters } => {
                let id = |char: char| match characters.binary_search(&char) {
                    Ok(index) => u32::try_from(index).unwrap_or(0) + RESERVED,
                    Err(_) => UNKNOWN,
                };
                text.chars().map(id).collect()
            }
            Self::Bpe { tokenizer } => encode(tokenizer, text, false)?,
            Self::Given { .. } if text.len() > TEXT_MAX_BYTES => {
                return Err(DataError::TooLarge(format!(
                    "a text has {} bytes, at most {TEXT_MAX_BYTES} are given to a tokenizer",
                    text.len()
                )));
            }
            Self::Given { tokenizer, marks } => encode(tokenizer, text, *marks)?,
        })
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, marks: bool) -> Result<Vec<u32>, DataError> {
    let encoding = tokenizer.encode_fast(text, marks);
    Ok(encoding.map_err(|error| failed(&error))?.get_ids().to_vec())
}
