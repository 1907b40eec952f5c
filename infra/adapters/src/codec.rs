//! How records are written: JSON, the same in every store.

use serde::Serialize;
use serde::de::DeserializeOwned;
use stoker_domain::job::Change;
use stoker_domain::port::{CatalogKind, Document, StoreError};
use stoker_domain::worker::Progress;
use stoker_domain::{JobRecord, TenantId};

/// A value as it is stored.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A stored value.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A progress as it is stored. JSON knows no infinity, and how far a run is must never stop it.
pub(crate) fn encode_progress(progress: &Progress) -> Result<String, StoreError> {
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    encode(&Progress {
        loss: progress.loss.filter(|loss| loss.is_finite()),
        samples_per_s: finite(progress.samples_per_s),
        ..progress.clone()
    })
}

/// A change as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct EncodedChange {
    pub(crate) record: String,
    /// In the order of their positions.
    pub(crate) events: Vec<String>,
    /// Id and entry.
    pub(crate) outbox: Vec<(String, String)>,
    pub(crate) documents: Vec<EncodedDocument>,
}

/// A document as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct EncodedDocument {
    pub(crate) kind: CatalogKind,
    pub(crate) tenant: TenantId,
    pub(crate) key: String,
    pub(crate) value: String,
}

pub(crate) fn encode_documents(documents: &[Document]) -> Result<Vec<EncodedDocument>, StoreError> {
    let encoded = documents.iter().map(|document| {
        Ok(EncodedDocument {
            kind: document.kind,
            tenant: document.tenant.clone(),
            key: document.key.clone(),
            value: encode(&document.value)?,
        })
    });
    encoded.collect()
}

impl EncodedChange {
    pub(crate) fn new(change: &Change) -> Result<Self, StoreError> {
        check_finite(&change.record)?;
        let entries = change.outbox();
        let outbox = entries
            .iter()
            .map(|entry| Ok((entry.id.clone(), encode(entry)?)));
        Ok(Self {
            record: encode(&change.record)?,
            events: change.events.iter().map(encode).collect::<Result<_, _>>()?,
            outbox: outbox.collect::<Result<_, StoreError>>()?,
            documents: encode_documents(&change.documents)?,
        })
    }
}

/// A number that JSON can't hold would be written as `null`, and the record never be read again.
fn check_finite(record: &JobRecord) -> Result<(), StoreError> {
    let Some(result) = &record.result else {
        return Ok(());
    };
    let bad = result.metrics.iter().find(|(_, value)| !value.is_finite());
    if let Some((name, value)) = bad {
        let message = format!("result.metrics.{name}: {value} is not a finite number");
        return Err(StoreError::Corrupt(message));
    }
    let others = [Some(result.samples_per_s), result.submit_to_first_step_ms];
    if others.into_iter().flatten().all(f64::is_finite) {
        Ok(())
    } else {
        let message = "result: a speed or time is not a finite number";
        Err(StoreError::Corrupt(message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoker_domain::job::Transition;
    use stoker_domain::testkit::fixture::{at, holder, job, outcome};

    /// The change with which a job ends that measured `accuracy` at `samples_per_s`.
    fn end(accuracy: f64, samples_per_s: f64) -> Change {
        let mut outcome = outcome(1);
        outcome.metrics.insert("test.accuracy".to_owned(), accuracy);
        outcome.samples_per_s = samples_per_s;
        let record = job("digits").record;
        let record = record
            .apply(Transition::Dispatch(holder()), at(1))
            .unwrap()
            .record;
        let record = record
            .apply(Transition::Start { token: 1 }, at(2))
            .unwrap()
            .record;
        record
            .apply(Transition::Succeed { token: 1, outcome }, at(3))
            .unwrap()
    }

    #[test]
    fn a_record_that_could_not_be_read_again_is_not_written() {
        let change = end(0.9, 1e6);
        let encoded = EncodedChange::new(&change).unwrap();
        assert_eq!(decode::<JobRecord>(&encoded.record).unwrap(), change.record);
        for (change, said) in [
            (end(f64::NAN, 1.0), "result.metrics.test.accuracy: NaN"),
            (end(0.9, f64::INFINITY), "result: a speed or time"),
        ] {
            let refused = EncodedChange::new(&change).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
