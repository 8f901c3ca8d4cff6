//! RV64IMAC in this process, instruction by instruction: the interpreter of the crate `ckb-vm`.
//!
//! There is no privilege and no translation: no CSRs, no page tables, no traps inside the guest, no timer, no interrupts. An
//! instruction that needs any of them is an illegal one, and each exception ends in [`Exit::Trap`]. A program in supervisor
//! mode that does without them runs here as on a machine. Accesses may be misaligned, those of AMOs too. Instructions are
//! kept decoded until `fence.i`, as the architecture allows.
//!
//! Every `ecall` is an exit: the crate's own machine, for which `a7` = 93 ends the program, is not used.

mod ram;

use std::time::Instant;

use ckb_vm::{
    CoreMachine, Error, ISA_A, ISA_IMC, Machine, RISCV_GENERAL_REGISTER_NUMBER,
    decoder::{Decoder, build_decoder},
    instructions::{execute, extract_opcode, insts::OP_FENCEI},
    machine::VERSION2,
    registers::{A0, A1, A7},
};

use self::ram::Ram;
use super::{Entry, Exit, Hart, Trap, cause};
use crate::{
    engine::{EngineError, EngineInfo, Speed},
    memory::PlacedRam,
};

/// RV64IMAC.
const ISA: u8 = ISA_IMC | ISA_A;
/// Instructions between two looks at the clock.
const BATCH: u32 = 4096;

/// A hart.
pub struct CkbHart {
    info: EngineInfo,
    core: Core,
    decoder: Decoder,
    /// An `ecall` waits for its answer.
    pending: bool,
}

/// What the interpreter works on.
struct Core {
    registers: [u64; RISCV_GENERAL_REGISTER_NUMBER],
    pc: u64,
    next_pc: u64,
    ram: Ram,
    /// What the last instruction asks of the environment.
    call: Option<Call>,
}

#[derive(Clone, Copy)]
enum Call {
    Ecall,
    Ebreak,
}

impl CoreMachine for Core {
    type REG = u64;
    type MEM = Ram;

    fn pc(&self) -> &u64 {
        &self.pc
    }

    fn update_pc(&mut self, pc: u64) {
        self.next_pc = pc;
    }

    fn commit_pc(&mut self) {
        self.pc = self.next_pc;
    }

    fn memory(&self) -> &Ram {
        &self.ram
    }

    fn memory_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }

    fn registers(&self) -> &[u64] {
        &self.registers
    }

    fn set_register(&mut self, index: usize, value: u64) {
        if let Some(register) = self.registers.get_mut(index) {
            *register = value;
        }
    }

    fn version(&self) -> u32 {
        VERSION2
    }

    fn isa(&self) -> u8 {
        ISA
    }
}

impl Machine for Core {
    fn ecall(&mut self) -> Result<(), Error> {
        self.call = Some(Call::Ecall);
        Ok(())
    }

    fn ebreak(&mut self) -> Result<(), Error> {
        self.call = Some(Call::Ebreak);
        Ok(())
    }
}

impl CkbHart {
    /// A hart on this RAM. It has to be started.
    #[must_use]
    pub fn new(ram: PlacedRam) -> Self {
        Self {
            info: EngineInfo { name: "ckb-vm", speed: Speed::SlowEmulated, physical_bits: 56 },
            core: Core {
                registers: [0; RISCV_GENERAL_REGISTER_NUMBER],
                pc: 0,
                next_pc: 0,
                ram: Ram::of(ram),
                call: None,
            },
            decoder: build_decoder::<u64>(ISA, VERSION2),
            pending: false,
        }
    }

    /// One instruction. After a trap `pc` is at the instruction, as if it had not begun.
    fn step(&mut self) -> Option<Exit> {
        let pc = self.core.pc;
        let result = self.execute(pc);
        let trap = match (result, self.core.call.take()) {
            (Ok(()), None) => return None,
            (Ok(()), Some(Call::Ecall)) => {
                self.pending = true;
                let mut arguments = [0; 8];
                arguments.copy_from_slice(&self.core.registers[A0..=A7]);
                return Some(Exit::Ecall { arguments });
            }
            (Ok(()), Some(Call::Ebreak)) => Trap { cause: cause::BREAKPOINT, pc, value: pc },
            (Err(error), _) => self.trap(&error, pc),
        };
        self.core.pc = pc;
        Some(Exit::Trap(trap))
    }

    fn execute(&mut self, pc: u64) -> Result<(), Error> {
        let instruction = self.decoder.decode(&mut self.core.ram, pc)?;
        if extract_opcode(instruction) == OP_FENCEI {
            self.decoder.reset_instructions_cache();
        }
        execute(instruction, &mut self.core)
    }

    fn trap(&mut self, error: &Error, pc: u64) -> Trap {
        match (self.core.ram.take_fault(), error) {
            (Some(fault), _) => Trap { cause: fault.cause, pc, value: fault.address },
            // The decoder itself refuses addresses behind RAM.
            (None, Error::MemOutOfBound) => Trap { cause: cause::INSTRUCTION_ACCESS_FAULT, pc, value: pc },
            (None, Error::InvalidInstruction { instruction, .. }) => {
                Trap { cause: cause::ILLEGAL_INSTRUCTION, pc, value: u64::from(*instruction) }
            }
            (None, _) => Trap { cause: cause::ILLEGAL_INSTRUCTION, pc, value: 0 },
        }
    }
}

impl Hart for CkbHart {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn start(&mut self, entry: Entry) -> Result<(), EngineError> {
        if !entry.pc.is_multiple_of(2) {
            return Err(EngineError::Configuration(format!("no instruction begins at {:#x}", entry.pc)));
        }
        self.core.registers = [0; RISCV_GENERAL_REGISTER_NUMBER];
        self.core.registers[A0] = entry.hart;
        self.core.registers[A1] = entry.argument;
        self.core.pc = entry.pc;
        self.core.ram.forget_reservation();
        self.decoder.reset_instructions_cache();
        self.pending = false;
        Ok(())
    }

    fn run(&mut self, deadline: Instant) -> Result<Exit, EngineError> {
        if self.pending {
            return Err(EngineError::Unanswered("ecall"));
        }
        while Instant::now() < deadline {
            for _ in 0..BATCH {
                if let Some(exit) = self.step() {
                    return Ok(exit);
                }
            }
        }
        Ok(Exit::Deadline)
    }

    fn complete_ecall(&mut self, error: i64, value: u64) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.pending) {
            return Err(EngineError::WrongAnswer("sbiret"));
        }
        self.core.registers[A0] = error.cast_unsigned();
        self.core.registers[A1] = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
