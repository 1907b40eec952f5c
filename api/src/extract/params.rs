//! Query parameters, with errors that name the parameter.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures::future::{Ready, ready};
use stoker_domain::FieldError;
use stoker_domain::error::nearest;
use stoker_domain::id::check_name;

use crate::config::Config;
use crate::problem::ApiError;

/// Most parameters of one request.
const PARAMS_MAX: usize = 64;

/// The parameters of a request's query.
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequest for Params {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs: Vec<_> = form_urlencoded::parse(request.query_string().as_bytes())
            .take(PARAMS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        ready(if pairs.len() > PARAMS_MAX {
            let message = format!("more than {PARAMS_MAX} parameters");
            Err(ApiError::syntax_field("query", message))
        } else {
            Ok(Self(pairs))
        })
    }
}

impl Params {
    /// Refuses parameters that aren't `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        let unknown = (self.0.iter()).filter(|(name, _)| !known.contains(&name.as_str()));
        let errors: Vec<FieldError> = unknown
            .map(|(name, _)| {
                let hint = nearest(name, known.iter().copied())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let message = format!("unknown parameter, known: {}{hint}", known.join(", "));
                FieldError::new(name, message)
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::syntax(errors))
        }
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let wanted = move |(key, _): &&(String, String)| key == name;
        self.0
            .iter()
            .filter(wanted)
            .map(|(_, value)| value.as_str())
    }

    /// The value of `name`, if it is there.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::syntax_field(name, "given more than once"));
        }
        Ok(first)
    }

    /// The value of `name`, which must be there.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, ApiError> {
        self.text(name)?
            .ok_or_else(|| ApiError::syntax_field(name, "the parameter is missing"))
    }

    /// The value of `name` as a `T`.
    pub(crate) fn parse<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error| {
            let shown: String = text.chars().take(40).collect();
            ApiError::syntax_field(name, format!("{shown:?}: {error}"))
        })
    }

    /// The value of `name` as one of `known`, by their text.
    pub(crate) fn one_of<T: Copy>(
        &self,
        name: &'static str,
        known: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let names = || known.iter().map(|(name, _)| *name);
        match known.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let shown: String = text.chars().take(40).collect();
                let hint = nearest(&shown, names())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let list = names().collect::<Vec<_>>().join(", ");
                let message = format!("{shown:?} is not one of {list}{hint}");
                Err(ApiError::syntax_field(name, message))
            }
        }
    }

    /// The page's size: `limit`, within the configured bounds.
    pub(crate) fn limit(&self, config: &Config, max: usize) -> Result<usize, ApiError> {
        let limit = self.parse("limit")?.unwrap_or(config.page_default.min(max));
        if (1..=max).contains(&limit) {
            return Ok(limit);
        }
        let message = format!("{limit} is not in 1 to {max}");
        Err(ApiError::syntax_field("limit", message))
    }

    /// The value of `name` as a name of something, which must be there.
    pub(crate) fn name(&self, name: &'static str) -> Result<String, ApiError> {
        let text = self.required(name)?;
        check_name(text)
            .map(|()| text.to_owned())
            .map_err(|error| ApiError::syntax_field(name, error.to_string()))
    }
}

/// A part of the path as a `T`. What isn't well formed names nothing: 404.
pub(crate) fn path_name<T: FromStr>(what: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        ApiError::not_found(format_args!("{what} {shown:?}"))
    })
}
