//! A hart without a processor: exits come from a script, and what was answered is kept. For tests of dispatch.

use std::{collections::VecDeque, time::Instant};

use super::{Entry, Exit, Hart};
use crate::engine::{EngineError, EngineInfo, Speed};

/// The hart. A `run` past the end of the script is [`EngineError::ScriptEnded`].
#[derive(Debug)]
pub struct ScriptedHart {
    info: EngineInfo,
    exits: VecDeque<Exit>,
    pending: bool,
    entry: Option<Entry>,
    answers: Vec<(i64, u64)>,
}

impl ScriptedHart {
    /// A hart that goes through `exits`.
    pub fn new(exits: impl IntoIterator<Item = Exit>) -> Self {
        Self {
            info: EngineInfo { name: "scripted", speed: Speed::Native, physical_bits: 56 },
            exits: exits.into_iter().collect(),
            pending: false,
            entry: None,
            answers: Vec::new(),
        }
    }

    /// Where it was started.
    pub const fn entry(&self) -> Option<Entry> {
        self.entry
    }

    /// All answers so far, in order: error and value.
    pub fn answers(&self) -> &[(i64, u64)] {
        &self.answers
    }
}

impl Hart for ScriptedHart {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn start(&mut self, entry: Entry) -> Result<(), EngineError> {
        self.entry = Some(entry);
        Ok(())
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        if self.pending {
            return Err(EngineError::Unanswered("ecall"));
        }
        if Instant::now() >= deadline {
            return Ok(Exit::Deadline);
        }
        let exit = self.exits.pop_front().ok_or(EngineError::ScriptEnded)?;
        self.pending = matches!(exit, Exit::Ecall { .. });
        Ok(exit)
    }

    fn complete_ecall(&mut self, error: i64, value: u64) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.pending) {
            return Err(EngineError::WrongAnswer("sbiret"));
        }
        self.answers.push((error, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_script_is_played_and_its_answers_are_kept() {
        let soon = Instant::now() + Duration::from_secs(60);
        let entry = Entry { pc: 2, hart: 0, argument: 7 };
        let mut hart = ScriptedHart::new([Exit::Ecall { arguments: [1; 8] }, Exit::PoweredOff]);
        hart.start(entry).unwrap();
        assert!(hart.complete_ecall(0, 0).is_err(), "nothing was asked");
        assert_eq!(hart.run(Instant::now()), Ok(Exit::Deadline));
        assert_eq!(hart.run(soon), Ok(Exit::Ecall { arguments: [1; 8] }));
        assert_eq!(hart.run(soon), Err(EngineError::Unanswered("ecall")));
        hart.complete_ecall(-2, 3).unwrap();
        assert!(hart.complete_ecall(-2, 3).is_err(), "an answer is given once");
        assert_eq!(hart.run(soon), Ok(Exit::PoweredOff));
        assert_eq!(hart.run(soon), Err(EngineError::ScriptEnded));
        assert_eq!((hart.entry(), hart.answers()), (Some(entry), &[(-2, 3)][..]));
    }
}
