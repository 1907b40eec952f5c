//! Tables of text for people, and how numbers and times look in them.

use stoker_domain::Timestamp;

use super::output::one_line;

/// Rows of equal length, the first one the header.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned).to_vec()],
        }
    }

    /// A table with as many columns as there are names.
    pub(crate) fn of_rows(header: Vec<String>) -> Self {
        Self { rows: vec![header] }
    }

    /// One more row of a table with any number of columns.
    pub(crate) fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// A list of names and values, without a header.
    pub(crate) const fn of_fields() -> Self {
        Self { rows: Vec::new() }
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// One more name and value.
    pub(crate) fn field(&mut self, name: &str, value: impl Into<String>) {
        self.row([name.to_owned(), value.into()]);
    }

    /// The text, one line a row, columns two spaces apart, without a line end after the last.
    pub(crate) fn render(&self) -> String {
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| one_line(cell)).collect())
            .collect();
        let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let width = |row: &Vec<String>| row.get(column).map_or(0, |c| c.chars().count());
                cells.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        cells.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A point in time, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// A length of time in its two largest units.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A number of bytes in the largest binary unit that leaves at least 1.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["é\n\x1b[1m".to_owned(), "1".to_owned()]);
        table.row(["a longer one".to_owned(), String::new()]);
        let expected = "NAME          N\né \\u{1b}[1m   1\na longer one";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1_572_864, u64::MAX].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16384.0 PiB"]
        );
        assert_eq!(
            [12, 1_500, 61_000, 7_260_000].map(duration),
            ["12 ms", "1.5 s", "1 min 1 s", "2 h 1 min"]
        );
        assert_eq!(time(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01Z");
    }
}
