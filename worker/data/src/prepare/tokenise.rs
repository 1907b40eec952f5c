//! `tokenise`: token ids of text, a row each or packed into rows of one length.

use serde::Deserialize;
use serde_json::Value;
use stoker_domain::dataset::{Column, ColumnKind};
use stoker_domain::{FieldError, Ref};

use super::flow::Flow;
use super::step::{Described, Step, is_text, numbers};
use super::vocabulary::{Counts, PADDING, RESERVED, TokenKind, Vocabulary};
use super::window::NEXT;
use crate::chunk::Values;
use crate::error::DataError;
use crate::tokenizer;

/// Most tokens of a row.
const LENGTH_MAX: u32 = 65_536;
/// Most ids.
const VOCABULARY_MAX: u32 = 1 << 20;

/// Settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Columns of text; all when absent. Packed, there is one.
    columns: Vec<String>,
    /// A data set that holds a tokenizer; one is made of the training rows when absent.
    tokenizer: Option<Ref>,
    /// Whether that tokenizer puts its own marks around a text, as `[CLS]` and `[SEP]`; it does
    /// unless rows are packed.
    marks: Option<bool>,
    /// The id after a row's end, where a tokenizer is given; 0 when absent, whatever its own is.
    padding: Option<u32>,
    /// What a token is; pieces of words when absent.
    kind: Option<TokenKind>,
    /// Most ids, the two reserved ones included; 258 for bytes.
    vocabulary: Option<u32>,
    /// Tokens of a row: longer texts are cut, shorter ones end with padding.
    length: u32,
    /// Whether the rows are put one after the other, a line each, and cut into rows of full length:
    /// the column, and `next`, one token ahead.
    pack: bool,
    /// Whether letters become small ones first.
    lower: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            tokenizer: None,
            marks: None,
            padding: None,
            kind: None,
            vocabulary: None,
            length: 128,
            pack: false,
            lower: false,
        }
    }
}

/// The step.
pub(super) struct Tokenise {
    settings: Settings,
    /// The tokenizer's `name@version`, and the number of its ids.
    given: Option<(String, u32)>,
    columns: Vec<String>,
    counts: Counts,
    vocabulary: Option<Vocabulary>,
    /// Tokens that fill no row yet: those to train on, and those held out.
    rest: [Vec<u32>; 2],
}

impl Tokenise {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            given: None,
            columns: Vec::new(),
            counts: Counts::default(),
            vocabulary: None,
            rest: [Vec::new(), Vec::new()],
        }
    }

    fn kind(&self) -> TokenKind {
        self.settings.kind.unwrap_or_default()
    }

    fn padding(&self) -> u32 {
        self.settings.padding.unwrap_or(PADDING)
    }

    fn size(&self) -> u32 {
        if let Some((_, ids)) = &self.given {
            return *ids;
        }
        match (self.kind(), self.settings.vocabulary) {
            (TokenKind::Bytes, _) => RESERVED + 256,
            (_, Some(size)) => size,
            (TokenKind::Chars, None) => 256,
            (TokenKind::Bpe, None) => 8_192,
        }
    }

    /// Takes the tokenizer that the settings name.
    fn describe_given(&mut self, described: &Described<'_>) -> Result<(), FieldError> {
        let settings = &self.settings;
        let Some(reference) = &settings.tokenizer else {
            for (field, is_there) in [
                ("config.marks", settings.marks.is_some()),
                ("config.padding", settings.padding.is_some()),
            ] {
                if is_there {
                    let message = "goes with `tokenizer`, which isn't there";
                    return Err(FieldError::new(field, message));
                }
            }
            return Ok(());
        };
        for (field, is_there) in [
            ("config.kind", settings.kind.is_some()),
            ("config.vocabulary", settings.vocabulary.is_some()),
            ("config.lower", settings.lower),
        ] {
            if is_there {
                let message = "leave it out: the tokenizer says it";
                return Err(FieldError::new(field, message));
            }
        }
        let name = reference.to_string();
        let found = described.tokenizers.get(&name).ok_or_else(|| {
            let message = format!("there is no tokenizer `{name}`");
            FieldError::new("config.tokenizer", message)
        })?;
        let ids = u32::try_from(found.ids).unwrap_or(u32::MAX);
        if self.padding() >= ids {
            let message = format!("{} is not in 0 to {}", self.padding(), ids - 1);
            return Err(FieldError::new("config.padding", message));
        }
        self.given = Some((name, ids));
        Ok(())
    }

    /// Checks what a vocabulary is to be made of.
    fn check_made(&self) -> Result<(), FieldError> {
        let kind = self.kind();
        let least = match kind {
            TokenKind::Bpe => RESERVED + 256,
            TokenKind::Chars | TokenKind::Bytes => RESERVED + 1,
        };
        let size = self.size();
        if self.settings.vocabulary.is_some() && kind == TokenKind::Bytes {
            let message = "leave it out: bytes have 258 ids";
            return Err(FieldError::new("config.vocabulary", message));
        }
        if !(least..=VOCABULARY_MAX).contains(&size) {
            let message = format!("{size} is not in {least} to {VOCABULARY_MAX}");
            return Err(FieldError::new("config.vocabulary", message));
        }
        Ok(())
    }

    /// A row's text as it is tokenised.
    fn text(&self, text: &str) -> String {
        let mut text = match self.settings.lower {
            true => text.to_lowercase(),
            false => text.to_owned(),
        };
        if self.settings.pack {
            text.push('\n');
        }
        text
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.vocabulary {
            Some(vocabulary) => vocabulary.ids(&self.text(text)),
            None => Err(DataError::Malformed(
                "tokenise: there is no vocabulary".to_owned(),
            )),
        }
    }

    fn pack(&mut self, flow: &Flow, name: &str) -> Result<Flow, DataError> {
        let length = self.settings.length as usize;
        let (mut ids, mut held) = (Vec::new(), Vec::new());
        let (mut tokens, mut next) = (Vec::new(), Vec::new());
        if let Values::Texts(texts) = &flow.column(name)?.values {
            for ((text, &id), &held_out) in texts.iter().zip(&flow.ids).zip(&flow.held_out) {
                let new = self.ids(text)?;
                let rest = &mut self.rest[usize::from(held_out)];
                rest.extend(new);
                let mut begin = 0;
                while rest.len() > begin + length {
                    tokens.extend(rest[begin..][..length].iter().map(|&id| f64::from(id)));
                    next.extend(rest[begin + 1..][..length].iter().map(|&id| f64::from(id)));
                    ids.push(id);
                    held.push(held_out);
                    begin += length;
                }
                rest.drain(..begin);
            }
        }
        let mut made = Flow {
            columns: Vec::new(),
            ids,
            held_out: held,
        };
        made.add(name, &[self.settings.length], tokens);
        made.add(NEXT, &[self.settings.length], next);
        Ok(made)
    }
}

impl Step for Tokenise {
    fn describe(&mut self, described: &mut Described<'_>) -> Result<(), FieldError> {
        self.describe_given(described)?;
        if self.given.is_none() {
            self.check_made()?;
        }
        let Settings {
            columns,
            length,
            pack,
            ..
        } = &self.settings;
        if !(1..=LENGTH_MAX).contains(length) {
            let message = format!("{length} is not in 1 to {LENGTH_MAX}");
            return Err(FieldError::new("config.length", message));
        }
        self.columns = described.choose("tokenise", columns, is_text, |_| true)?;
        if *pack && self.columns.len() > 1 {
            let message = format!(
                "packed rows have one column of text, not {:?}",
                self.columns
            );
            return Err(FieldError::new("config.columns", message));
        }
        let range = [0.0, f64::from(self.size() - 1)];
        let ids = |name: &str| numbers(name, ColumnKind::Integer, &[*length], range);
        for name in &self.columns {
            described.change(name, |column: &mut Column| *column = ids(name));
        }
        if *pack {
            let name = &self.columns[0];
            described
                .schema
                .columns
                .retain(|column| column.name == *name);
            described.add("config.pack", ids(NEXT))?;
            described.rows = None;
        }
        Ok(())
    }

    fn tokenizer(&self) -> Option<&str> {
        self.given.as_ref().map(|(name, _)| name.as_str())
    }

    fn give_tokenizer(&mut self, file: &[u8]) -> Result<(), DataError> {
        self.vocabulary = Some(Vocabulary::Given {
            tokenizer: Box::new(tokenizer::load(file)?),
            marks: self.settings.marks.unwrap_or(!self.settings.pack),
        });
        Ok(())
    }

    fn is_fitted(&self) -> bool {
        self.given.is_none()
    }

    fn observe(&mut self, flow: &Flow) -> Result<(), DataError> {
        let mut counts = std::mem::take(&mut self.counts);
        for name in &self.columns {
            if let Values::Texts(texts) = &flow.column(name)?.values {
                let rows = texts.iter().zip(&flow.held_out);
                for (text, _) in rows.filter(|(_, held_out)| !**held_out) {
                    counts.add(self.kind(), &self.text(text))?;
                }
            }
        }
        self.counts = counts;
        Ok(())
    }

    fn fit(&mut self) -> Result<(), DataError> {
        let counts = std::mem::take(&mut self.counts);
        self.vocabulary = Some(counts.vocabulary(self.kind(), self.size())?);
        Ok(())
    }

    fn apply(&mut self, mut flow: Flow) -> Result<Flow, DataError> {
        if self.settings.pack {
            let name = self.columns.first().cloned().unwrap_or_default();
            return self.pack(&flow, &name);
        }
        let (length, padding) = (self.settings.length as usize, f64::from(self.padding()));
        for name in &self.columns {
            let mut numbers = Vec::with_capacity(flow.rows() * length);
            if let Values::Texts(texts) = &flow.column(name)?.values {
                for (row, text) in texts.iter().enumerate() {
                    let ids = self.ids(text)?;
                    numbers.extend(ids.into_iter().take(length).map(f64::from));
                    numbers.resize((row + 1) * length, padding);
                }
            }
            flow.replace(name, &[self.settings.length], numbers)?;
        }
        Ok(flow)
    }

    fn keeps_rows(&self) -> bool {
        !self.settings.pack
    }

    fn reads(&self) -> &[String] {
        &self.columns
    }

    fn start(&mut self, _predicting: bool) {
        self.rest = [Vec::new(), Vec::new()];
    }

    fn save(&self) -> Value {
        serde_json::to_value(&self.vocabulary).unwrap_or_default()
    }

    fn restore(&mut self, saved: &Value) -> Result<(), serde_json::Error> {
        self.vocabulary = Deserialize::deserialize(saved)?;
        Ok(())
    }
}
