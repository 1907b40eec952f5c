//! The family `recommender` as layers.

use stoker_domain::FieldError;
use stoker_domain::spec::{Block, Recommender, RecommenderKind};

use crate::family::Builder;
use crate::input::{InputColumn, InputDescription, Target};

/// Deviation of the initial biases of users and items: next to nothing.
const BIAS_DEVIATION: f32 = 1e-3;

/// Adds the layers of a recommender.
///
/// # Errors
/// At the column that isn't there or doesn't hold ids, or at `kind` when the target isn't one
/// number.
pub(crate) fn expand(
    builder: &mut Builder,
    spec: &Recommender,
    input: &InputDescription,
) -> Result<(), FieldError> {
    if input.target != Target::Values(1) {
        let message = "a recommender predicts one number: data.target must hold one per row, with a loss such as \"mse\" or \"bce\"";
        return Err(FieldError::new("kind", message));
    }
    let mut parts = Parts {
        builder,
        spec,
        input,
    };
    match spec.kind {
        RecommenderKind::MatrixFactorisation => parts.factors(),
        RecommenderKind::TwoTower => parts.towers(),
        RecommenderKind::Dlrm => parts.dlrm(),
    }
}

/// Most values that one `concat` joins.
const JOINED_MAX: usize = 16;

struct Parts<'a> {
    builder: &'a mut Builder,
    spec: &'a Recommender,
    input: &'a InputDescription,
}

impl Parts<'_> {
    fn column(&self, field: &str, name: &str) -> Result<&InputColumn, FieldError> {
        let found = self.input.column(name);
        found.map_err(|message| FieldError::new(field, message))
    }

    /// Takes a column of ids.
    fn ids(&mut self, layer: &str, field: &str, name: &str) -> Result<(), FieldError> {
        if self.column(field, name)?.vocabulary.is_none() {
            let message =
                format!("`{name}` isn't whole numbers from 0 and below 2^24, so it holds no ids");
            return Err(FieldError::new(field, message));
        }
        self.select(layer, field, &[name]);
        Ok(())
    }

    /// Takes a column of one id.
    fn id(&mut self, layer: &str, field: &str, name: Option<&str>) -> Result<(), FieldError> {
        let name = name.unwrap_or_default();
        let width = self.column(field, name)?.width;
        if width != 1 {
            let message = format!("`{name}` has {width} numbers per row, 1 needed");
            return Err(FieldError::new(field, message));
        }
        self.ids(layer, field, name)
    }

    fn select(&mut self, layer: &str, field: &str, names: &[&str]) {
        let block = Block::Select {
            columns: names.iter().map(|&name| name.to_owned()).collect(),
            first: None,
            count: None,
        };
        self.builder
            .named(layer.to_owned(), &["input"], field, block);
    }

    fn add(&mut self, layer: &str, inputs: &[&str], block: Block) {
        self.builder.named(layer.to_owned(), inputs, "kind", block);
    }

    fn embed(&mut self, layer: &str, ids: &str, field: &str) {
        let block = Block::Embedding {
            units: self.spec.dim,
            vocabulary: None,
            deviation: self.spec.deviation,
        };
        self.builder.named(layer.to_owned(), &[ids], field, block);
    }

    fn factors(&mut self) -> Result<(), FieldError> {
        for (field, name) in [("user", &self.spec.user), ("item", &self.spec.item)] {
            let ids = format!("{field}_id");
            self.id(&ids, field, name.as_deref())?;
            self.embed(field, &ids, field);
            let bias = Block::Embedding {
                units: 1,
                vocabulary: None,
                deviation: BIAS_DEVIATION,
            };
            let layer = format!("{field}_bias");
            self.add(&layer, &[&ids], bias);
            self.add(&format!("{layer}.flat"), &[&layer], Block::Flatten {});
        }
        self.add("dot", &["user", "item"], Block::Dot {});
        let terms = ["dot", "user_bias.flat", "item_bias.flat"];
        self.add("sum", &terms, Block::Add {});
        let value = self.spec.mean;
        self.add("bias", &["sum"], Block::Bias { value });
        Ok(())
    }

    fn towers(&mut self) -> Result<(), FieldError> {
        let spec = self.spec;
        let user = self.tower("user", spec.user.as_deref(), |name| {
            !spec.item_columns.contains(name)
        })?;
        let item = self.tower("item", spec.item.as_deref(), |name| {
            spec.item_columns.contains(name)
        })?;
        self.add("dot", &[&user, &item], Block::Dot {});
        Ok(())
    }

    /// One tower; gives the name of its last layer.
    fn tower(
        &mut self,
        side: &str,
        id: Option<&str>,
        mine: impl Fn(&String) -> bool,
    ) -> Result<String, FieldError> {
        let spec = self.spec;
        let ids = format!("{side}.id");
        self.id(&ids, side, id)?;
        let embedding = format!("{side}.embedding");
        self.embed(&embedding, &ids, side);
        let mut last = format!("{side}.embedding.flat");
        self.add(&last, &[&embedding], Block::Flatten {});
        let mut known = vec![last.clone()];
        let categorical = spec.categorical.iter().enumerate();
        let categorical = categorical.filter(|(_, name)| mine(name));
        for (place, (index, name)) in categorical.enumerate() {
            let field = format!("categorical[{index}]");
            let (ids, layer) = (
                format!("{side}.ids.{place}"),
                format!("{side}.embeddings.{place}"),
            );
            self.ids(&ids, &field, name)?;
            self.embed(&layer, &ids, &field);
            let flat = format!("{layer}.flat");
            self.add(&flat, &[&layer], Block::Flatten {});
            known.push(flat);
        }
        let numeric: Vec<&str> = (spec.numeric.iter().filter(|name| mine(name)))
            .map(String::as_str)
            .collect();
        if !numeric.is_empty() {
            let layer = format!("{side}.numeric");
            self.numeric(&layer, &numeric)?;
            known.push(layer);
        }
        let plain = known.len() == 1 && spec.hidden.is_empty();
        while known.len() > 1 {
            let rest = known.split_off(known.len().min(JOINED_MAX));
            last = format!("{side}.known.{}", rest.len());
            let inputs: Vec<&str> = known.iter().map(String::as_str).collect();
            self.add(&last, &inputs, Block::Concat {});
            known = [vec![last.clone()], rest].concat();
        }
        if !plain {
            last = self.dense(&format!("{side}.layers"), "hidden", &spec.hidden, spec.dim);
        }
        Ok(last)
    }

    /// Takes columns of numbers, all known.
    fn numeric(&mut self, layer: &str, names: &[&str]) -> Result<(), FieldError> {
        for name in names {
            let index = self.spec.numeric.iter().position(|other| other == name);
            let field = format!("numeric[{}]", index.unwrap_or(0));
            self.column(&field, name)?;
        }
        self.select(layer, "numeric", names);
        Ok(())
    }

    /// Hidden layers on the last layer, then one of `units`; gives its name.
    fn dense(&mut self, path: &str, field: &str, hidden: &[u32], units: u32) -> String {
        for (index, &units) in hidden.iter().enumerate() {
            let (layer, field) = (format!("{path}.{index}"), format!("{field}[{index}]"));
            self.builder.named(
                layer.clone(),
                &[],
                &field,
                Block::Linear { units, bias: true },
            );
            self.activate(&layer);
            if self.spec.dropout > 0.0 {
                let rate = self.spec.dropout;
                self.add(&format!("{layer}.dropout"), &[], Block::Dropout { rate });
            }
        }
        let last = format!("{path}.{}", hidden.len());
        self.add(&last, &[], Block::Linear { units, bias: true });
        last
    }

    /// The activation after a layer; gives its name.
    fn activate(&mut self, layer: &str) -> String {
        let name = format!("{layer}.activation");
        let function = self.spec.activation;
        self.add(&name, &[], Block::Activation { function });
        name
    }

    fn dlrm(&mut self) -> Result<(), FieldError> {
        let spec = self.spec;
        let mut vectors = Vec::new();
        if !spec.numeric.is_empty() {
            let names: Vec<&str> = spec.numeric.iter().map(String::as_str).collect();
            self.numeric("numeric", &names)?;
            let last = self.dense("bottom", "bottom", &spec.bottom, spec.dim);
            vectors.push(self.activate(&last));
        }
        let categorical = (0..).zip(&spec.categorical);
        let columns = (spec.user.iter().map(|name| ("user".to_owned(), name)))
            .chain(spec.item.iter().map(|name| ("item".to_owned(), name)))
            .chain(categorical.map(|(i, name): (usize, _)| (format!("categorical[{i}]"), name)));
        for (index, (field, name)) in columns.enumerate() {
            let (ids, layer) = (format!("ids.{index}"), format!("embeddings.{index}"));
            self.ids(&ids, &field, name)?;
            self.embed(&layer, &ids, &field);
            vectors.push(layer);
        }
        let inputs: Vec<&str> = vectors.iter().map(String::as_str).collect();
        self.add("interact", &inputs, Block::Interact {});
        if !spec.numeric.is_empty() {
            self.add("concat", &[inputs[0], "interact"], Block::Concat {});
        }
        self.dense("top", "hidden", &spec.hidden, 1);
        Ok(())
    }
}
