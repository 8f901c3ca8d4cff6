//! QEMU's monitor, as far as it is needed: the guest is stopped and goes on (QEMU Machine Protocol, `docs/interop/qmp-spec`).

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::engine::{EngineError, qemu::child::cannot};

/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// No line that QEMU sends is longer.
const MAX_LINE: u64 = 64 << 10;
/// Events that may come before an answer; there are a few for each stop.
const MAX_EVENTS: usize = 1000;

/// A connection to the monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: BufReader<UnixStream>,
    shut_down: bool,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// QEMU has ended, or is about to.
    Gone,
}

impl Monitor {
    /// Waits until QEMU has made its machine.
    pub(super) fn new(stream: UnixStream) -> Result<Self, EngineError> {
        let timed = stream.set_read_timeout(Some(ANSWER_TIME));
        timed
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME)))
            .map_err(|error| cannot("use QEMU's monitor", &error))?;
        let mut monitor = Self { stream: BufReader::new(stream), shut_down: false };
        match monitor.command("qmp_capabilities")? {
            Outcome::Done => Ok(monitor),
            Outcome::Gone => Err(EngineError::Qemu("it ended while it started".to_owned())),
        }
    }

    /// Whether QEMU was heard to say that the guest switched itself off, or restarted. It then ends.
    pub(super) const fn shut_down(&self) -> bool {
        self.shut_down
    }

    /// A command without arguments, and its answer. None is waited for behind the event `SHUTDOWN`: a QEMU that gets a
    /// command while it ends may neither answer nor end (seen of 7.2).
    pub(super) fn command(&mut self, name: &str) -> Result<Outcome, EngineError> {
        if self.shut_down {
            return Ok(Outcome::Gone);
        }
        let line = format!("{{\"execute\":\"{name}\"}}\n");
        match self.stream.get_mut().write_all(line.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Outcome::Gone),
            outcome => outcome.map_err(|error| cannot("use QEMU's monitor", &error))?,
        }
        for _ in 0..MAX_EVENTS {
            let line = match self.line() {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Outcome::Gone),
                line => line.map_err(|error| cannot("use QEMU's monitor", &error))?,
            };
            if line.is_empty() {
                return Ok(Outcome::Gone);
            }
            // A line is one object, whose first name tells what it is: "return", "error", "event", or the greeting "QMP".
            let line = String::from_utf8_lossy(&line);
            let strings: Vec<&str> = line.split('"').collect();
            match strings.get(1) {
                Some(&"return") => return Ok(Outcome::Done),
                Some(&"error") => return Err(EngineError::Qemu(format!("{name}: {}", line.trim()))),
                _ => {}
            }
            // The event's name comes behind its time.
            if strings.windows(3).any(|near| near[0] == "event" && near[2] == "SHUTDOWN") {
                self.shut_down = true;
                return Ok(Outcome::Gone);
            }
        }
        Err(EngineError::Qemu(format!("no answer to {name}")))
    }

    fn line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::answer("{\"event\": \"STOP\"}\n{\"return\": {}}\n", Some(Outcome::Done))]
    #[case::end("{\"event\": \"STOP\"}\n", Some(Outcome::Gone))]
    #[case::refused("{\"error\": {\"class\": \"CommandNotFound\"}}\n", None)]
    #[case::nonsense("\n\"\n{}\n", Some(Outcome::Gone))]
    fn answers(#[case] text: &str, #[case] outcome: Option<Outcome>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").unwrap();
        theirs.write_all(text.as_bytes()).unwrap();
        let mut monitor = Monitor::new(ours).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(monitor.command("stop").ok(), outcome);
        drop(monitor);
        let mut sent = String::new();
        // Closed with something unread, it may be reset.
        let _ = theirs.read_to_string(&mut sent);
        assert_eq!(sent, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"stop\"}\n");
    }

    /// The connection stays open here, as that of a QEMU that hangs.
    #[rstest]
    #[case::restart(
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n",
        true
    )]
    #[case::another_event(
        "{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\n{\"return\": {}}\n",
        false
    )]
    #[case::another_place(
        "{\"event\": \"RESET\", \"data\": {\"reason\": \"SHUTDOWN\"}}\n{\"return\": {}}\n",
        false
    )]
    fn nothing_is_awaited_behind_a_shutdown(#[case] text: &str, #[case] shut_down: bool) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").unwrap();
        theirs.write_all(text.as_bytes()).unwrap();
        let mut monitor = Monitor::new(ours).unwrap();
        let expected = if shut_down { Outcome::Gone } else { Outcome::Done };
        assert_eq!((monitor.command("stop").unwrap(), monitor.shut_down()), (expected, shut_down));
        if shut_down {
            assert_eq!(monitor.command("cont").unwrap(), Outcome::Gone);
        }
    }
}
