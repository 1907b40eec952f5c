//! Threads that decode columns side by side, while the caller's reads the file for them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

use super::decode::{Column, Open, Part};
use super::leaf::Leaf;
use super::remote::{Need, Remote};
use crate::error::DataError;
use crate::parallel::gave_up;
use crate::shared::Shared;

/// Parts that are decoded ahead.
const AHEAD: usize = 3;
/// What is read ahead of a column, in bytes, and of all of them.
const COLUMN_AHEAD_BYTES: usize = 256 << 10;
const AHEAD_BYTES: usize = 16 << 20;
const AHEAD_MIN_BYTES: usize = 16 << 10;

type Parts = Result<Vec<Part>, DataError>;

enum Message {
    Need(Need),
    Decoded(usize, Parts),
}

/// The columns of a file, rows at a time.
pub(super) struct Crew<'a> {
    source: Shared<'a>,
    messages: Receiver<Message>,
    workers: Vec<Worker>,
    columns: usize,
    /// Rows of the parts that were ordered and not given.
    ordered: VecDeque<usize>,
}

struct Worker {
    orders: Option<Sender<usize>>,
    thread: Option<JoinHandle<()>>,
    /// Places of its columns among all.
    places: Vec<usize>,
    decoded: VecDeque<Parts>,
}

impl<'a> Crew<'a> {
    /// Starts at most `threads` threads on the columns, each with the shape of its lists where it
    /// is known.
    pub(super) fn start(
        source: Shared<'a>,
        metadata: &Arc<ParquetMetaData>,
        leaves: Vec<(Leaf, Option<Vec<u32>>)>,
        threads: usize,
    ) -> Result<Self, DataError> {
        let (sender, messages) = channel();
        let ahead = (AHEAD_BYTES / leaves.len()).clamp(AHEAD_MIN_BYTES, COLUMN_AHEAD_BYTES);
        let columns = leaves.len();
        let mut shares = share(&leaves, metadata, threads.max(1));
        shares.retain(|share| !share.is_empty());
        let mut workers = Vec::new();
        for (index, places) in shares.into_iter().enumerate() {
            let open = |place: &usize| {
                let (leaf, shape) = leaves[*place].clone();
                let open = opener(metadata.clone(), sender.clone(), ahead);
                Column::new(leaf, metadata.clone(), shape, open)
            };
            let columns: Vec<Column> = places.iter().map(open).collect();
            let (orders, received) = channel();
            let sender = sender.clone();
            let thread = std::thread::Builder::new().name("stoker-read".to_owned());
            let thread = thread
                .spawn(move || serve(index, columns, &received, &sender))
                .map_err(DataError::Read)?;
            workers.push(Worker {
                orders: Some(orders),
                thread: Some(thread),
                places,
                decoded: VecDeque::new(),
            });
        }
        Ok(Self {
            source,
            messages,
            workers,
            columns,
            ordered: VecDeque::new(),
        })
    }

    /// How many columns there are.
    pub(super) const fn columns(&self) -> usize {
        self.columns
    }

    /// Whether another part is to be ordered now.
    pub(super) fn has_room(&self) -> bool {
        self.ordered.len() < AHEAD
    }

    /// Orders the next rows.
    pub(super) fn order(&mut self, rows: usize) {
        self.ordered.push_back(rows);
        for worker in &self.workers {
            if let Some(orders) = &worker.orders {
                // A worker that ended has said why.
                let _ = orders.send(rows);
            }
        }
    }

    /// The rows that were ordered first, with all columns; none when nothing is ordered.
    pub(super) fn next(&mut self) -> Option<Result<(usize, Vec<Part>), DataError>> {
        let rows = self.ordered.pop_front()?;
        // What decoders wait for goes first, even when the next part is here.
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        while self.workers.iter().any(|worker| worker.decoded.is_empty()) {
            match self.messages.recv() {
                Ok(message) => self.take(message),
                Err(_) => return Some(Err(gave_up())),
            }
        }
        let mut all: Vec<Option<Part>> = (0..self.columns).map(|_| None).collect();
        for worker in &mut self.workers {
            match worker.decoded.pop_front()? {
                Ok(parts) => {
                    for (&place, part) in worker.places.iter().zip(parts) {
                        all[place] = Some(part);
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok((rows, all.into_iter().flatten().collect())))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Need(need) => self.serve(need),
            Message::Decoded(index, parts) => self.workers[index].decoded.push_back(parts),
        }
    }

    fn serve(&self, need: Need) {
        let read = self.source.bytes(need.begin, need.length);
        let read = read.map(Bytes::from).map_err(|error| error.to_string());
        // Nobody waits any more when reading was given up.
        let _ = need.reply.send(read);
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.orders = None;
        }
        // Who waits for bytes is told that there are none: the queue goes, and every reply with it.
        let (_, empty) = channel();
        self.messages = empty;
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// Shares the columns out so that threads have much the same to do.
fn share(
    leaves: &[(Leaf, Option<Vec<u32>>)],
    metadata: &ParquetMetaData,
    threads: usize,
) -> Vec<Vec<usize>> {
    let weight = |leaf: &Leaf| {
        let groups = metadata.row_groups().iter();
        let sizes = groups.map(|group| group.column(leaf.index).uncompressed_size().max(1));
        sizes.fold(0_i64, i64::saturating_add)
    };
    let mut heavy: Vec<_> = leaves
        .iter()
        .map(|(leaf, _)| weight(leaf))
        .zip(0..)
        .collect();
    heavy.sort_unstable_by_key(|&(weight, place)| (std::cmp::Reverse(weight), place));
    let mut shares: Vec<(i64, Vec<usize>)> = vec![(0, Vec::new()); threads];
    for (weight, place) in heavy {
        if let Some(lightest) = shares.iter_mut().min_by_key(|(weight, _)| *weight) {
            lightest.0 = lightest.0.saturating_add(weight);
            lightest.1.push(place);
        }
    }
    shares.into_iter().map(|(_, places)| places).collect()
}

fn opener(metadata: Arc<ParquetMetaData>, sender: Sender<Message>, ahead: usize) -> Box<Open> {
    Box::new(move |group, leaf| {
        if group >= metadata.num_row_groups() {
            return Ok(None);
        }
        let column = metadata.row_group(group).column(leaf.index);
        let (begin, length) = column.byte_range();
        let sender = sender.clone();
        let ask = move |need| sender.send(Message::Need(need)).is_ok();
        Ok(Some(Remote::new(begin.saturating_add(length), ahead, ask)))
    })
}

fn serve(
    index: usize,
    mut columns: Vec<Column>,
    orders: &Receiver<usize>,
    sender: &Sender<Message>,
) {
    while let Ok(rows) = orders.recv() {
        let decode = || columns.iter_mut().map(|column| column.read(rows)).collect();
        let parts: Parts =
            catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(gave_up()));
        let failed = parts.is_err();
        if sender.send(Message::Decoded(index, parts)).is_err() || failed {
            return;
        }
    }
}
