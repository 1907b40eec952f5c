//! Everything that a client verb says: results on stdout, the rest on stderr.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::exit::{Exit, Failure};
use crate::environment::Environment;

/// Where a command writes.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
    progress: bool,
}

impl Output {
    /// Output for people.
    pub(crate) fn new(environment: &Environment) -> Self {
        Self {
            json: false,
            colour: environment.stderr_is_terminal && !environment.no_color,
            progress: environment.stderr_is_terminal,
        }
    }

    /// The same, for programs when `json`.
    pub(crate) fn with_json(mut self, json: bool) -> Self {
        self.json = json;
        self
    }

    /// Whether programs read the results.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Whether a progress bar can be drawn.
    pub(crate) const fn progress(&self) -> bool {
        self.progress
    }

    /// A line, or lines, of the result.
    pub(crate) fn line(&self, text: &str) {
        write_or_end(&mut io::stdout().lock(), format!("{text}\n").as_bytes());
    }

    /// The result as bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        write_or_end(&mut io::stdout().lock(), bytes);
    }

    /// The result as one JSON document.
    pub(crate) fn document<T: Serialize>(&self, document: &T) -> Result<(), Failure> {
        self.line(&serde_json::to_string_pretty(document).map_err(unwritable)?);
        Ok(())
    }

    /// One of a stream's results, as a line of JSON.
    pub(crate) fn record<T: Serialize>(&self, record: &T) -> Result<(), Failure> {
        self.line(&serde_json::to_string(record).map_err(unwritable)?);
        Ok(())
    }

    /// Something that isn't the result.
    pub(crate) fn note(&self, text: &str) {
        write_or_end(&mut io::stderr().lock(), format!("{text}\n").as_bytes());
    }

    /// An error's text.
    pub(crate) fn error(&self, text: &str) {
        self.note(text);
    }

    /// Why the command didn't do what was asked.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            return self.note(&failure.to_json().to_string());
        }
        let label = if self.colour {
            "\x1b[1;31merror:\x1b[0m"
        } else {
            "error:"
        };
        self.note(&format!("{label} {}", printable(&failure.message)));
        // A sentence about one field is that field's error already.
        let told = |field: &String| failure.message == *field;
        for field in failure
            .fields
            .iter()
            .map(ToString::to_string)
            .filter(|field| !told(field))
        {
            self.note(&printable(&format!("  {field}")));
        }
    }
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}

/// Writes, or ends the process: nobody is left to be told. A reader that has seen enough (`| head`)
/// is no error.
fn write_or_end(to: &mut dyn Write, bytes: &[u8]) {
    if let Err(error) = to.write_all(bytes).and_then(|()| to.flush()) {
        let code = if error.kind() == ErrorKind::BrokenPipe {
            0
        } else {
            Exit::File as i32
        };
        std::process::exit(code);
    }
}

/// `text` without control characters, which could make a terminal lie: names, messages and log
/// lines are other people's.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// The same, in one line.
pub(crate) fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(
            printable("a\x1b[2Jb\r\u{9b}é\t\n"),
            "a\\u{1b}[2Jb\\r\\u{9b}é\t\n"
        );
        assert_eq!(one_line("two\nlines\u{7}"), "two lines\\u{7}");
    }
}
