//! As much of Thrift's compact protocol as is needed to look at a file before its own reader does,
//! which trusts what it is told: it would recurse as deep as a schema goes, and reserve as much as
//! a group says that it has.

/// A 32-bit number, as types of fields are written.
const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;
/// Deepest nesting that is passed over.
const SKIP_DEPTH_MAX: u32 = 16;
/// Deepest nesting of a schema.
const SCHEMA_DEPTH_MAX: usize = 32;

/// Bytes that are read one after the other.
struct Compact<'b>(&'b [u8]);

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let zigzag = self.unsigned()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// The next field of a structure: its number and type; none at its end.
    fn field(&mut self, before: i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let id = match byte >> 4 {
            0 => self.signed()?,
            step => before.checked_add(i64::from(step))?,
        };
        Some(Some((id, byte & 0x0f)))
    }

    /// The length of a list, and the type of its items.
    fn list(&mut self) -> Option<(u64, u8)> {
        let byte = self.byte()?;
        let length = match byte >> 4 {
            15 => self.unsigned()?,
            length => u64::from(length),
        };
        Some((length, byte & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        if depth > SKIP_DEPTH_MAX {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => self.bytes(1)?,
            4..=6 => {
                self.unsigned()?;
            }
            7 => self.bytes(8)?,
            8 => {
                let length = self.unsigned()?;
                self.bytes(length)?;
            }
            LIST | 10 => {
                let (length, kind) = self.list()?;
                for _ in 0..length {
                    self.skip_item(kind, depth)?;
                }
            }
            11 => {
                let length = self.unsigned()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                for _ in 0..length {
                    self.skip_item(kinds >> 4, depth)?;
                    self.skip_item(kinds & 0x0f, depth)?;
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some((next, kind)) = self.field(id)? {
                    id = next;
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// As [`Self::skip`]; a boolean in a list has a byte of its own.
    fn skip_item(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1 | 2 => self.bytes(1),
            kind => self.skip(kind, depth + 1),
        }
    }
}

/// What a page's header says of its page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Bytes once decompressed.
    pub(super) bytes: i64,
    /// Values, or levels where there are none.
    pub(super) values: i64,
}

/// What the header of a page claims, where one begins here: type, size, compressed size, perhaps a
/// checksum, then a structure that begins with the number of values.
pub(super) fn claim(bytes: &[u8]) -> Option<Claim> {
    let mut header = Compact(bytes);
    let (mut size, mut id) = (0, 0);
    loop {
        let (next, kind) = header.field(id)??;
        id = next;
        match (id, kind) {
            (1, I32) if (0..=3).contains(&header.signed()?) => {}
            (2, I32) => size = header.signed()?,
            (3 | 4, I32) => {
                header.signed()?;
            }
            (5..=8, STRUCT) if size != 0 => break,
            _ => return None,
        }
    }
    match header.field(0)?? {
        (1, I32) => Some(Claim {
            bytes: size,
            values: header.signed()?,
        }),
        _ => None,
    }
}

/// Whether the schema in a file's description can be built without harm; `None` when it can't be
/// read at all.
pub(super) fn has_sound_schema(description: &[u8]) -> Option<bool> {
    let mut file = Compact(description);
    let mut id = 0;
    while let Some((next, kind)) = file.field(id)? {
        id = next;
        if (id, kind) == (2, LIST) {
            return is_sound(&mut file);
        }
        file.skip(kind, 0)?;
    }
    None
}

fn is_sound(file: &mut Compact<'_>) -> Option<bool> {
    let (length, kind) = file.list()?;
    if kind != STRUCT {
        return None;
    }
    // Children that the groups around the present element still are to have.
    let mut open: Vec<i64> = Vec::new();
    for at in 0..length {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let children = children(file)?;
        if children > 0 {
            open.push(children);
        }
        let left = length - at - 1;
        let too_many = u64::try_from(children).map_or(true, |children| children > left);
        if too_many || open.len() > SCHEMA_DEPTH_MAX {
            return Some(false);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Some(true)
}

/// How many children an element of a schema says that it has.
fn children(file: &mut Compact<'_>) -> Option<i64> {
    let (mut id, mut children) = (0, 0);
    while let Some((next, kind)) = file.field(id)? {
        id = next;
        match (id, kind) {
            (5, I32) => children = file.signed()?,
            _ => file.skip(kind, 0)?,
        }
    }
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_what_its_page_claims() {
        // A data page of 100 bytes, 50 compressed, 7 values; then one with a checksum.
        let plain = [0x15, 0, 0x15, 200, 1, 0x15, 100, 0x2c, 0x15, 14, 0];
        let claimed = Some(Claim {
            bytes: 100,
            values: 7,
        });
        assert_eq!(claim(&plain), claimed);
        let checked = [0x15, 0, 0x15, 200, 1, 0x15, 100, 0x15, 9, 0x1c, 0x15, 14, 0];
        assert_eq!(claim(&checked), claimed);
        assert_eq!(claim(&plain[..6]), None);
        assert_eq!(claim(b"some text"), None);
    }

    /// A description whose schema has groups with so many children, one in the other.
    fn nested(depth: usize, children: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        let mut length = depth;
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        // Name "x", then the number of children.
        let group = [0x48, 1, b'x', 0x15, children * 2, 0];
        bytes.extend(group.repeat(depth - 1));
        bytes.extend([0x48, 1, b'x', 0, 0]);
        bytes
    }

    #[test]
    fn schemas_that_would_harm_their_reader_are_found() {
        assert_eq!(has_sound_schema(&nested(3, 1)), Some(true));
        assert_eq!(has_sound_schema(&nested(1_000_000, 1)), Some(false));
        assert_eq!(has_sound_schema(&nested(2, 60)), Some(false));
        assert_eq!(has_sound_schema(&nested(3, 1)[..9]), None);
        assert_eq!(has_sound_schema(b""), None);
    }
}
