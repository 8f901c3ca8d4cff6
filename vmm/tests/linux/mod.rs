//! What the tests with Linux guests have in common: the task, the channel's end, what came of a boot.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tsmsim_abi::linux_guest::{TASK_MAGIC, Task};
use tsmsim_simulator::fault::{FaultAction, FaultHook, FaultPoint};
use tsmsim_vmm::{
    cc::{
        linux::{ConfidentialMachine, LinuxEnd, LinuxGuest, Sink},
        surroundings::Surroundings,
    },
    guest_channel::{ChannelReport, GuestChannel, Limits},
};

/// Long enough for any of these guests, however busy the machine.
const TIME: Duration = Duration::from_secs(600);
/// What a guest's evidence is to contain.
pub(crate) const NONCE: [u8; 64] = *b"chosen outside the guest, found in what its own driver delivers.";

/// One guest at a time: each keeps a processor busy.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The init program is to get evidence with [`NONCE`].
pub(crate) fn task() -> Task {
    Task { magic: TASK_MAGIC, inblob_len: 64.into(), reserved_0xc: 0.into(), inblob: NONCE }
}

/// Surroundings in which one thing breaks, each time.
pub(crate) fn breaking(point: FaultPoint, action: FaultAction) -> Surroundings {
    Surroundings { faults: Box::new(Break(point, action)), ..Surroundings::default() }
}

struct Break(FaultPoint, FaultAction);

impl FaultHook for Break {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        (point == self.0).then(|| self.1.clone())
    }
}

/// What came of a boot.
pub(crate) struct Outcome {
    pub(crate) end: LinuxEnd,
    pub(crate) report: ChannelReport,
    pub(crate) console: String,
    /// How often the guest was stopped, by the name of the instruction.
    pub(crate) stops: BTreeMap<&'static str, u64>,
    said: String,
    time: Duration,
    out: tempfile::TempDir,
}

impl Outcome {
    /// A file that the guest delivered.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.out.path().join(name)).ok()
    }

    /// All there is to say where a test fails.
    pub(crate) fn show(&self) -> String {
        let Self { end, report, said, stops, .. } = self;
        let lines: Vec<&str> = self.console.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        let time = self.time.as_secs_f64();
        format!("{end:?} {report:?}\n{said}\n{tail}\n{time:.1} s, {stops:?}")
    }
}

/// The host's end of the channel.
pub(crate) struct Channel {
    /// Shared with the thread that reads it: the channel, and what the guest said.
    shared: Arc<Mutex<(Option<GuestChannel>, String)>>,
    out: tempfile::TempDir,
}

impl Channel {
    /// A channel, and what fills it.
    pub(crate) fn new() -> (Self, Sink) {
        let out = tempfile::tempdir().unwrap();
        let channel = GuestChannel::new(Some(out.path()), Limits::default());
        let shared = Arc::new(Mutex::new((Some(channel), String::new())));
        let writer = Arc::clone(&shared);
        let sink = move |bytes: &[u8]| {
            let (channel, said) = &mut *writer.lock().unwrap();
            let channel = channel.as_mut().unwrap();
            channel.push(bytes, &mut |word| *said += &format!("{word:?}\n"));
            channel.status().is_some()
        };
        (Self { shared, out }, Box::new(sink))
    }

    /// Runs a guest that has this channel to its end.
    pub(crate) fn run<M: ConfidentialMachine>(self, mut guest: LinuxGuest<M>) -> Outcome {
        let start = Instant::now();
        let end = guest.run(start + TIME).unwrap();
        let (channel, said) = std::mem::take(&mut *self.shared.lock().unwrap());
        let report = channel.unwrap().finish();
        let (console, stops) = (guest.console(), guest.stops().clone());
        Outcome { end, report, console, stops, said, time: start.elapsed(), out: self.out }
    }
}
