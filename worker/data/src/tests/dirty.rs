//! Files as they come: cut off, mislabelled, oversized or hostile.

use super::*;

/// Files that pass a limit, with what is said of them.
type Cases<const N: usize> = [(Vec<u8>, DataFormat, Limits, &'static str); N];

fn tight(change: fn(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn refuse_all<const N: usize>(cases: Cases<N>) {
    for (bytes, format, limits, message) in cases {
        let error = describe(boxed(&bytes), format, Header::Auto, &limits).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
        assert_eq!(error.code(), ErrorCode::TooLarge, "{message}");
    }
}

#[test]
fn limits_of_lines_hold() {
    let wide = format!("{}\n", vec!["1"; 20_000].join(","));
    let open_quote = format!("\"{}", "a".repeat(1_000_000));
    let one = || b"1\n2\n3\n".to_vec();
    refuse_all([
        (
            one(),
            DataFormat::Csv,
            tight(|l| l.size_bytes = 5),
            "the file has 6 bytes, at most 5",
        ),
        (
            one(),
            DataFormat::Csv,
            tight(|l| l.rows = 2),
            "more than 2 rows",
        ),
        (
            one(),
            DataFormat::Text,
            tight(|l| l.rows = 2),
            "more than 2 rows",
        ),
        (
            wide.into_bytes(),
            DataFormat::Csv,
            Limits::default(),
            "20000 columns, at most 16384",
        ),
        (
            open_quote.into_bytes(),
            DataFormat::Csv,
            tight(|l| l.row_bytes = 65_536),
            "quotation mark",
        ),
        (
            gzip(&vec![b'0'; 1 << 20]),
            DataFormat::CsvGz,
            tight(|l| l.expanded_bytes = 1 << 16),
            "expands to more than 65536",
        ),
    ]);
}

#[test]
fn limits_of_arrays_and_objects_hold() {
    let array = npy("<f4", "False", "(3,)", &floats(&[1.0; 3]));
    let row = npy("<f4", "False", "(1, 3)", &floats(&[1.0; 3]));
    let ones = npy("|u1", "False", "(70000,)", &[0; 70_000]);
    refuse_all([
        (
            array.clone(),
            DataFormat::Npy,
            tight(|l| l.rows = 2),
            "3 rows, at most 2",
        ),
        (
            row,
            DataFormat::Npy,
            tight(|l| l.row_values = 2),
            "a row has 3 numbers, at most 2",
        ),
        (
            npz(&[("a.npy", ones)]),
            DataFormat::Npz,
            tight(|l| l.expanded_bytes = 1 << 16),
            "expands to more",
        ),
        (
            b"{\"a\": 1}\n{\"b\": 1, \"c\": 2}\n".to_vec(),
            DataFormat::Jsonl,
            tight(|l| l.columns = 2),
            "more than 2 columns",
        ),
    ]);
}

#[test]
fn bombs_stop_at_the_ratio() {
    // 256 MiB of one byte in 260 kB, where 200 times that and 64 MiB are allowed.
    for (byte, format) in [(b'\n', DataFormat::CsvGz), (b'x', DataFormat::TextGz)] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let mebibyte = vec![byte; 1 << 20];
        (0..256).for_each(|_| encoder.write_all(&mebibyte).unwrap());
        let bomb = encoder.finish().unwrap();
        let limits = Limits {
            row_bytes: 1 << 30,
            ..Limits::default()
        };
        let error = describe(boxed(&bomb), format, Header::Auto, &limits).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
    }
    let array = npy("|u1", "False", "(300000000,)", &vec![0; 300_000_000]);
    let bomb = npz(&[("a.npy", array)]);
    let error = described(&bomb, DataFormat::Npz).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge);
}

#[test]
fn ten_million_columns_are_refused() {
    let wide = "a,".repeat(10_000_000) + "\n1\n";
    let limits = Limits {
        row_bytes: 64 << 20,
        ..Limits::default()
    };
    let error = describe(
        boxed(wide.as_bytes()),
        DataFormat::Csv,
        Header::Auto,
        &limits,
    );
    let error = error.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10000001 columns, at most 16384"),
        "{error}"
    );
    assert_eq!(
        described(wide.as_bytes(), DataFormat::Csv)
            .unwrap_err()
            .code(),
        ErrorCode::TooLarge
    );
}

#[test]
fn a_cut_off_gzip_is_refused() {
    let noise: String = (0..9_000_u32)
        .map(|i| format!("{},2\n", i.wrapping_mul(2_654_435_761)))
        .collect();
    let whole = gzip(noise.as_bytes());
    for cut in [4, 12, whole.len() / 2] {
        let message = refusal(&whole[..whole.len() - cut], DataFormat::CsvGz);
        assert!(message.contains("middle"), "{cut}: {message}");
    }
    let mut damaged = whole.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    assert!(refusal(&damaged, DataFormat::CsvGz).contains("broken"));
}

#[test]
fn texts_in_other_encodings_are_refused_with_their_row() {
    let utf16: Vec<u8> = "\u{feff}a,b\n1,2\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let bare: Vec<u8> = "a,b\n1,2\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut far = "a,b\n".to_owned() + &"x,1\n".repeat(200_000);
    far.push_str("caf");
    let mut far = far.into_bytes();
    far.extend(b"\xe9,1\n");
    for (bytes, message) in [
        (utf16, "text in UTF-16; save it as UTF-8"),
        (
            bare,
            "row 1: there is a NUL byte; the file isn't text, or is in UTF-16",
        ),
        (
            b"a,b\nx,1\ncaf\xe9,2\n".to_vec(),
            "row 3: the byte 0xe9 isn't UTF-8; save the file as",
        ),
        (
            b"a,b\nx,1\n\ny\0,2\n".to_vec(),
            "row 4: there is a NUL byte",
        ),
        (far, "row 200002: the byte 0xe9 isn't UTF-8"),
    ] {
        let found = refusal(&bytes, DataFormat::Csv);
        assert!(found.contains(message), "{message}: {found}");
        let found = refusal(&bytes, DataFormat::Text);
        assert!(found.contains(message), "{message}: {found}");
    }
}

#[test]
fn a_quotation_mark_left_open_is_named_with_its_row() {
    let text = "a,b\n1,x\n2,\"y\n3,z\n".to_owned() + &"4,z\n".repeat(300_000);
    let found = refusal(text.as_bytes(), DataFormat::Csv);
    assert!(
        found.starts_with("row 3: a quotation mark is opened here and never closed"),
        "{found}"
    );
    let found = refusal(b"\"a,b\n1,2\n", DataFormat::Csv);
    assert!(found.starts_with("row 1: a quotation mark"), "{found}");
}

#[test]
fn a_file_with_the_wrong_format_is_told_what_it_is() {
    let array = npy("<f4", "False", "(1,)", &floats(&[1.0]));
    let png = images::encode(images::red(1, 1), ::image::ImageFormat::Png);
    let tar = images::tar(&[("a.png", png.clone())]);
    let table = super::parquet::kinds(::parquet::basic::Compression::SNAPPY);
    for (bytes, format, message) in [
        (
            gzip(b"a\n1\n"),
            DataFormat::Csv,
            "the file isn't csv: it is compressed by gzip; use",
        ),
        (
            table.clone(),
            DataFormat::Csv,
            "it is Parquet; use the format `parquet`",
        ),
        (
            table,
            DataFormat::Jsonl,
            "it is Parquet; use the format `parquet`",
        ),
        (
            array.clone(),
            DataFormat::Parquet,
            "it is a NumPy array; use the format `npy`",
        ),
        (
            npz(&[("a.npy", array)]),
            DataFormat::Npy,
            "it is a zip archive; use the format `npz`",
        ),
        (
            tar.clone(),
            DataFormat::Text,
            "it is a tar archive; use the format `images`",
        ),
        (
            gzip(&tar),
            DataFormat::CsvGz,
            "inside gzip it is a tar archive",
        ),
        (gzip(b"a\n1\n"), DataFormat::Images, "isn't a tar archive"),
        (
            png,
            DataFormat::Images,
            "it is a picture; put the pictures in a tar",
        ),
        (
            b"a\n1\n".to_vec(),
            DataFormat::CsvGz,
            "the file isn't compressed by gzip",
        ),
        (
            b"a\n1\n".to_vec(),
            DataFormat::Parquet,
            "this is not a Parquet file",
        ),
        (b"%PDF-1.7".to_vec(), DataFormat::Text, "it is a PDF"),
    ] {
        let found = refusal(&bytes, format);
        assert!(found.contains(message), "{message}: {found}");
    }
    for format in DataFormat::ALL {
        assert_eq!(refusal(b"", format), "the file is empty", "{format:?}");
    }
}

#[test]
fn a_reader_that_is_dropped_early_leaves_no_thread() {
    let csv = "a,b\n".to_owned() + &"1,x\n".repeat(1_000_000);
    let table = super::parquet::kinds(::parquet::basic::Compression::SNAPPY);
    for (bytes, format, column) in [
        (csv.as_bytes(), DataFormat::Csv, "a"),
        (table.as_slice(), DataFormat::Parquet, "real"),
    ] {
        let found = described(bytes, format).unwrap();
        let layout = Layout {
            format,
            header: found.header,
            delimiter: found.delimiter,
            schema: Some(found.schema),
        };
        let names = [column.to_owned()];
        let mut chunks = read(boxed(bytes), &layout, &names, &Limits::default()).unwrap();
        assert!(chunks.next().unwrap().unwrap().rows > 0);
        // Ends the threads, and returns.
        drop(chunks);
    }
}
