//! An engine without a CPU: exits come from a script, and what was answered is kept. For tests of dispatch.

use std::collections::VecDeque;
use std::time::Instant;

use super::{
    Engine, EngineError, EngineInfo, Exception, Exit, GeneralProtection, InitialState, Pending, Registers,
    Speed, SystemRegisters,
};

/// One step of a script: what the guest is supposed to have done when `run` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The exit.
    pub exit: Exit,
    /// The general registers at this exit; `None` leaves them as they were.
    pub registers: Option<Registers>,
    /// The system registers at this exit; `None` leaves them as they were.
    pub system_registers: Option<SystemRegisters>,
}

impl From<Exit> for Step {
    fn from(exit: Exit) -> Self {
        Self { exit, registers: None, system_registers: None }
    }
}

impl Step {
    /// The step with these general registers.
    pub fn with_registers(mut self, registers: Registers) -> Self {
        self.registers = Some(registers);
        self
    }

    /// The step with these system registers.
    pub fn with_system_registers(mut self, registers: SystemRegisters) -> Self {
        self.system_registers = Some(registers);
        self
    }
}

/// What the caller did to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// [`Engine::set_initial_state`].
    InitialState(Box<InitialState>),
    /// [`Engine::set_registers`].
    Registers(Box<Registers>),
    /// [`Engine::complete_io_in`].
    IoIn(Vec<u8>),
    /// [`Engine::complete_mmio_read`].
    MmioRead(Vec<u8>),
    /// [`Engine::complete_msr_read`].
    MsrRead(Result<u64, GeneralProtection>),
    /// [`Engine::complete_msr_write`].
    MsrWrite(Result<(), GeneralProtection>),
    /// [`Engine::inject_exception`].
    Exception(Exception),
    /// [`Engine::inject_fault`], and the length of the instruction.
    Fault(Exception, u8),
    /// [`Engine::inject_interrupt`].
    Interrupt(u8),
}

/// The engine. A `run` past the end of the script is [`EngineError::ScriptEnded`].
#[derive(Debug)]
pub struct ScriptedEngine {
    info: EngineInfo,
    steps: VecDeque<Step>,
    pending: Pending,
    registers: Registers,
    system_registers: SystemRegisters,
    answers: Vec<Answer>,
    /// Of the guest it is supposed that it takes interrupts while it runs.
    interrupt: bool,
}

impl ScriptedEngine {
    /// An engine that goes through `steps`.
    pub fn new(steps: impl IntoIterator<Item = impl Into<Step>>) -> Self {
        Self {
            info: EngineInfo { name: "scripted", speed: Speed::Native, physical_bits: 48 },
            steps: steps.into_iter().map(Into::into).collect(),
            pending: Pending::None,
            registers: Registers::default(),
            system_registers: SystemRegisters::default(),
            answers: Vec::new(),
            interrupt: false,
        }
    }

    /// All that the caller did so far, in order.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// How many steps are left.
    pub fn remaining(&self) -> usize {
        self.steps.len()
    }
}

impl Engine for ScriptedEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn set_initial_state(&mut self, state: &InitialState) -> Result<(), EngineError> {
        self.registers = state.registers;
        self.system_registers = SystemRegisters {
            cr0: state.cr0,
            cr3: state.cr3,
            cr4: state.cr4,
            efer: state.efer,
            cpl: state.privilege.level(),
        };
        self.answers.push(Answer::InitialState(Box::new(*state)));
        Ok(())
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        self.pending.check_answered()?;
        if Instant::now() >= deadline {
            return Ok(Exit::Deadline);
        }
        self.interrupt = false;
        let step = self.steps.pop_front().ok_or(EngineError::ScriptEnded)?;
        self.registers = step.registers.unwrap_or(self.registers);
        self.system_registers = step.system_registers.unwrap_or(self.system_registers);
        self.pending = Pending::of(&step.exit);
        Ok(step.exit)
    }

    fn registers(&self) -> Result<Registers, EngineError> {
        Ok(self.registers)
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), EngineError> {
        self.registers = *registers;
        self.answers.push(Answer::Registers(Box::new(*registers)));
        Ok(())
    }

    fn system_registers(&self) -> Result<SystemRegisters, EngineError> {
        Ok(self.system_registers)
    }

    fn complete_io_in(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::IoIn(data.len()))?;
        self.answers.push(Answer::IoIn(data.to_vec()));
        Ok(())
    }

    fn complete_mmio_read(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.pending.answer(Pending::MmioRead(data.len()))?;
        self.answers.push(Answer::MmioRead(data.to_vec()));
        Ok(())
    }

    fn complete_msr_read(&mut self, outcome: Result<u64, GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrRead)?;
        self.answers.push(Answer::MsrRead(outcome));
        Ok(())
    }

    fn complete_msr_write(&mut self, outcome: Result<(), GeneralProtection>) -> Result<(), EngineError> {
        self.pending.answer(Pending::MsrWrite)?;
        self.answers.push(Answer::MsrWrite(outcome));
        Ok(())
    }

    fn inject_exception(&mut self, exception: Exception) -> Result<(), EngineError> {
        self.answers.push(Answer::Exception(exception));
        Ok(())
    }

    fn inject_fault(&mut self, exception: Exception, length: u8) -> Result<(), EngineError> {
        self.pending = Pending::None;
        self.answers.push(Answer::Fault(exception, length));
        Ok(())
    }

    fn inject_interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        self.answers.push(Answer::Interrupt(vector));
        self.interrupt = true;
        Ok(())
    }

    fn interrupt_waits(&self) -> bool {
        self.interrupt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_script_is_played_and_its_answers_are_kept() {
        let registers = Registers { rax: 7, ..Registers::default() };
        let mut engine = ScriptedEngine::new([
            Step::from(Exit::IoIn { port: 0x3fd, size: 1, count: 1 }).with_registers(registers),
            Step::from(Exit::MsrRead { index: 0xc001_0131 }),
            Step::from(Exit::Hlt),
        ]);
        assert_eq!(engine.run(soon()), Ok(Exit::IoIn { port: 0x3fd, size: 1, count: 1 }));
        assert_eq!(engine.registers(), Ok(registers));
        assert_eq!(engine.run(soon()), Err(EngineError::Unanswered("IN")));
        assert!(engine.complete_io_in(&[1, 2]).is_err(), "two bytes for one");
        engine.complete_io_in(&[0x60]).unwrap();
        engine.run(soon()).unwrap();
        engine.complete_msr_read(Err(GeneralProtection)).unwrap();
        assert_eq!(engine.run(soon()), Ok(Exit::Hlt));
        assert_eq!(engine.remaining(), 0);
        assert_eq!(engine.run(soon()), Err(EngineError::ScriptEnded));
        assert_eq!(engine.answers(), [Answer::IoIn(vec![0x60]), Answer::MsrRead(Err(GeneralProtection))]);
    }

    #[test]
    fn a_deadline_in_the_past_runs_nothing() {
        let mut engine = ScriptedEngine::new([Exit::Hlt]);
        assert_eq!(engine.run(Instant::now()), Ok(Exit::Deadline));
        assert_eq!(engine.remaining(), 1);
    }
}
