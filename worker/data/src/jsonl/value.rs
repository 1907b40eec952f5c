//! One line of JSON, value by value.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value as a data set can have it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'t> {
    Null,
    Number(f64),
    Text(Cow<'t, str>),
    /// Numbers, row-major, NaN for null.
    Array(Vec<u32>, Vec<f64>),
}

/// Takes a line's values.
pub(super) trait Sink {
    /// The place of a column; `None` for one that isn't wanted.
    fn place(&mut self, name: &str) -> Result<Option<usize>, String>;

    /// Takes a value, or says what is wrong with it.
    fn take(&mut self, place: usize, value: Value<'_>) -> Result<(), String>;
}

/// What is wrong with a line: in the column of that name, where one is to blame.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) column: Option<String>,
    pub(super) message: String,
}

/// Gives a line's values to `sink`; an array has at most `values_max` numbers.
pub(super) fn parse(line: &str, sink: &mut impl Sink, values_max: usize) -> Result<(), Wrong> {
    let mut wrong = None;
    let mut json = serde_json::Deserializer::from_str(line);
    let object = Object {
        sink,
        wrong: &mut wrong,
        values_max,
    };
    let parsed = object.deserialize(&mut json).and_then(|()| json.end());
    parsed.map_err(|error| {
        wrong.unwrap_or_else(|| Wrong {
            column: None,
            message: explain(line, &error),
        })
    })
}

fn explain(line: &str, error: &serde_json::Error) -> String {
    let at = error.column();
    let rest = line.get(at.saturating_sub(1)..).unwrap_or_default();
    if ["NaN", "Infinity", "-Infinity"]
        .iter()
        .any(|word| rest.starts_with(word))
    {
        return format!("NaN and Infinity at character {at} aren't JSON; write null");
    }
    if !line.trim_start().starts_with('{') {
        return "a line has to be a JSON object, as {\"age\": 36, \"name\": \"Ada\"}".to_owned();
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("the line isn't JSON: {what} at character {at}")
}

struct Object<'s, S> {
    sink: &'s mut S,
    wrong: &'s mut Option<Wrong>,
    values_max: usize,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Object<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Object<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let mut refused = |message: String| {
                *self.wrong = Some(Wrong {
                    column: Some(name.to_string()),
                    message,
                });
                A::Error::custom("refused")
            };
            let Some(place) = self.sink.place(&name).map_err(&mut refused)? else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let values_max = self.values_max;
            let mut why = None;
            let one = One {
                values_max,
                why: &mut why,
            };
            match map.next_value_seed(one) {
                Ok(value) => self.sink.take(place, value).map_err(&mut refused)?,
                Err(error) => return Err(why.map_or(error, &mut refused)),
            }
        }
        Ok(())
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A value of a column.
struct One<'s> {
    values_max: usize,
    why: &'s mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a string, a list of numbers, true, false or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Number(f64::from(u8::from(value))))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        let message = "an object inside the object; give its values columns of their own";
        *self.why = Some(message.to_owned());
        Err(A::Error::custom("refused"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        let list = List {
            numbers: &mut numbers,
            values_max: self.values_max,
            why: self.why,
        };
        let mut shape = list.read(seq)?;
        shape.reverse();
        Ok(Value::Array(shape, numbers))
    }
}

/// A list of numbers, or of lists of one shape. Shapes are told from the inside out.
struct List<'s> {
    numbers: &'s mut Vec<f64>,
    values_max: usize,
    why: &'s mut Option<String>,
}

impl List<'_> {
    fn read<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u32>, A::Error> {
        let mut first: Option<Vec<u32>> = None;
        let mut count = 0_u32;
        loop {
            let item = Item(List {
                numbers: self.numbers,
                values_max: self.values_max,
                why: self.why,
            });
            let Some(shape) = seq.next_element_seed(item)? else {
                break;
            };
            let wrong = if self.numbers.len() > self.values_max {
                Some(format!("more than {} numbers in a row", self.values_max))
            } else if first.as_ref().is_some_and(|first| *first != shape) {
                Some("lists of different lengths in one list; make them equal".to_owned())
            } else {
                None
            };
            if let Some(wrong) = wrong {
                *self.why = Some(wrong);
                return Err(A::Error::custom("refused"));
            }
            first.get_or_insert(shape);
            count += 1;
        }
        let mut shape = first.unwrap_or_default();
        shape.push(count);
        Ok(shape)
    }
}

struct Item<'s>(List<'s>);

impl Item<'_> {
    fn number<E>(self, value: f64) -> Result<Vec<u32>, E> {
        self.0.numbers.push(value);
        Ok(Vec::new())
    }

    fn refuse<E: Error>(self, what: &str) -> E {
        *self.0.why = Some(format!("{what} in a list; only numbers can be in one"));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Vec<u32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = Vec<u32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.number(f64::NAN)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.number(f64::from(u8::from(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.number(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.number(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        self.number(value)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(self.refuse("a string"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self.refuse("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.0.read(seq)
    }
}
