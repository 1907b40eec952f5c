//! The form of ONNX models. What they compute is held against ours by `make weights`.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::proto::{GraphProto, ModelProto, Size, ValueInfoProto};
use super::*;
use crate::compile;

/// A model's input, and as many numbers as each of its parameters has.
struct Case {
    model: ModelSpec,
    input: InputDescription,
    weights: BTreeMap<String, Vec<u8>>,
}

fn case(model: &str, shape: &[usize], vocabulary: Option<usize>, target: Target) -> Case {
    let model: ModelSpec = serde_json::from_str(model).unwrap();
    let input = InputDescription {
        width: shape.iter().product(),
        shape: shape.to_vec(),
        vocabulary,
        columns: Vec::new(),
        target,
    };
    let train = r#"{"steps": 1, "batch_size": 2, "loss": "cross_entropy"}"#;
    let plan = compile(&model, &serde_json::from_str(train).unwrap(), &input).unwrap();
    let parameters = plan.parameters.iter();
    let weights = parameters
        .map(|p| (p.name.clone(), vec![0; 4 * p.floats]))
        .collect();
    Case {
        model,
        input,
        weights,
    }
}

fn write(case: &Case) -> Result<ModelProto, OnnxError> {
    let weights = |name: &str| case.weights.get(name).map(Vec::as_slice);
    let bytes = write_onnx(&case.model, &case.input, weights)?;
    Ok(ModelProto::decode(bytes.as_slice()).unwrap())
}

/// The kinds of nodes, after checking that each input was made before.
fn check(case: &Case) -> (GraphProto, Vec<String>) {
    let model = write(case).unwrap();
    assert_eq!(model.opset_import[0].version, Some(17));
    let graph = model.graph.unwrap();
    let names = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.clone());
    let mut known: BTreeSet<String> = names.collect();
    assert_eq!(known.len(), graph.initializer.len(), "every name once");
    let own = known.iter().filter(|name| !name.starts_with("constant."));
    assert!(own.eq(case.weights.keys()), "{known:?}");
    known.insert(INPUT.to_owned());
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input), "{input} of {:?}", node.name);
        }
        for output in &node.output {
            assert!(known.insert(output.clone()), "{output} twice");
        }
    }
    assert!(known.contains(OUTPUT));
    let kinds = graph.node.iter().filter_map(|node| node.op_type.clone());
    let kinds = kinds.collect();
    (graph, kinds)
}

/// The type of the numbers, and the sizes behind the batch, which is open.
fn described(value: &ValueInfoProto) -> (i32, Vec<i64>) {
    let tensor = value.kind.clone().unwrap().tensor.unwrap();
    let sizes = tensor
        .shape
        .unwrap()
        .dim
        .into_iter()
        .map(|dim| dim.size.unwrap());
    let sizes: Vec<Size> = sizes.collect();
    assert_eq!(sizes[0], Size::Param("batch".to_owned()));
    let rest = sizes[1..].iter().map(|size| match size {
        Size::Value(value) => *value,
        Size::Param(name) => panic!("{name}"),
    });
    (tensor.elem_type.unwrap(), rest.collect())
}

#[test]
fn dense_layers_are_gemms() {
    let model = r#"{"family": "mlp", "hidden": [5, 4], "dropout": 0.5}"#;
    let case = case(model, &[7], None, Target::Classes(3));
    let (graph, kinds) = check(&case);
    assert_eq!(kinds, ["Gemm", "Relu", "Gemm", "Relu", "Gemm", "Identity"]);
    assert_eq!(
        graph.node[0].input,
        [INPUT, "layers.0.weight", "layers.0.bias"]
    );
    assert_eq!(described(&graph.input[0]), (1, vec![7]));
    assert_eq!(described(&graph.output[0]), (1, vec![3]));
}

#[test]
fn images_have_their_channels_first() {
    let model = r#"{"family": "cnn", "input": [2, 8, 8], "channels": [3], "dense": [6]}"#;
    let case = case(model, &[128], None, Target::Classes(4));
    let (graph, kinds) = check(&case);
    let expected = [
        "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Relu", "Gemm", "Identity",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(described(&graph.input[0]), (1, vec![2, 8, 8]));
    let conv = &graph.node[0];
    let pads = conv
        .attribute
        .iter()
        .find(|a| a.name.as_deref() == Some("pads"));
    assert_eq!(pads.unwrap().ints, [1, 1, 1, 1]);
    let weight = &graph.initializer[0];
    assert_eq!(weight.dims, [3, 2, 3, 3]);
}

#[test]
fn residual_networks_go_by_running_statistics() {
    let model =
        r#"{"family": "resnet", "input": [3, 16, 16], "depths": [1, 1], "channels": [4, 8]}"#;
    let case = case(model, &[3, 16, 16], None, Target::Classes(5));
    let (graph, kinds) = check(&case);
    let count = |kind: &str| kinds.iter().filter(|other| *other == kind).count();
    assert_eq!(
        (count("Conv"), count("BatchNormalization"), count("Add")),
        (6, 6, 2)
    );
    let norm = graph
        .node
        .iter()
        .find(|n| n.op_type.as_deref() == Some("BatchNormalization"));
    let expected = [
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
    ];
    assert_eq!(norm.unwrap().input[1..], expected);
}

#[test]
fn tokens_are_whole_numbers() {
    for positions in ["learned", "rotary"] {
        let model = format!(
            r#"{{"family": "gpt", "depth": 2, "width": 8, "heads": 4, "kv_heads": 2,
                "positions": "{positions}"}}"#
        );
        let target = Target::Sequence {
            classes: 9,
            positions: 6,
        };
        let case = case(&model, &[6], Some(9), target);
        let (graph, kinds) = check(&case);
        assert_eq!(described(&graph.input[0]), (7, vec![6]));
        assert_eq!(described(&graph.output[0]), (1, vec![6, 9]));
        assert_eq!(kinds[0], "Gather");
        let softmax = kinds.iter().filter(|kind| *kind == "Softmax").count();
        assert_eq!(softmax, 2);
    }
    let encoder = r#"{"family": "encoder", "depth": 1, "width": 8, "heads": 2}"#;
    let (graph, kinds) = check(&case(encoder, &[6], Some(9), Target::Classes(3)));
    assert_eq!(described(&graph.output[0]), (1, vec![3]));
    assert!(kinds.contains(&"ReduceMean".to_owned()));
}

#[test]
fn what_has_no_translation_is_named() {
    let lstm = r#"{"family": "lstm", "embedding": 4, "units": 4}"#;
    let error = write(&case(lstm, &[5], Some(7), Target::Classes(2))).unwrap_err();
    let expected = OnnxError::Operation {
        operation: "recurrence".to_owned(),
        layer: "lstm".to_owned(),
    };
    assert_eq!(error, expected);
    let mut short = case(
        r#"{"family": "mlp", "hidden": [3]}"#,
        &[2],
        None,
        Target::Classes(2),
    );
    short.weights.insert("layers.2.bias".to_owned(), vec![0; 4]);
    assert_eq!(
        write(&short),
        Err(OnnxError::Weights("layers.2.bias".to_owned()))
    );
}
