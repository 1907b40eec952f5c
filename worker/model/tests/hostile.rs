//! Specs that nobody would write: the compiler answers each with a plan or with errors that name a
//! field, within a second and little memory, and never panics or overflows.
//!
//! The cases follow from a seed; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` ask for others.

#![expect(unsafe_code, reason = "a global allocator that counts")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::RngSeed;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use stoker_domain::FieldError;
use stoker_domain::spec::{Block, ClipSpec, Family, LayerSpec, ModelSpec, TrainSpec};
use stoker_model::{
    ARENA_MAX_BYTES, InputColumn, InputDescription, PARAMETERS_MAX, Plan, Target, compile,
};

/// Most time and memory that a compilation may take, with optimisation at level 1 and overflow
/// checks.
const SECONDS_MAX: f64 = 2.0;
const BYTES_MAX: usize = 128 << 20;
/// Longest message of an error, and most errors.
const MESSAGE_MAX: usize = 1 << 17;
const ERRORS_MAX: usize = 1 << 14;

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grown(bytes: usize) {
    let live = LIVE.get().wrapping_add(bytes);
    LIVE.set(live);
    // Freed by another thread than it was allocated by, a count may wrap below zero.
    if live < usize::MAX / 2 {
        PEAK.set(PEAK.get().max(live));
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// Compiles and checks the promises.
fn check(
    model: &ModelSpec,
    train: &TrainSpec,
    input: &InputDescription,
) -> Result<Plan, Vec<FieldError>> {
    let (start, before) = (cpu_s(), LIVE.get());
    PEAK.set(before);
    let compiled = compile(model, train, input);
    let (seconds, bytes) = (cpu_s() - start, PEAK.get() - before);
    assert!(seconds < SECONDS_MAX, "{seconds} s for {model:?}");
    assert!(bytes < BYTES_MAX, "{bytes} bytes for {model:?}");
    match &compiled {
        Ok(plan) => {
            assert!(plan.arena_floats as u64 <= ARENA_MAX_BYTES / 4);
            let quote = plan.quote();
            assert!(quote.parameters <= PARAMETERS_MAX);
            assert!(quote.peak_bytes < 1 << 50 && !plan.hash().is_empty());
        }
        Err(errors) => {
            assert!((1..=ERRORS_MAX).contains(&errors.len()));
            for error in errors {
                let path = error.field.as_str();
                let named = ["model", "train"].iter().any(|part| path.starts_with(part));
                assert!(named, "no field of the spec: {error:?}");
                assert!(error.message.len() <= MESSAGE_MAX && !error.message.is_empty());
            }
        }
    }
    compiled
}

/// Sizes: mostly small, so that some models are whole, now and then none that fits.
fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        20 => 1_u32..9,
        4 => select(vec![12_u32, 16, 64, 100, 128]),
        3 => select(vec![0_u32, 255, 4096, 65_536, 1 << 20, (1 << 20) + 1, 1 << 31, u32::MAX]),
    ]
}

/// Numbers as JSON can have them; what is beyond single precision becomes infinite.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0.0..1.0_f64).prop_map(|x| json!(x)),
        1 => select(vec![json!(0), json!(1), json!(-1), json!(1e300), json!(-1e300), json!(1e-300)]),
    ]
}

fn function() -> impl Strategy<Value = Value> {
    select(vec![
        json!("relu"),
        json!("gelu"),
        json!("silu"),
        json!("tanh"),
        json!("sigmoid"),
    ])
}

/// A block of any type, with the fields that its type has.
fn block() -> impl Strategy<Value = Value> {
    let convolution = |kind: &'static str| {
        let more = (size(), 0_u32..3, size(), size());
        (size(), size(), more, any::<[bool; 3]>()).prop_map(
            move |(channels, kernel, (stride, padding, dilation, groups), [few, bias, causal])| {
                let mut block = json!({"type": kind, "channels": channels, "kernel": kernel,
                    "padding": padding, "bias": bias});
                if !few {
                    block["stride"] = json!(stride);
                    block["dilation"] = json!(dilation);
                    block["groups"] = json!(groups);
                }
                if causal && kind == "conv1d" {
                    block["causal"] = json!(true);
                }
                block
            },
        )
    };
    let pool = |kind: &'static str| {
        (size(), prop::option::of(size()), 0_u32..3).prop_map(move |(kernel, stride, padding)| {
            json!({"type": kind, "kernel": kernel, "stride": stride, "padding": padding})
        })
    };
    prop_oneof![
        3 => (size(), any::<bool>()).prop_map(|(units, bias)| {
            json!({"type": "linear", "units": units, "bias": bias})
        }),
        3 => convolution("conv1d"),
        3 => convolution("conv2d"),
        1 => pool("max_pool2d"),
        1 => pool("avg_pool2d"),
        2 => select(vec!["global_avg_pool", "flatten", "add"]).prop_map(|t| json!({ "type": t })),
        2 => function().prop_map(|f| json!({"type": "activation", "function": f})),
        1 => number().prop_map(|rate| json!({"type": "dropout", "rate": rate})),
        2 => (size(), prop::option::of(size()), number()).prop_map(|(units, vocabulary, x)| {
            json!({"type": "embedding", "units": units, "vocabulary": vocabulary, "deviation": x})
        }),
        1 => number().prop_map(|x| json!({"type": "position", "deviation": x})),
        1 => number().prop_map(|x| json!({"type": "layer_norm", "epsilon": x})),
        1 => number().prop_map(|x| json!({"type": "rms_norm", "epsilon": x})),
        1 => [number(), number()].prop_map(|[epsilon, momentum]| {
            json!({"type": "batch_norm", "epsilon": epsilon, "momentum": momentum})
        }),
        1 => size().prop_map(|groups| json!({"type": "group_norm", "groups": groups})),
        2 => (size(), prop::option::of(size()), any::<[bool; 3]>()).prop_map(
            |(heads, kv_heads, [causal, bias, rotary])| {
                json!({"type": "attention", "heads": heads, "kv_heads": kv_heads,
                    "causal": causal, "bias": bias, "rotary": rotary})
            }
        ),
        2 => enlargement(),
        2 => (select(vec!["lstm", "gru"]), size(), size(), number()).prop_map(
            |(cell, units, layers, dropout)| {
                json!({"type": cell, "units": units, "layers": layers, "dropout": dropout})
            }
        ),
        1 => pool("max_pool1d"),
        1 => pool("avg_pool1d"),
        3 => over_columns(),
    ]
}

/// A block that gives more positions than it takes.
fn enlargement() -> impl Strategy<Value = Value> {
    let transposed = select(vec!["conv_transpose1d", "conv_transpose2d"]);
    let sizes = (size(), size(), size(), 0_u32..3, size());
    let mode = select(vec!["nearest", "bilinear"]);
    prop_oneof![
        (transposed, sizes, any::<bool>()).prop_map(
            |(kind, (channels, kernel, stride, padding, more), bias)| {
                json!({"type": kind, "channels": channels, "kernel": kernel, "stride": stride,
                    "padding": padding, "output_padding": more % 5, "bias": bias})
            }
        ),
        (size(), mode).prop_map(|(factor, mode)| {
            json!({"type": "upsample", "factor": factor, "mode": mode})
        }),
    ]
}

/// A feature column's name, or one that is never there.
fn column() -> impl Strategy<Value = String> {
    select(vec!["user", "item", "genre", "price", "prise"]).prop_map(str::to_owned)
}

/// A block that takes columns apart, brings vectors together, or has only a little to say.
fn over_columns() -> impl Strategy<Value = Value> {
    let together = vec![
        "dot",
        "interact",
        "concat",
        "last_position",
        "global_max_pool",
    ];
    prop_oneof![
        3 => select(together).prop_map(|kind| json!({ "type": kind })),
        1 => prop::collection::vec(column(), 0..4)
            .prop_map(|columns| json!({"type": "select", "columns": columns})),
        1 => (size(), size())
            .prop_map(|(first, count)| json!({"type": "select", "first": first, "count": count})),
        1 => number().prop_map(|value| json!({"type": "bias", "value": value})),
        1 => number().prop_map(|beta| json!({"type": "sample", "beta": beta})),
    ]
}

/// Names that are used twice, that are never there, and that blocks take in circles.
fn name() -> impl Strategy<Value = Value> {
    select(vec![
        "input", "a", "b", "c", "linear0", "linear1", "conv2d0", "add3", "nowhere",
    ])
    .prop_map(|name| json!(name))
}

fn layer() -> impl Strategy<Value = Value> {
    let inputs = prop_oneof![
        9 => Just(None),
        2 => prop::collection::vec(name(), 0..4).prop_map(Some),
        1 => prop::collection::vec(name(), 15..40).prop_map(Some),
    ];
    let own = prop_oneof![5 => Just(None), 1 => name().prop_map(Some)];
    (block(), own, inputs).prop_map(|(mut layer, name, inputs)| {
        if let Some(name) = name {
            layer["name"] = name;
        }
        if let Some(inputs) = inputs {
            layer["inputs"] = json!(inputs);
        }
        layer
    })
}

fn layers() -> impl Strategy<Value = Value> {
    let shape = prop_oneof![
        3 => Just(None),
        3 => prop::collection::vec(size(), 0..5).prop_map(Some),
    ];
    (shape, prop::collection::vec(layer(), 0..9)).prop_map(|(input, layers)| match input {
        Some(input) => json!({"input": input, "layers": layers}),
        None => json!({ "layers": layers }),
    })
}

fn family() -> impl Strategy<Value = Value> {
    let sizes = || prop::collection::vec(size(), 0..5);
    prop_oneof![
        (sizes(), function(), number()).prop_map(|(hidden, activation, dropout)| {
            json!({"family": "mlp", "hidden": hidden, "activation": activation, "dropout": dropout})
        }),
        (sizes(), sizes(), size(), size(), sizes(), number()).prop_map(
            |(input, channels, kernel, pool, dense, dropout)| {
                json!({"family": "cnn", "input": input, "channels": channels, "kernel": kernel,
                    "pool": pool, "dense": dense, "dropout": dropout})
            }
        ),
        (sizes(), sizes(), sizes(), any::<[bool; 2]>()).prop_map(
            |(input, depths, channels, [large, deep])| {
                json!({"family": "resnet", "input": input, "depths": depths, "channels": channels,
                    "stem": if large { "large" } else { "small" },
                    "block": if deep { "bottleneck" } else { "basic" }})
            }
        ),
        (
            [size(), size(), size(), size()],
            prop::option::of(size()),
            number()
        )
            .prop_map(|([depth, width, heads, kv_heads], more, dropout)| {
                json!({"family": "gpt", "depth": depth, "width": width, "heads": heads,
                    "kv_heads": kv_heads, "feed_forward": more, "vocabulary": more,
                    "dropout": dropout})
            }),
        over_sequences(),
        (
            sizes(),
            size(),
            size(),
            select(vec!["batch", "group", "none"])
        )
            .prop_map(|(input, depth, channels, norm)| {
                json!({"family": "unet", "input": input, "depth": depth, "channels": channels,
                    "norm": norm})
            }),
        recommender(),
        (sizes(), size(), number(), any::<bool>()).prop_map(|(hidden, latent, beta, samples)| {
            let mut model = json!({"family": "autoencoder", "hidden": hidden, "latent": latent});
            if samples {
                model["kind"] = json!("vae");
                model["beta"] = beta;
            }
            model
        }),
    ]
}

/// Encoders, recurrent and convolutional networks over sequences.
fn over_sequences() -> impl Strategy<Value = Value> {
    let input = || prop::option::of(prop::collection::vec(size(), 0..4));
    let more = || prop::option::of(size());
    prop_oneof![
        (
            input(),
            [size(), size(), size()],
            more(),
            prop::option::of(number())
        )
            .prop_map(|(input, [depth, width, heads], more, masked)| {
                json!({"family": "encoder", "input": input, "depth": depth, "width": width,
                    "heads": heads, "kv_heads": more, "positions": "rotary", "masked": masked})
            }),
        (
            input(),
            more(),
            more(),
            [size(), size()],
            select(vec!["lstm", "gru"])
        )
            .prop_map(|(input, embedding, vocabulary, [layers, units], cell)| {
                json!({"family": "lstm", "input": input, "embedding": embedding, "cell": cell,
                    "vocabulary": vocabulary, "layers": layers, "units": units})
            }),
        (input(), more(), prop::collection::vec(size(), 0..9), size()).prop_map(
            |(input, embedding, channels, kernel)| {
                json!({"family": "tcn", "input": input, "embedding": embedding,
                    "channels": channels, "kernel": kernel})
            }
        ),
    ]
}

fn recommender() -> impl Strategy<Value = Value> {
    let kind = select(vec!["matrix_factorisation", "two_tower", "dlrm"]);
    let names = || prop::collection::vec(column(), 0..4);
    let sizes = || prop::collection::vec(size(), 0..4);
    (kind, [column(), column()], [names(), names(), names()], [sizes(), sizes()], size()).prop_map(
        |(kind, [user, item], [categorical, numeric, items], [hidden, bottom], dim)| {
            json!({"family": "recommender", "kind": kind, "user": user, "item": item, "dim": dim,
                "categorical": categorical, "numeric": numeric, "item_columns": items,
                "hidden": hidden, "bottom": bottom})
        },
    )
}

fn loss() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            "cross_entropy",
            "bce",
            "mse",
            "mae",
            "huber",
            "quantile",
            "dice",
            "kl"
        ])
        .prop_map(|name| json!(name)),
        prop::collection::vec(number(), 0..5)
            .prop_map(|levels| json!({"name": "quantile", "levels": levels})),
        (number(), prop::collection::vec(number(), 0..5)).prop_map(|(share, weights)| {
            json!({"name": "cross_entropy", "label_smoothing": share, "class_weights": weights})
        }),
        number().prop_map(|delta| json!({"name": "huber", "delta": delta})),
    ]
}

fn train() -> impl Strategy<Value = Value> {
    let optimizer = prop_oneof![
        number().prop_map(|rate| json!({"name": "sgd", "learning_rate": rate, "momentum": rate})),
        [number(), number()].prop_map(|[rate, beta]| {
            json!({"name": "adamw", "learning_rate": rate, "betas": [beta, 0.99]})
        }),
    ];
    let batch = prop_oneof![3 => Just((8, 2, 2)), 1 => (size(), size(), size())];
    (batch, loss(), optimizer, number(), any::<[bool; 3]>()).prop_map(
        |((batch, shards, accumulate), loss, optimizer, number, [clips, averages, steps])| {
            let mut train = json!({"batch_size": batch, "virtual_shards": shards,
                "accumulate": accumulate, "loss": loss, "optimizer": optimizer});
            train[if steps { "steps" } else { "epochs" }] = json!(batch);
            if clips {
                train["clip"] = json!({ "norm": number });
            }
            if averages {
                train["ema"] = json!({ "decay": number });
            }
            train
        },
    )
}

fn input() -> impl Strategy<Value = InputDescription> {
    let wide = prop_oneof![8 => 1_usize..60, 1 => select(vec![784_usize, 1 << 20, 1 << 28])];
    let count = || prop_oneof![8 => 1_usize..12, 1 => select(vec![1000_usize, 65_536, 1 << 28])];
    let target = prop_oneof![
        count().prop_map(|n| Target::Classes(n.min(65_536))),
        count().prop_map(Target::Values),
        (count(), count()).prop_map(|(classes, positions)| Target::Sequence {
            classes: classes.min(65_536),
            positions,
        }),
        (count(), 1_usize..65).prop_map(|(values, levels)| Target::Quantiles { values, levels }),
    ];
    let image = [1_usize..5, 1_usize..12, 1_usize..12];
    let columns = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec((1_usize..4, prop::option::of(count())), 4).prop_map(columns),
    ];
    (
        wide,
        prop::option::of(image),
        prop::option::of(1_usize..70),
        target,
        columns,
    )
        .prop_map(|(width, image, vocabulary, target, columns)| {
            let numbers = columns.last().map(|last| last.first + last.width);
            let width = numbers
                .or(image.map(|image| image.iter().product()))
                .unwrap_or(width);
            InputDescription {
                width,
                shape: match image {
                    Some(image) if columns.is_empty() => image.to_vec(),
                    _ => vec![width],
                },
                vocabulary,
                columns,
                target,
            }
        })
}

/// Columns of so many numbers, and of ids where there is a vocabulary, one after the other.
fn columns(kinds: Vec<(usize, Option<usize>)>) -> Vec<InputColumn> {
    let (names, mut end) = (["user", "item", "genre", "price"], 0);
    let place = |(name, (width, vocabulary)): (&str, (usize, Option<usize>))| {
        end += width;
        InputColumn {
            name: name.to_owned(),
            first: end - width,
            width,
            vocabulary,
        }
    };
    names.into_iter().zip(kinds).map(place).collect()
}

/// So many cases from a seed of our own, unless the environment says otherwise.
fn config(cases: u32) -> ProptestConfig {
    let given = ProptestConfig::default();
    let usual = given.cases == 256;
    let seeded = given.rng_seed != RngSeed::Random;
    ProptestConfig {
        cases: if usual { cases } else { given.cases },
        rng_seed: if seeded {
            given.rng_seed
        } else {
            RngSeed::Fixed(20_261_125)
        },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..given
    }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn any_spec_gives_a_plan_or_errors_at_fields(
        model in prop_oneof![3 => layers(), 1 => family()],
        train in train(),
        input in input(),
    ) {
        // What isn't well formed is refused before the compiler.
        let model = serde_json::from_value::<ModelSpec>(model);
        let train = serde_json::from_value::<TrainSpec>(train);
        if let (Ok(model), Ok(train)) = (model, train) {
            let _ = check(&model, &train, &input);
        }
    }
}

fn plain(width: usize, target: Target) -> InputDescription {
    InputDescription {
        width,
        shape: vec![width],
        vocabulary: Some(50),
        columns: Vec::new(),
        target,
    }
}

fn train_of(batch: u32) -> TrainSpec {
    let spec = json!({"steps": 1, "batch_size": batch, "loss": "mse"});
    serde_json::from_value(spec).unwrap()
}

fn model_of(layers: Vec<Value>) -> ModelSpec {
    serde_json::from_value(json!({ "layers": layers })).unwrap()
}

#[test]
fn the_generator_makes_models_that_are_whole() {
    // Else the property would say little.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut plans, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut draw = || (layers(), input()).new_tree(&mut runner).unwrap().current();
        let (mut model, mut input) = draw();
        // A last layer that fits the target, where the one before it is flat.
        let outputs = input.target.outputs();
        if let Some(layers) = model["layers"].as_array_mut() {
            layers.push(json!({"type": "flatten"}));
            layers.push(json!({"type": "linear", "units": outputs.min(9)}));
        }
        input.target = Target::Values(outputs.min(9));
        let Ok(model) = serde_json::from_value::<ModelSpec>(model) else {
            continue;
        };
        match check(&model, &train_of(4), &input) {
            Ok(_) => plans += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        plans > 60 && refused > 60,
        "{plans} plans, {refused} refused"
    );
}

#[test]
fn the_deepest_models_take_bounded_time_and_memory() {
    let repeat = |count: usize, layer: Value| vec![layer; count];
    let mut attention = vec![
        json!({"type": "embedding", "units": 4}),
        json!({"type": "position"}),
    ];
    attention.extend(repeat(1020, json!({"type": "attention", "heads": 2})));
    attention.push(json!({"type": "linear", "units": 3}));
    let target = Target::Sequence {
        classes: 3,
        positions: 5,
    };
    let mut with_sequence = train_of(4);
    with_sequence.loss = serde_json::from_value(json!({"loss": "cross_entropy", "steps": 1,
        "batch_size": 1}))
    .map(|train: TrainSpec| train.loss)
    .unwrap();
    let plan = check(&model_of(attention), &with_sequence, &plain(5, target)).unwrap();
    assert!(plan.forward.len() > 3000);

    // Sums of sixteen values, over and over.
    let mut sums = vec![json!({"type": "linear", "units": 3, "name": "a"})];
    for index in 0..1022 {
        let before = if index == 0 {
            "a".to_owned()
        } else {
            format!("s{}", index - 1)
        };
        let mut inputs = vec!["a".to_owned(); 8];
        inputs.extend(vec![before; 8]);
        sums.push(json!({"type": "add", "name": format!("s{index}"), "inputs": inputs}));
    }
    sums.push(json!({"type": "linear", "units": 2}));
    let plan = check(&model_of(sums), &train_of(4), &plain(3, Target::Values(2))).unwrap();
    assert!(plan.forward.len() > 15_000);

    for family in [
        json!({"family": "mlp", "hidden": vec![7; 1024], "dropout": 0.1}),
        json!({"family": "cnn", "input": [1, 9, 9], "channels": vec![3; 1024], "pool": 1,
            "dense": vec![5; 1024], "dropout": 0.1}),
    ] {
        let model: ModelSpec = serde_json::from_value(family).unwrap();
        check(&model, &train_of(4), &plain(81, Target::Values(2))).unwrap();
    }
    let deep: ModelSpec = serde_json::from_value(json!({"family": "gpt", "depth": 102})).unwrap();
    check(
        &deep,
        &with_sequence,
        &plain(
            5,
            Target::Sequence {
                classes: 50,
                positions: 5,
            },
        ),
    )
    .unwrap();
}

#[test]
fn the_widest_models_are_refused_or_fit() {
    let wide = |units: u32, count: usize| {
        let mut layers = vec![json!({"type": "linear", "units": units}); count];
        layers.push(json!({"type": "linear", "units": 2}));
        model_of(layers)
    };
    let input = plain(1 << 28, Target::Values(2));
    for (units, count) in [(1 << 20, 1), (1 << 20, 1000), (64, 3), (1, 1)] {
        for batch in [1, 1 << 20] {
            let _ = check(&wide(units, count), &train_of(batch), &input);
        }
    }
    let mut train = train_of(1 << 20);
    train.virtual_shards = 1024;
    train.accumulate = 1;
    let _ = check(
        &wide(1 << 15, 2),
        &train,
        &plain(1 << 15, Target::Values(2)),
    );
}

#[test]
fn numbers_that_are_none_are_refused_at_their_field() {
    let refused = |block: Block, field: &str| {
        let layer = LayerSpec {
            name: None,
            inputs: None,
            block,
        };
        let model = ModelSpec::Layers {
            input: None,
            layers: vec![layer],
        };
        let errors = check(&model, &train_of(4), &plain(3, Target::Values(2))).unwrap_err();
        let path = format!("model.layers[0].{field}");
        assert!(errors.iter().any(|error| error.field == path), "{errors:?}");
    };
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        refused(Block::Dropout { rate: x }, "rate");
        refused(Block::LayerNorm { epsilon: x }, "epsilon");
        refused(Block::RmsNorm { epsilon: x }, "epsilon");
        refused(Block::Position { deviation: x }, "deviation");
        let model: ModelSpec = serde_json::from_value(json!({"family": "mlp"})).unwrap();
        let ModelSpec::Family(Family::Mlp {
            hidden, activation, ..
        }) = model
        else {
            unreachable!()
        };
        let model = ModelSpec::Family(Family::Mlp {
            hidden,
            activation,
            dropout: x,
        });
        let mut train = train_of(4);
        train.clip = Some(ClipSpec {
            norm: Some(x),
            value: None,
        });
        let errors = check(&model, &train, &plain(3, Target::Values(2))).unwrap_err();
        for path in ["model.dropout", "train.clip.norm"] {
            assert!(errors.iter().any(|error| error.field == path), "{errors:?}");
        }
    }
}
