//! The values of a call, and the shortest way to them.

pub use crate::bindings::preprocess::stoker::plugin::types::{
    Batch, Element, Error, Strings, Tensor, TensorSpec, Values,
};

impl Batch {
    /// The tensor called `name`; `invalid-batch`, naming those there are, if there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.ok_or_else(|| self.no_tensor(name))
    }

    /// As [`Batch::tensor`], to change it.
    pub fn tensor_mut(&mut self, name: &str) -> Result<&mut Tensor, Error> {
        match self.tensors.iter().position(|tensor| tensor.name == name) {
            Some(at) => Ok(&mut self.tensors[at]),
            None => Err(self.no_tensor(name)),
        }
    }

    fn no_tensor(&self, name: &str) -> Error {
        let names: Vec<&str> = self
            .tensors
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        let names = names.join("`, `");
        Error::InvalidBatch(format!("there is no tensor `{name}`; there are `{names}`"))
    }
}

impl Tensor {
    /// The elements as f32; `invalid-batch` if they are of another kind.
    pub fn float32(&self) -> Result<&[f32], Error> {
        match &self.values {
            Values::Float32(values) => Ok(values),
            _ => Err(self.other_kind("float32")),
        }
    }

    /// As [`Tensor::float32`], to change them.
    pub fn float32_mut(&mut self) -> Result<&mut Vec<f32>, Error> {
        if !matches!(self.values, Values::Float32(_)) {
            return Err(self.other_kind("float32"));
        }
        match &mut self.values {
            Values::Float32(values) => Ok(values),
            _ => unreachable!("checked above"),
        }
    }

    /// The elements as i64; `invalid-batch` if they are of another kind.
    pub fn int64(&self) -> Result<&[i64], Error> {
        match &self.values {
            Values::Int64(values) => Ok(values),
            _ => Err(self.other_kind("int64")),
        }
    }

    fn other_kind(&self, wanted: &str) -> Error {
        let given = match &self.values {
            Values::Float32(_) => "float32",
            Values::Int64(_) => "int64",
            Values::Uint8(_) => "uint8",
            Values::Text(_) => "text",
        };
        Error::InvalidBatch(format!("tensor `{}` is {given}, not {wanted}", self.name))
    }
}
