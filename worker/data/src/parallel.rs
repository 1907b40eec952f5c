//! Work spread over threads whose results come back in order.
//!
//! The caller's thread reads and cuts the file into jobs, since the file may be borrowed and read
//! from one place only; threads of our own do the work. A file of one job is worked on right here:
//! starting threads would cost more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::DataError;

/// Jobs on their way, as a multiple of the threads.
const AHEAD: usize = 2;

type Work<J, R> = dyn Fn(J) -> R + Send + Sync;
type Sent<J, R> = (J, SyncSender<R>);

/// Jobs from `jobs`, worked on by several threads, results in the order of the jobs.
pub(crate) struct Parallel<I, J, R> {
    jobs: I,
    work: Arc<Work<J, R>>,
    threads: usize,
    crew: Option<Crew<J, R>>,
    waiting: VecDeque<Waiting<J, R>>,
    /// No more jobs; with the error that ended them.
    ended: Option<Option<DataError>>,
}

enum Waiting<J, R> {
    /// Not given to anyone yet.
    Here(J),
    Away(Receiver<R>),
}

impl<I, J, R> Parallel<I, J, R>
where
    I: FnMut() -> Result<Option<J>, DataError>,
    J: Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new(
        threads: usize,
        jobs: I,
        work: impl Fn(J) -> R + Send + Sync + 'static,
    ) -> Self {
        Self {
            jobs,
            work: Arc::new(work),
            threads: threads.max(1),
            crew: None,
            waiting: VecDeque::new(),
            ended: None,
        }
    }

    /// Takes jobs until enough are on their way.
    fn fill(&mut self) {
        while self.ended.is_none() && self.waiting.len() < self.threads * AHEAD {
            match (self.jobs)() {
                Ok(Some(job)) => self.hand_out(job),
                Ok(None) => self.ended = Some(None),
                Err(error) => self.ended = Some(Some(error)),
            }
        }
    }

    fn hand_out(&mut self, job: J) {
        self.waiting.push_back(Waiting::Here(job));
        if self.crew.is_none() {
            if self.waiting.len() < 2 {
                return;
            }
            self.crew = Crew::new(self.threads, &self.work);
        }
        let Some(crew) = &self.crew else { return };
        for index in 0..self.waiting.len() {
            if matches!(self.waiting[index], Waiting::Away(_)) {
                continue;
            }
            let (done, result) = sync_channel(1);
            let before = std::mem::replace(&mut self.waiting[index], Waiting::Away(result));
            if let Waiting::Here(job) = before {
                crew.send((job, done));
            }
        }
    }
}

impl<I, J, R> Iterator for Parallel<I, J, R>
where
    I: FnMut() -> Result<Option<J>, DataError>,
    J: Send + 'static,
    R: Send + 'static,
{
    type Item = Result<R, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        Some(match self.waiting.pop_front() {
            Some(Waiting::Here(job)) => {
                catch_unwind(AssertUnwindSafe(|| (self.work)(job))).map_err(|_| gave_up())
            }
            Some(Waiting::Away(result)) => result.recv().map_err(|_| gave_up()),
            None => Err(self.ended.as_mut()?.take()?),
        })
    }
}

/// What is said when a decoder panicked.
pub(crate) fn gave_up() -> DataError {
    DataError::Malformed("the file is broken in a way that its reader gave up on".to_owned())
}

/// The threads.
struct Crew<J, R> {
    jobs: Option<Sender<Sent<J, R>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static, R: Send + 'static> Crew<J, R> {
    /// `None` when the machine has no threads left: the caller works alone then.
    fn new(threads: usize, work: &Arc<Work<J, R>>) -> Option<Self> {
        let (jobs, received) = channel::<Sent<J, R>>();
        let received = Arc::new(Mutex::new(received));
        let start = |_| {
            let (received, work) = (received.clone(), work.clone());
            let thread = std::thread::Builder::new().name("stoker-read".to_owned());
            thread.spawn(move || serve(&received, &*work)).ok()
        };
        let threads: Vec<_> = (0..threads).map_while(start).collect();
        (!threads.is_empty()).then_some(Self {
            jobs: Some(jobs),
            threads,
        })
    }

    fn send(&self, job: Sent<J, R>) {
        if let Some(jobs) = &self.jobs {
            // Fails when no thread is left; the one who waits for the result is told then.
            let _ = jobs.send(job);
        }
    }
}

fn serve<J, R>(received: &Mutex<Receiver<Sent<J, R>>>, work: &Work<J, R>) {
    loop {
        let next = received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((job, done)) = next else { return };
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(job))) {
            // Nobody waits any more when reading was given up.
            let _ = done.send(result);
        }
    }
}

impl<J, R> Drop for Crew<J, R> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
