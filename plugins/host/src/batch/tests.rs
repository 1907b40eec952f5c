use super::*;

fn column(name: &str, shape: &[u32], values: Values) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values,
    }
}

fn strings(offsets: &[u32], bytes: &[u8]) -> Values {
    Values::Text(Strings {
        offsets: offsets.to_vec(),
        bytes: bytes.to_vec(),
    })
}

#[test]
fn check_names_the_tensor_at_fault() {
    let good = column("a", &[2, 3], Values::Float32(vec![0.0; 6]));
    let cases = [
        (vec![good.clone()], None),
        (vec![column("t", &[2], strings(&[0, 1, 3], b"abc"))], None),
        (vec![good.clone(), good], Some("`a` is there twice")),
        (
            vec![column("b", &[3], Values::Uint8(vec![0; 3]))],
            Some("`b` has shape [3] in a batch"),
        ),
        (
            vec![column("c", &[], Values::Int64(vec![0]))],
            Some("`c` has shape []"),
        ),
        (
            vec![column("d", &[2, 2], Values::Int64(vec![0; 3]))],
            Some("but 3 values"),
        ),
        (
            vec![column("e", &[2], strings(&[0, 2, 1, 3], b"abc"))],
            Some("but 3 values"),
        ),
        (
            vec![column("f", &[2], strings(&[0, 4, 3], b"abc"))],
            Some("at string 0"),
        ),
        (
            vec![column("g", &[2], strings(&[0, 1, 2], b"abc"))],
            Some("don't span"),
        ),
        (
            vec![column("h", &[2], strings(&[0, 1, 3], b"a\xc3b"))],
            Some("at string 1"),
        ),
        (
            vec![column("i", &[2, u32::MAX, u32::MAX], Values::Uint8(vec![]))],
            Some("but 0 values"),
        ),
    ];
    for (tensors, wanted) in cases {
        let told = Batch { rows: 2, tensors }.check().err();
        match (&told, wanted) {
            (None, None) => {}
            (Some(told), Some(wanted)) if told.contains(wanted) => {}
            _ => panic!("wanted {wanted:?}, got {told:?}"),
        }
    }
}

#[test]
fn hash_tells_bits_apart() {
    let hash = |values: Vec<f32>| {
        let mut hasher = blake3::Hasher::new();
        let shape = [values.len() as u32];
        let tensors = vec![column("x", &shape, Values::Float32(values))];
        Batch {
            rows: shape[0],
            tensors,
        }
        .hash_bits(&mut hasher);
        hasher.finalize()
    };
    assert_eq!(hash(vec![f32::NAN]), hash(vec![f32::NAN]));
    assert_ne!(hash(vec![0.0]), hash(vec![-0.0]));
}

#[test]
fn pushed_strings_come_back() {
    let mut strings = Strings::default();
    for text in ["", "a", "grün", ""] {
        strings.push(text).unwrap();
    }
    let back: Vec<&str> = (0..strings.len())
        .map(|index| strings.get(index).unwrap())
        .collect();
    assert_eq!(back, ["", "a", "grün", ""]);
    assert_eq!(strings.get(4), None);
}
