//! The host's end of a guest's serial line: a thread that reads what the guest writes.

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Gets what the guest writes, as it comes. Says whether the guest has said all that it has to say: then it is not run on.
pub type Sink = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// What came over one line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    shared: Arc<(Mutex<Received>, Condvar)>,
}

#[derive(Debug, Default)]
struct Received {
    /// The last bytes, up to the limit.
    bytes: Vec<u8>,
    /// The sink is content.
    done: bool,
    /// The line was closed.
    closed: bool,
}

impl Line {
    /// Reads `stream` to its end. Of what comes the last `limit` bytes are kept, or a few more. `attention` is raised when the
    /// sink is content.
    pub(super) fn read(
        mut stream: UnixStream,
        limit: usize,
        mut sink: Sink,
        attention: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let line = Self { shared: Arc::default() };
        let reader = line.clone();
        let body = move || {
            let mut buf = [0; 4096];
            // An error is an end like any other: QEMU is gone.
            while let Ok(count @ 1..) = stream.read(&mut buf) {
                let bytes = &buf[..count];
                let done = sink(bytes);
                let mut received = reader.lock();
                received.bytes.extend_from_slice(bytes);
                if received.bytes.len() > limit.saturating_mul(2) {
                    let surplus = received.bytes.len() - limit;
                    received.bytes.drain(..surplus);
                }
                if done {
                    received.done = true;
                    attention.store(true, Ordering::Relaxed);
                }
            }
            reader.lock().closed = true;
            reader.shared.1.notify_all();
        };
        std::thread::Builder::new().name("serial line".to_owned()).spawn(body)?;
        Ok(line)
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Whether the sink is content.
    pub(super) fn is_done(&self) -> bool {
        self.lock().done
    }

    /// Waits until the line is closed, at most for `time`.
    pub(super) fn wait_closed(&self, time: Duration) {
        let waited = self.shared.1.wait_timeout_while(self.lock(), time, |received| !received.closed);
        // Poisoned or late: what came is there all the same.
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_end_is_kept_and_the_sink_sees_all() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let attention = Arc::new(AtomicBool::new(false));
        let total = Arc::new(Mutex::new(0));
        let count = Arc::clone(&total);
        let sink: Sink = Box::new(move |bytes| {
            *count.lock().unwrap() += bytes.len();
            bytes.contains(&b'!')
        });
        let line = Line::read(host, 100, sink, Arc::clone(&attention)).unwrap();
        for _ in 0..50 {
            guest.write_all(&[b'a'; 100]).unwrap();
        }
        guest.write_all(b"end!").unwrap();
        drop(guest);
        line.wait_closed(Duration::from_secs(60));
        assert!(line.bytes().len() <= 4096 + 200 && line.bytes().ends_with(b"end!"));
        assert_eq!(*total.lock().unwrap(), 5004);
        assert!(line.is_done() && attention.load(Ordering::Relaxed));
    }
}
