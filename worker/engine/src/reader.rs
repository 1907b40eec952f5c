//! Reads the windows of a table that is in a file, one ahead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use stoker_domain::job::FailureKind;

use crate::error::EngineError;
use crate::feed::{Pass, Place};
use crate::order::Windows;
use crate::table::{Loaded, Table};

/// A window of a pass over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pass: Pass,
    epoch: u64,
    index: usize,
}

/// Reads windows for all ranks of a process. Up to three are in memory: those that the training and
/// the evaluation are at, and the next one.
pub(crate) struct Reader {
    table: Arc<Table>,
    windows: Windows,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The window of each pass that was opened last.
    opened: [Option<(Key, Arc<Loaded>)>; 2],
    next: Option<(Key, JoinHandle<Result<Loaded, EngineError>>)>,
    /// Memory of a window that nobody needs any more.
    spare: Loaded,
}

impl Reader {
    pub(crate) fn new(table: Arc<Table>, windows: Windows) -> Self {
        Self {
            table,
            windows,
            state: Mutex::default(),
        }
    }

    /// The window that holds the batch which begins at `first` in the order.
    pub(crate) fn key(&self, place: Place, first: usize, order: &[u64]) -> Key {
        // The only window of a pass holds the same rows in every epoch.
        let is_only = self.windows.rows(order, 1).is_empty();
        Key {
            pass: place.pass,
            epoch: if is_only { 0 } else { place.epoch },
            index: self.windows.index(first),
        }
    }

    /// The rows of a window; the one after it is read meanwhile.
    ///
    /// # Errors
    /// `platform` when the file can't be read.
    pub(crate) fn open(&self, key: Key, order: &[u64]) -> Result<Arc<Loaded>, EngineError> {
        // Who comes meanwhile most likely waits for the same.
        let mut state = self.lock();
        let pass = match key.pass {
            Pass::Train => 0,
            Pass::Test => 1,
        };
        if let Some((_, loaded)) = state.opened[pass]
            .as_ref()
            .filter(|(known, _)| *known == key)
        {
            return Ok(Arc::clone(loaded));
        }
        if let Some((_, old)) = state.opened[pass].take() {
            state.spare = Arc::try_unwrap(old).unwrap_or_default();
        }
        let loaded = match state.next.take() {
            Some((next, reading)) if next == key => reading.join().map_err(|_| failed())??,
            _ => {
                let spare = std::mem::take(&mut state.spare);
                self.table
                    .load(self.windows.rows(order, key.index), spare)?
            }
        };
        let loaded = Arc::new(loaded);
        state.opened[pass] = Some((key, Arc::clone(&loaded)));
        let index = key.index + 1;
        let next = self.windows.rows(order, index);
        if !next.is_empty() {
            let (table, rows) = (Arc::clone(&self.table), next.to_vec());
            let spare = std::mem::take(&mut state.spare);
            let reading = std::thread::Builder::new()
                .name("stoker-read".to_owned())
                .spawn(move || table.load(&rows, spare));
            state.next = reading.ok().map(|reading| (Key { index, ..key }, reading));
        }
        Ok(loaded)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed() -> EngineError {
    let message = "reading prepared rows failed in a way that is our bug";
    EngineError::new(FailureKind::Platform, message)
}
