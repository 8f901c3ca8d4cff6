//! A thread that does what may take long, one thing after the other.
//!
//! FUSE requests arrive in order at one thread, and most are answered there. An operation that may sleep (a report, while
//! the host is said to be busy) goes here with its reply, and so does everything behind it that the kernel would make
//! wait for the same lock. Thus a `close` that commits `inblob` is done before the read that follows it, although the
//! kernel does not wait for the answer to the close.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped and its jobs are done.
pub(super) struct Worker {
    jobs: Sender<Job>,
    /// Jobs that were submitted and are not done.
    pending: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&pending);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in queue {
                job();
                left.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Self { jobs, pending })
    }

    /// Whether everything that was submitted is done.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Does a job after those submitted before.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        // The thread ends only after this is dropped.
        let _ = self.jobs.send(Box::new(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn jobs_are_done_in_order() {
        let worker = Worker::start("jobs").expect("a thread");
        assert!(worker.is_idle());
        let done = Arc::new(Mutex::new(Vec::new()));
        let (finished, wait) = mpsc::channel();
        for number in 0..100 {
            let done = Arc::clone(&done);
            worker.submit(move || done.lock().expect("no panic").push(number));
        }
        assert!(done.lock().expect("no panic").len() <= 100);
        worker.submit(move || finished.send(()).expect("the test waits"));
        wait.recv().expect("the last job");
        assert_eq!(*done.lock().expect("no panic"), (0..100).collect::<Vec<_>>());
        while !worker.is_idle() {
            thread::yield_now();
        }
    }
}
