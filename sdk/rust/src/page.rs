//! Lists that come in pages.

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use reqwest::Url;

use crate::error::Result;

/// Sets those query parameters that have a value.
pub(crate) fn set_query<'a>(
    url: &mut Url,
    pairs: impl IntoIterator<Item = (&'a str, Option<String>)>,
) {
    let given: Vec<_> = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    if !given.is_empty() {
        url.query_pairs_mut().extend_pairs(given);
    }
}

/// Every item of every page. `fetch` is given the cursor and answers with a page and the next
/// page's cursor; a page without one is the last. A cursor that doesn't move ends the list too, so
/// that no server can hold a client for ever.
pub(crate) fn paged<T, C, F>(
    first: Option<C>,
    fetch: impl Fn(Option<C>) -> F + Send + 'static,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    C: Clone + PartialEq + Send + 'static,
    F: Future<Output = Result<(Vec<T>, Option<C>)>> + Send + 'static,
{
    stream::try_unfold((first, false), move |(cursor, done)| {
        let page = (!done).then(|| fetch(cursor.clone()));
        async move {
            let Some(page) = page else { return Ok(None) };
            let (items, next) = page.await?;
            let done = next.is_none() || next == cursor;
            let items = stream::iter(items.into_iter().map(Ok));
            Ok(Some((items, (next, done))))
        }
    })
    .try_flatten()
    .boxed()
}
