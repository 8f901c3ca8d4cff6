//! What a processor does by itself and a debugger has to do by hand: delivering an exception, and halting inside an
//! instruction.

use super::{
    protocol::{Client, ProtocolError},
    registers::RegisterFile,
};
use crate::engine::{Exception, Registers};

/// Interrupt enable.
const IF: u64 = 1 << 9;
/// TF, IF, NT, RF, VM, of which delivery clears all but IF in any case.
const TF_NT_RF_VM: u64 = 1 << 8 | 1 << 14 | 1 << 16 | 1 << 17;
/// Where a message-signalled interrupt for the processor with APIC ID 0 is written to (Intel SDM volume 3, section
/// "Message Signalled Interrupts").
const MSI_ADDRESS: u64 = 0xfee0_0000;

/// Code of the guest's kernel with which it halts and returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HaltStub {
    /// `sti; hlt`, and a way back to the caller.
    pub sti_hlt: u64,
    /// `cli`, and a way back to the caller.
    pub cli: u64,
}

impl HaltStub {
    /// Sends the guest into the halt: it returns to RIP when it has taken an interrupt, with interrupts off if they were.
    pub(super) fn enter(self, client: &mut Client, registers: &mut Registers) -> Result<(), ProtocolError> {
        let on = registers.rflags & IF != 0;
        let frame: &[u64] = if on { &[registers.rip] } else { &[self.cli, registers.rip] };
        push(client, registers, frame)?;
        registers.rip = self.sti_hlt;
        Ok(())
    }
}

/// Writes to the guest's stack; the first value is on top.
fn push(client: &mut Client, registers: &mut Registers, values: &[u64]) -> Result<(), ProtocolError> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let length = u64::try_from(bytes.len()).unwrap_or_default();
    let top = registers.rsp.wrapping_sub(length);
    client.write_memory(top, &bytes)?;
    registers.rsp = top;
    Ok(())
}

/// Where the processor's tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tables {
    idt: u64,
    idt_limit: u64,
    task_state: u64,
}

impl Tables {
    /// From what the monitor's `info registers` prints: `IDT=     BASE LIMIT`, `TR =SELECTOR BASE LIMIT FLAGS`.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str, number: usize| {
            let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            let word = rest.trim_start_matches('=').split_whitespace().nth(number)?;
            u64::from_str_radix(word, 16).ok()
        };
        Some(Self { idt: field("IDT=", 0)?, idt_limit: field("IDT=", 1)?, task_state: field("TR =", 1)? })
    }
}

/// A gate of the interrupt descriptor table: AMD64 Architecture Programmer's Manual volume 2 (24593), section 4.8.4.
struct Gate {
    handler: u64,
    stack: u8,
    clears_if: bool,
}

impl Gate {
    fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        const PRESENT: u8 = 0x80;
        let [o0, o1, _, _, stack, kind, o2, o3, o4, o5, o6, o7, ..] = bytes;
        let clears_if = match kind & 0x1f {
            0xe => true,
            0xf => false,
            _ => return None,
        };
        let handler = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        (kind & PRESENT != 0).then_some(Self { handler, stack: stack & 7, clears_if })
    }
}

/// Delivers an exception to ring 0, from ring 0, as section 8.9.3 has it. `false` if the guest has no handler that could
/// be entered: a processor would shut down.
pub(super) fn deliver(
    client: &mut Client,
    file: &mut RegisterFile,
    exception: Exception,
) -> Result<bool, ProtocolError> {
    let text = client.monitor("info registers")?;
    let Some(tables) = Tables::parse(&text) else { return Ok(false) };
    let offset = u64::from(exception.vector) * 16;
    let mut bytes = [0; 16];
    if offset + 15 > tables.idt_limit || !readable(client, tables.idt.wrapping_add(offset), &mut bytes)? {
        return Ok(false);
    }
    let Some(gate) = Gate::from_bytes(bytes) else { return Ok(false) };
    let before = file.general;
    let mut stack = before.rsp;
    if gate.stack != 0 {
        // IST1 stands at offset 0x24 of the task state segment.
        let mut pointer = [0; 8];
        let place = tables.task_state.wrapping_add(0x24 + 8 * (u64::from(gate.stack) - 1));
        if !readable(client, place, &mut pointer)? {
            return Ok(false);
        }
        stack = u64::from_le_bytes(pointer);
    }
    let mut frame: Vec<u64> = exception.error_code.map(u64::from).into_iter().collect();
    frame.extend([before.rip, file.cs.into(), before.rflags, before.rsp, file.ss.into()]);
    file.general.rsp = stack & !15;
    match push(client, &mut file.general, &frame) {
        Ok(()) => {}
        Err(ProtocolError::Refused { .. }) => return Ok(false),
        Err(error) => return Err(error),
    }
    file.general.rip = gate.handler;
    file.general.rflags &= !TF_NT_RF_VM;
    if gate.clears_if {
        file.general.rflags &= !IF;
    }
    Ok(true)
}

/// Reads the guest's memory, and says whether it is there.
fn readable(client: &mut Client, address: u64, buf: &mut [u8]) -> Result<bool, ProtocolError> {
    match client.read_memory(address, buf) {
        Ok(()) => Ok(true),
        Err(ProtocolError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends the processor an interrupt.
pub(super) fn interrupt(client: &mut Client, vector: u8) -> Result<(), ProtocolError> {
    client.write_physical(MSI_ADDRESS, &u32::from(vector).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "RAX=0000000000000000 RBX=0000000000000000\n\
        LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT\n\
        TR =0040 fffffe0000003000 00004087 00008b00 DPL=0 TSS64-busy\n\
        GDT=     fffffe0000001000 0000007f\n\
        IDT=     fffffe0000000000 00000fff\n";

    #[test]
    fn tables_are_found_in_the_monitors_text() {
        let tables =
            Tables { idt: 0xffff_fe00_0000_0000, idt_limit: 0xfff, task_state: 0xffff_fe00_0000_3000 };
        assert_eq!(Tables::parse(TEXT), Some(tables));
        assert_eq!(Tables::parse(""), None);
        assert_eq!(Tables::parse("IDT= nothing\nTR =0040"), None);
    }

    #[test]
    fn a_gate_is_present_and_of_a_kind() {
        let bytes = |kind| [0x34, 0x12, 0x10, 0, 3, kind, 0x78, 0x56, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let gate = Gate::from_bytes(bytes(0x8e)).unwrap();
        assert_eq!((gate.handler, gate.stack, gate.clears_if), (0xffff_ffff_5678_1234, 3, true));
        assert!(!Gate::from_bytes(bytes(0xef)).unwrap().clears_if);
        assert!(Gate::from_bytes(bytes(0x0e)).is_none());
        assert!(Gate::from_bytes(bytes(0x8c)).is_none());
    }
}
