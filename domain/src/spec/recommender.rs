//! Recommenders: from a user, an item and what is known of them to one number.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::block::Activation;
use super::check::Checks;
use crate::error::FieldError;

/// Most categorical columns of `dlrm` beside user, item and numbers, all of which are paired.
const CATEGORICAL_MAX: usize = 61;

/// How a recommender scores a user and an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecommenderKind {
    /// A global bias, a bias of each user and item, and the inner product of their factors (Koren
    /// et al. 2009). Parameters `bias`, `user_bias.weight`, `item_bias.weight`, `user.weight`,
    /// `item.weight`.
    MatrixFactorisation,
    /// The inner product of two towers, each an embedding and what else is known of a user or item,
    /// with dense layers (Covington et al. 2016; Yi et al. 2019). Parameters
    /// `user.embedding.weight`, `user.embeddings.{i}.weight`, `user.layers.{i}.…`, and `item.…`.
    TwoTower,
    /// Embeddings and dense layers over the numbers, the inner products of all pairs of them, and
    /// dense layers on top (Naumov et al. 2019). Parameters `embeddings.{i}.weight` (user, item,
    /// then `categorical`), `bottom.{i}.…`, `top.{i}.…`.
    Dlrm,
}

/// A recommender, which predicts one number: a rating, or with the loss `bce` the logit of a
/// click. Its columns are named, and may come in any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recommender {
    /// How a user and an item are scored.
    pub kind: RecommenderKind,
    /// The column of user ids, whole numbers from 0; only `dlrm` may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The column of item ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// Further columns of whole numbers from 0, each with an embedding of its own; not for
    /// `matrix_factorisation`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// Columns of numbers; not for `matrix_factorisation`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numeric: Vec<String>,
    /// Which of `categorical` and `numeric` are about the item: the others are about the user. Only
    /// for `two_tower`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item_columns: Vec<String>,
    /// Numbers of each embedding, and of what a tower gives.
    #[serde(default = "default_dim")]
    pub dim: u32,
    /// Units of each hidden layer: of both towers, or of `dlrm`'s top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<u32>,
    /// Units of each layer of `dlrm`'s bottom before its last one, which has `dim`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bottom: Vec<u32>,
    /// After each hidden layer, and at the end of `dlrm`'s bottom.
    #[serde(default)]
    pub activation: Activation,
    /// Share of hidden activations dropped in training, 0 up to, not including, 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f32,
    /// What the global bias of `matrix_factorisation` starts as: about the mean of the target.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mean: f32,
    /// Standard deviation of the initial embeddings.
    #[serde(default = "default_deviation")]
    pub deviation: f32,
}

const fn default_dim() -> u32 {
    32
}
const fn default_deviation() -> f32 {
    0.1
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

impl Recommender {
    pub(super) fn validate(&self, checks: &mut Checks) {
        checks.width("dim".to_owned(), self.dim);
        checks.widths("hidden", &self.hidden);
        checks.widths("bottom", &self.bottom);
        checks.share("dropout".to_owned(), self.dropout);
        checks.finite("mean".to_owned(), self.mean);
        checks.above_zero("deviation".to_owned(), self.deviation);
        checks.names("categorical", &self.categorical);
        checks.names("numeric", &self.numeric);
        if self.user.is_some() && self.user == self.item {
            let message = "the same column as `user`";
            checks.0.push(FieldError::new("item", message));
        }
        self.validate_kind(checks);
        for (index, name) in self.item_columns.iter().enumerate() {
            if !self.categorical.contains(name) && !self.numeric.contains(name) {
                let message = format!("`{name}` is in neither `categorical` nor `numeric`");
                let field = format!("item_columns[{index}]");
                checks.0.push(FieldError::new(field, message));
            }
        }
    }

    /// Which fields a kind needs and takes.
    fn validate_kind(&self, checks: &mut Checks) {
        use RecommenderKind::{Dlrm, MatrixFactorisation, TwoTower};
        let mut refuse = |wrong: bool, field: &str, message: &str| {
            if wrong {
                checks.0.push(FieldError::new(field, message));
            }
        };
        let (kind, pair) = (self.kind, self.kind != Dlrm);
        refuse(pair && self.user.is_none(), "user", "a column is needed");
        refuse(pair && self.item.is_none(), "item", "a column is needed");
        let plain = kind == MatrixFactorisation;
        let more = "`matrix_factorisation` takes users and items alone";
        refuse(plain && !self.categorical.is_empty(), "categorical", more);
        refuse(plain && !self.numeric.is_empty(), "numeric", more);
        let flat = "`matrix_factorisation` has no layers";
        refuse(plain && !self.hidden.is_empty(), "hidden", flat);
        let (items, bottom) = (!self.item_columns.is_empty(), !self.bottom.is_empty());
        refuse(
            items && kind != TwoTower,
            "item_columns",
            "only for `two_tower`",
        );
        refuse(bottom && kind != Dlrm, "bottom", "only for `dlrm`");
        let many = self.categorical.len() > CATEGORICAL_MAX;
        refuse(many && kind == Dlrm, "categorical", "at most 61 columns");
        refuse(
            self.mean != 0.0 && !plain,
            "mean",
            "only for `matrix_factorisation`",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::spec::{Family, ModelSpec};

    /// What isn't set isn't written, and all that is comes back.
    #[test]
    fn families_of_one_struct_survive_the_round_trip_through_json() {
        for (given, written) in [
            (
                json!({"family": "recommender", "kind": "dlrm", "user": "u", "numeric": ["n"]}),
                7,
            ),
            (
                json!({"family": "recommender", "kind": "two_tower", "user": "u", "item": "i",
                    "categorical": ["c"], "item_columns": ["c"], "hidden": [8], "dropout": 0.5}),
                11,
            ),
            (json!({"family": "autoencoder"}), 5),
            (
                json!({"family": "autoencoder", "kind": "vae", "hidden": [], "beta": 0.25}),
                6,
            ),
        ] {
            let model: ModelSpec = serde_json::from_value(given.clone()).unwrap();
            assert!(model.validate().is_empty(), "{given}");
            let json = serde_json::to_value(&model).unwrap();
            let fields = json.as_object().unwrap().len();
            // Those given, and those that are always written.
            assert_eq!(fields, written, "{json}");
            assert_eq!(serde_json::from_value::<ModelSpec>(json).unwrap(), model);
        }
        let unknown = json!({"kind": "dlrm", "user": "u", "users": "u"});
        let with_tag = json!({"family": "recommender", "kind": "dlrm", "users": "u"});
        assert!(serde_json::from_value::<super::Recommender>(unknown).is_err());
        assert!(serde_json::from_value::<Family>(with_tag).is_err());
    }
}
