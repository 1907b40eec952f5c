//! Results that hold several items, as the items.

use crate::error::DataError;

/// The items of the lists that `inner` gives.
pub(crate) struct Flat<I, T> {
    inner: I,
    now: std::vec::IntoIter<T>,
}

impl<I, T> Flat<I, T> {
    pub(crate) fn new(inner: I) -> Self {
        Self {
            inner,
            now: Vec::new().into_iter(),
        }
    }
}

impl<I, T> Iterator for Flat<I, T>
where
    I: Iterator<Item = Result<Result<Vec<T>, DataError>, DataError>>,
{
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.now.next() {
                return Some(Ok(item));
            }
            match self.inner.next()?.and_then(|items| items) {
                Ok(items) => self.now = items.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
