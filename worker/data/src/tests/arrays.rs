//! NPY and NPZ.

use super::*;

#[test]
fn every_type_of_array_is_read() {
    let cases: [(&str, Vec<u8>, [f64; 2]); 12] = [
        ("<f4", floats(&[1.5, -2.0]), [1.5, -2.0]),
        (
            ">f8",
            [1.5_f64, -2.0]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
            [1.5, -2.0],
        ),
        ("|i1", vec![1, 0xff], [1.0, -1.0]),
        ("<i2", vec![1, 0, 0xfe, 0xff], [1.0, -2.0]),
        (">i2", vec![0, 1, 0xff, 0xfe], [1.0, -2.0]),
        ("<i4", vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], [1.0, -1.0]),
        (
            "<i8",
            [3_i64, -4].iter().flat_map(|v| v.to_le_bytes()).collect(),
            [3.0, -4.0],
        ),
        ("|u1", vec![1, 255], [1.0, 255.0]),
        ("<u2", vec![1, 0, 0, 1], [1.0, 256.0]),
        ("<u4", vec![1, 0, 0, 0, 0, 0, 1, 0], [1.0, 65536.0]),
        (
            "<u8",
            [3_u64, 4].iter().flat_map(|v| v.to_le_bytes()).collect(),
            [3.0, 4.0],
        ),
        ("|b1", vec![0, 1], [0.0, 1.0]),
    ];
    for (descr, values, expected) in cases {
        let bytes = npy(descr, "False", "(2,)", &values);
        let schema = described(&bytes, DataFormat::Npy).unwrap().schema;
        assert_eq!((schema.rows, schema.columns[0].shape.len()), (2, 0));
        let chunk = all(&bytes, DataFormat::Npy, &["array"]);
        assert_eq!(numbers(&chunk, 0), expected, "{descr}");
    }
}

#[test]
fn both_orders_of_an_array_give_the_same_rows() {
    // Rows [[0, 1, 2], [3, 4, 5]].
    let c = npy("<f4", "False", "(2, 3)", &floats(&[0., 1., 2., 3., 4., 5.]));
    let fortran = npy("<f4", "True", "(2, 3)", &floats(&[0., 3., 1., 4., 2., 5.]));
    let expected = all(&c, DataFormat::Npy, &["array"]);
    assert_eq!(numbers(&expected, 0), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(expected.columns[0].shape, [3]);
    assert_eq!(all(&fortran, DataFormat::Npy, &["array"]), expected);
    let nan = npy("<f4", "True", "(2, 2)", &floats(&[0., f32::NAN, 0., 0.]));
    let schema = described(&nan, DataFormat::Npy).unwrap().schema;
    assert_eq!(schema.columns[0].missing, 1);
    same(
        numbers(&all(&nan, DataFormat::Npy, &["array"]), 0),
        &[0., 0., f64::NAN, 0.],
    );
    let large = npy(
        "<f8",
        "True",
        "(2, 2)",
        &[0., 0., 1e39, 0.].map(f64::to_le_bytes).concat(),
    );
    let message = refusal(&large, DataFormat::Npy);
    assert!(
        message.starts_with("row 1, column `array`: 1000"),
        "{message}"
    );
}

#[test]
fn an_archive_gives_a_column_per_array() {
    let x = npy("<f4", "False", "(2, 1, 2)", &floats(&[1., 2., 3., 4.]));
    let y = npy("<i8", "False", "(2,)", &[0; 16]);
    let bytes = npz(&[("x.npy", x), ("y.npy", y.clone())]);
    let schema = described(&bytes, DataFormat::Npz).unwrap().schema;
    assert_eq!(schema.rows, 2);
    assert_eq!(schema.column("x").unwrap().shape, [1, 2]);
    assert_eq!(schema.column("y").unwrap().kind, ColumnKind::Integer);
    let chunk = all(&bytes, DataFormat::Npz, &["y", "x", "y"]);
    assert_eq!(numbers(&chunk, 1), [1., 2., 3., 4.]);
    assert_eq!(chunk.columns[1].shape, [1, 2]);
    assert_eq!(chunk.columns[0], chunk.columns[2]);

    let uneven = npz(&[
        ("y.npy", y),
        ("z.npy", npy("|u1", "False", "(3,)", &[1; 3])),
    ]);
    let message = refusal(&uneven, DataFormat::Npz);
    assert!(message.contains("has 2 rows, `z` has 3"), "{message}");
    let other = npz(&[("readme.txt", vec![])]);
    assert!(refusal(&other, DataFormat::Npz).contains("\"readme.txt\""));
}

#[test]
fn arrays_that_lie_are_refused() {
    let values = floats(&[1.0; 4]);
    let cases = [
        (
            npy("|O", "False", "(4,)", &values),
            "type \"|O\" can't be read",
        ),
        (npy("<f2", "False", "(8,)", &values), "\"<f2\""),
        (
            npy("<f4", "False", "(500,)", &[]),
            "more bytes than the file",
        ),
        (
            npy("<f4", "False", "(4,)", &values[..15]),
            "ends in the middle",
        ),
        (
            npy("<f4", "False", "(3,)", &values),
            "after the array's last",
        ),
        (npy("<f4", "False", "()", &values[..4]), "no rows"),
        (npy("<f4", "False", "(0, 4)", &[]), "is empty"),
        (
            npy("<f4", "False", "(4294967, 4294967295, 429496729)", &[]),
            "more bytes than the file",
        ),
        (npy("<f4", "False", "(2, 4294967296)", &[]), "too large"),
        (npy("<f4", "Maybe", "(4,)", &values), "not an NPY header"),
        (npy("<f4", "False", "(4,,)", &values), "not an NPY header"),
        (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9"),
        (b"PKK".to_vec(), "not an NPY file"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            "4294967295 bytes, at most 10000",
        ),
    ];
    for (bytes, message) in cases {
        // A file this short may claim no more than its own size.
        let found = refusal(&bytes, DataFormat::Npy);
        assert!(found.contains(message), "{message}: {found}");
    }
    let header = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n";
    let mut structured = b"\x93NUMPY\x01\x00".to_vec();
    structured.extend((header.len() as u16).to_le_bytes());
    structured.extend(header.as_bytes());
    let found = refusal(&structured, DataFormat::Npy);
    assert!(found.contains("can't be read"), "{found}");
}

#[test]
fn arrays_of_any_size_come_in_chunks_of_rows() {
    let values: Vec<u8> = (0..300_000_u32).flat_map(|i| i.to_le_bytes()).collect();
    let flat = npy("<u4", "False", "(300000,)", &values);
    let chunk = all(&flat, DataFormat::Npy, &["array"]);
    assert_eq!(chunk.rows, 300_000);
    assert_eq!(numbers(&chunk, 0)[299_999], 299_999.0);
    let wide = npy("<u4", "True", "(10, 30000)", &values);
    let chunk = all(&wide, DataFormat::Npy, &["array"]);
    assert_eq!(numbers(&chunk, 0)[30_000 * 9 + 7], 79.0);
    let both = npz(&[("a.npy", flat.clone()), ("b.npy", flat)]);
    let chunk = all(&both, DataFormat::Npz, &["b", "a"]);
    assert_eq!(chunk.columns[0].values, chunk.columns[1].values);
}

#[test]
fn an_archive_with_a_wrong_checksum_is_refused() {
    let array = npy("<f4", "False", "(2,)", &floats(&[1.0, 2.0]));
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("a.npy", stored).unwrap();
    zip.write_all(&array).unwrap();
    let mut bytes = zip.finish().unwrap().into_inner();
    let at = bytes
        .windows(4)
        .position(|w| w == 2.0_f32.to_le_bytes())
        .unwrap();
    bytes[at] ^= 1;
    assert!(refusal(&bytes, DataFormat::Npz).contains("checksum"));
}
