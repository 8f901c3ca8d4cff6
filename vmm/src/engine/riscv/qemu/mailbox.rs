//! The mailbox: a few words of firmware memory through which the firmware asks this program, and is answered.
//!
//! The hart writes what it has to say, then [`State::Asked`]; this program writes its answer, then [`State::Answered`]; the
//! hart takes that, writes [`State::Idle`] and goes on. Physical memory protection keeps the guest out, so what is in the mailbox is
//! the firmware's: registers of the guest, of any value.

use crate::{
    engine::{EngineError, riscv::Trap},
    memory::GuestRam,
};

/// Whose turn it is, 4 bytes.
pub(super) const STATE: i32 = 0x00;
/// `mcause`.
pub(super) const CAUSE: i32 = 0x08;
/// `mepc`.
pub(super) const PC: i32 = 0x10;
/// `mtval`.
pub(super) const VALUE: i32 = 0x18;
/// The answer for `a0`.
pub(super) const ANSWER_ERROR: i32 = 0x20;
/// The answer for `a1`.
pub(super) const ANSWER_VALUE: i32 = 0x28;
/// `a0` to `a7`.
pub(super) const ARGUMENTS: i32 = 0x40;
/// Bytes of it all.
pub(super) const SIZE: usize = 0x80;

/// `mcause` of an `ecall` from supervisor mode (RISC-V privileged architecture, table "Machine cause register values").
pub(super) const ECALL_FROM_S: u64 = 9;

/// Whose turn it is; zero while the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// The hart waits for an answer.
    Asked = 1,
    /// The hart is about to go on.
    Answered = 2,
}

/// What the hart says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Why it came into machine mode.
    pub(super) trap: Trap,
    /// `a0` to `a7`.
    pub(super) arguments: [u64; 8],
}

/// This program's end.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    memory: GuestRam,
    offset: u64,
}

impl Mailbox {
    /// The mailbox at this offset of firmware memory.
    pub(super) fn new(memory: GuestRam, offset: u64) -> Self {
        Self { memory, offset }
    }

    /// Whether the hart waits for an answer.
    pub(super) fn is_asked(&self) -> Result<bool, EngineError> {
        Ok(self.memory.load_acquire(self.at(STATE)).map_err(outside)? == State::Asked as u32)
    }

    /// What the hart said.
    pub(super) fn message(&self) -> Result<Message, EngineError> {
        let mut arguments = [0; 8];
        for (argument, place) in arguments.iter_mut().zip((ARGUMENTS..).step_by(8)) {
            *argument = self.word(place)?;
        }
        let trap = Trap { cause: self.word(CAUSE)?, pc: self.word(PC)?, value: self.word(VALUE)? };
        Ok(Message { trap, arguments })
    }

    /// Has the hart go on behind the `ecall`.
    pub(super) fn answer(&self, error: i64, value: u64) -> Result<(), EngineError> {
        let write = |place, word: u64| self.memory.write(self.at(place), &word.to_le_bytes());
        write(ANSWER_ERROR, error.cast_unsigned()).map_err(outside)?;
        write(ANSWER_VALUE, value).map_err(outside)?;
        self.memory.store_release(self.at(STATE), State::Answered as u32).map_err(outside)
    }

    fn word(&self, place: i32) -> Result<u64, EngineError> {
        let mut word = [0; 8];
        self.memory.read(self.at(place), &mut word).map_err(outside)?;
        Ok(u64::from_le_bytes(word))
    }

    fn at(&self, place: i32) -> u64 {
        self.offset.saturating_add(u64::from(place.unsigned_abs()))
    }
}

fn outside(error: tsmsim_simulator::env::OutOfRange) -> EngineError {
    EngineError::Configuration(format!("the mailbox lies outside firmware memory: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_answered() {
        let memory = GuestRam::new(4096).unwrap();
        let mailbox = Mailbox::new(memory.clone(), 0x100);
        assert!(!mailbox.is_asked().unwrap());
        for (place, word) in [(CAUSE, 9), (PC, 0x8000_0000), (VALUE, 1), (ARGUMENTS, 7), (ARGUMENTS + 56, 8)]
        {
            memory.write(0x100 + u64::from(place.unsigned_abs()), &u64::to_le_bytes(word)).unwrap();
        }
        memory.store_release(0x100, State::Asked as u32).unwrap();
        assert!(mailbox.is_asked().unwrap());
        let trap = Trap { cause: 9, pc: 0x8000_0000, value: 1 };
        assert_eq!(mailbox.message().unwrap(), Message { trap, arguments: [7, 0, 0, 0, 0, 0, 0, 8] });
        mailbox.answer(-2, 5).unwrap();
        assert!(!mailbox.is_asked().unwrap());
        let mut answer = [0; 16];
        memory.read(0x120, &mut answer).unwrap();
        assert_eq!(u128::from_le_bytes(answer), u128::from(u64::MAX - 1) | 5 << 64);
    }

    #[test]
    fn a_mailbox_nowhere_is_an_error() {
        let mailbox = Mailbox::new(GuestRam::new(4096).unwrap(), u64::MAX);
        assert!(mailbox.is_asked().is_err() && mailbox.message().is_err() && mailbox.answer(0, 0).is_err());
    }
}
