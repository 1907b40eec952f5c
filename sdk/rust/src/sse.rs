//! Server-sent events (WHATWG HTML, section 9.2): bytes in, messages out.

/// Longest message, in bytes.
const MESSAGE_MAX_BYTES: usize = 1024 * 1024;

/// A message is longer than the limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MESSAGE_MAX_BYTES} bytes")]
pub(crate) struct TooLong;

/// Cuts a stream of bytes into messages. Only `data` is kept: the position is in it, so that `id`,
/// `event` and `retry` tell nothing more.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    after_cr: bool,
}

impl Parser {
    /// The data of the messages that `bytes` completes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                _ if second_half => {}
                b'\r' | b'\n' => messages.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MESSAGE_MAX_BYTES {
                return Err(TooLong);
            }
        }
        Ok(messages)
    }

    /// Takes the line in; an empty one completes the message.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let mut data = std::mem::take(&mut self.data);
            // Each data line added a line feed; the last one isn't part of the data.
            return data.pop().map(|_| data);
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (&line[..], &[][..]),
        };
        if field == b"data" {
            self.data
                .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.push(b'\n');
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&str]) -> Vec<String> {
        let mut parser = Parser::default();
        pieces
            .iter()
            .flat_map(|piece| parser.push(piece.as_bytes()).unwrap())
            .map(|data| String::from_utf8(data).unwrap())
            .collect()
    }

    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut() {
        let text =
            ": hello\n\nid: 1\ndata: one\n\ndata:two\r\ndata: lines\r\n\r\nretry: 5\rdata\r\r";
        let expected = ["one", "two\nlines", ""];
        assert_eq!(parse(&[text]), expected);
        for at in 0..text.len() {
            assert_eq!(parse(&[&text[..at], &text[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn an_unfinished_message_is_not_told() {
        assert_eq!(parse(&["data: {\"half\":"]), Vec::<String>::new());
        assert_eq!(
            parse(&["data: line without the empty one\n"]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; MESSAGE_MAX_BYTES];
        assert_eq!(parser.push(&piece), Ok(Vec::new()));
        assert_eq!(parser.push(b"x"), Err(TooLong));
    }
}
