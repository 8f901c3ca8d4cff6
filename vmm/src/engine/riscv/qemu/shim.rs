//! The machine-mode code that hands `ecall`s over, assembled when a guest is started.
//!
//! Two firmwares have it. A bare-metal guest has [`bare_metal`] alone: every trap goes to the [mailbox](super::mailbox). A
//! Linux guest has OpenSBI, with [`in_front_of`] each of its trap entries: what the TSM is to answer goes to the mailbox,
//! everything else goes on as if nothing were there. [`boot`] is what the hart begins with then.

#![expect(clippy::cast_sign_loss, reason = "the assembler's macro casts what immediate values are made of")]

use std::ops::Range;

use dynasmrt::{DynasmApi, DynasmError, DynasmLabelApi, VecAssembler, dynasm, riscv::RiscvRelocation};
use tsmsim_abi::cove::sbi::ExtensionId;

use super::mailbox::{
    ANSWER_ERROR, ANSWER_VALUE, ARGUMENTS, CAUSE, ECALL_FROM_S, PC, SIZE, STATE, State, VALUE,
};
use crate::engine::{EngineError, riscv::Entry};

/// `mstatus.MPP`, the mode that `mret` goes to: both bits, and supervisor mode.
const MPP: i32 = 3 << 11;
const MPP_SUPERVISOR: i32 = 1 << 11;
/// `pmpcfg0`: up to `pmpaddr0` nothing, from there to `pmpaddr1` everything (TOR, "top of range"; R, W, X).
const PMP_TOR: i32 = 1 << 3;
const PMP_RWX: i32 = 7;
const PMP_CONFIGURATION: i32 = (PMP_TOR | PMP_RWX) << 8 | PMP_TOR;

/// A mailbox does not share a cache line with code.
const CACHE_LINE: usize = 64;
/// Nor a page, where there is room: QEMU looks for translated code at each write to a page that has some.
const PAGE: usize = 4096;

type Code = VecAssembler<RiscvRelocation>;

/// Machine code and the mailbox in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shim {
    /// The bytes. The first instruction is the one to begin with.
    pub(super) bytes: Vec<u8>,
    /// Where the mailbox is, from the first byte on.
    pub(super) mailbox: u64,
}

/// The firmware of a bare-metal guest: opens `ram`, and nothing else, to supervisor mode, and begins the guest there. Every
/// trap comes to the mailbox; the guest has no handlers of its own.
pub(super) fn bare_metal(base: u64, ram: &Range<u64>, entry: Entry) -> Result<Shim, EngineError> {
    let mut code = assembler(base)?;
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        ; csrw mie, zero
        ; csrw medeleg, zero
        ; csrw mideleg, zero
        ; csrw satp, zero
        ; ld t0, >pmp_low
        ; csrw pmpaddr0, t0
        ; ld t0, >pmp_high
        ; csrw pmpaddr1, t0
        ; li.32 t0, PMP_CONFIGURATION
        ; csrw pmpcfg0, t0
        ; la t0, >trap
        ; csrw mtvec, t0
        ; la t0, >mailbox
        ; csrw mscratch, t0
        ; li.32 t0, MPP
        ; csrc mstatus, t0
        ; li.32 t0, MPP_SUPERVISOR
        ; csrs mstatus, t0
        ; ld t0, >pc
        ; csrw mepc, t0
        ; ld a0, >hart
        ; ld a1, >argument
        ; addi t0, zero, 0
    );
    mret(&mut code);
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        ; .align 8
        ; trap:
        ; csrrw t0, mscratch, t0
    );
    ask(&mut code);
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        ; csrrw t0, mscratch, t0
    );
    mret(&mut code);
    dynasm!(code
        ; .arch riscv64i
        ; .align 8
        ; pmp_low:
        ; .u64 ram.start >> 2
        ; pmp_high:
        ; .u64 ram.end >> 2
        ; pc:
        ; .u64 entry.pc
        ; hart:
        ; .u64 entry.hart
        ; argument:
        ; .u64 entry.argument
    );
    finish(code, PAGE)
}

/// What stands in front of an OpenSBI's trap entry: `entry` is that entry's address, and `temporary` the offset of the word in
/// OpenSBI's scratch space that the entry itself saves `t0` in first (OpenSBI, `firmware/fw_base.S`,
/// `TRAP_SAVE_AND_SETUP_SP_T0`).
pub(super) fn in_front_of(base: u64, entry: u64, temporary: i32) -> Result<Shim, EngineError> {
    let mut code = assembler(base)?;
    let covg = extension(ExtensionId::COVG)?;
    let base_extension = extension(ExtensionId::BASE)?;
    let probe = i32::from(tsmsim_abi::cove::sbi::BaseFid::PROBE_EXTENSION.0);
    let cause = i32::try_from(ECALL_FROM_S).unwrap_or(0);
    let behind = address(entry.saturating_add(4))?;
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        // As the entry does: tp is the scratch space, and t0 is free.
        ; csrrw tp, mscratch, tp
        ; sd t0, [tp, temporary]
        ; csrr t0, mcause
        ; addi t0, t0, -cause
        ; bnez t0, >chain
        ; li.32 t0, covg
        ; beq a7, t0, >ours
        // Or a question whether COVG is there.
        ; bne a0, t0, >chain
        ; addi t0, zero, base_extension
        ; bne a7, t0, >chain
        ; addi t0, zero, probe
        ; bne a6, t0, >chain
        ; ours:
        ; la t0, >mailbox
    );
    ask(&mut code);
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        ; ld t0, [tp, temporary]
        ; csrrw tp, mscratch, tp
    );
    mret(&mut code);
    dynasm!(code
        ; .arch riscv64i
        ; chain:
        ; ld t0, [tp, temporary]
        // Behind the entry's first instruction, which is done.
        ; j extern behind
    );
    finish(code, CACHE_LINE)
}

/// One instruction, which goes 1 MiB at most.
pub(super) fn jump(from: u64, target: u64) -> Result<Vec<u8>, EngineError> {
    let mut code = assembler(from)?;
    let target = address(target)?;
    dynasm!(code
        ; .arch riscv64i
        ; j extern target
    );
    code.finalize().map_err(|error| refused(&error))
}

/// Where the hart begins that runs OpenSBI: what it finds in its registers, as OpenSBI has it of an earlier stage
/// (`docs/firmware/fw_dynamic.md`).
pub(super) fn boot(base: u64, firmware: u64, hart: u64, fdt: u64, info: u64) -> Result<Vec<u8>, EngineError> {
    begin(base, firmware, [hart, fdt, info])
}

/// Where OpenSBI goes when it is done: on to the guest, whose argument is not OpenSBI's. OpenSBI passes on the device tree that
/// it was given, and it changes that; the guest's is measured.
pub(super) fn trampoline(base: u64, entry: Entry) -> Result<Vec<u8>, EngineError> {
    begin(base, entry.pc, [entry.hart, entry.argument, 0])
}

/// Jumps with `a0` to `a2` set; every other register that it used is zero.
fn begin(base: u64, target: u64, arguments: [u64; 3]) -> Result<Vec<u8>, EngineError> {
    let mut code = assembler(base)?;
    let [a0, a1, a2] = arguments;
    dynasm!(code
        ; .arch riscv64i
        ; ld a0, >first
        ; ld a1, >second
        ; ld a2, >third
        ; ld t0, >target
        ; jr t0
        ; .align 8
        ; first:
        ; .u64 a0
        ; second:
        ; .u64 a1
        ; third:
        ; .u64 a2
        ; target:
        ; .u64 target
    );
    code.finalize().map_err(|error| refused(&error))
}

/// Asks through the mailbox, to which `t0` points; `a0` and `a1` are the answer then, and `mepc` is behind the `ecall`. No other
/// register is changed.
fn ask(code: &mut Code) {
    let (asked, answered) = (State::Asked as i32, State::Answered as i32);
    dynasm!(code
        ; .arch riscv64i
        ; .feature zicsr
        ; sd a0, [t0, ARGUMENTS]
        ; sd a1, [t0, ARGUMENTS + 8]
        ; sd a2, [t0, ARGUMENTS + 16]
        ; sd a3, [t0, ARGUMENTS + 24]
        ; sd a4, [t0, ARGUMENTS + 32]
        ; sd a5, [t0, ARGUMENTS + 40]
        ; sd a6, [t0, ARGUMENTS + 48]
        ; sd a7, [t0, ARGUMENTS + 56]
        ; csrr a0, mcause
        ; sd a0, [t0, CAUSE]
        ; csrr a0, mtval
        ; sd a0, [t0, VALUE]
        ; csrr a0, mepc
        ; sd a0, [t0, PC]
        ; addi a0, a0, 4
        ; csrw mepc, a0
        ; addi a0, zero, asked
        ; fence rw, rw
        ; sw a0, [t0, STATE]
        ; wait:
        ; lw a0, [t0, STATE]
        ; addi a0, a0, -answered
        ; bnez a0, <wait
        ; fence rw, rw
        ; ld a0, [t0, ANSWER_ERROR]
        ; ld a1, [t0, ANSWER_VALUE]
        ; sw zero, [t0, STATE]
    );
}

/// The assembler has no name for it.
fn mret(code: &mut Code) {
    dynasm!(code
        ; .arch riscv64i
        ; .u32 0x3020_0073
    );
}

fn assembler(base: u64) -> Result<Code, EngineError> {
    Ok(VecAssembler::new(address(base)?))
}

/// Puts the mailbox behind the code, at a multiple of `alignment`.
fn finish(mut code: Code, alignment: usize) -> Result<Shim, EngineError> {
    dynasm!(code
        ; .arch riscv64i
        ; .align alignment
        ; mailbox:
    );
    let mailbox = u64::try_from(code.offset().0).unwrap_or(0);
    code.extend([0; SIZE]);
    let bytes = code.finalize().map_err(|error| refused(&error))?;
    Ok(Shim { bytes, mailbox })
}

fn address(address: u64) -> Result<usize, EngineError> {
    let wrong = || EngineError::Configuration(format!("firmware cannot be at {address:#x}"));
    usize::try_from(address).ok().filter(|address| address.is_multiple_of(2)).ok_or_else(wrong)
}

fn extension(id: ExtensionId) -> Result<i32, EngineError> {
    i32::try_from(id.0).map_err(|_| EngineError::Configuration(format!("extension {id} is no constant")))
}

fn refused(error: &DynasmError) -> EngineError {
    EngineError::Configuration(format!("the firmware's parts lie too far from each other: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const BASE: u64 = 0xa005_f000;
    const ENTRY: u64 = 0xa000_0408;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[rstest]
    #[case::forward(0x8000_0000, 0x8000_0010, 0x0100_006f)]
    #[case::back(0x8000_0010, 0x8000_0000, 0xff1f_f06f)]
    #[case::to_the_shims(0x8000_0408, 0x8005_f000, 0x3f95_e06f)]
    fn a_jump_is_one_instruction(#[case] from: u64, #[case] target: u64, #[case] instruction: u32) {
        assert_eq!(words(&jump(from, target).unwrap()), [instruction]);
    }

    #[rstest]
    #[case::too_far(0x8000_0000, 0x8010_0000)]
    #[case::odd(0x8000_0000, 0x8000_0001)]
    fn a_jump_has_limits(#[case] from: u64, #[case] target: u64) {
        assert!(matches!(jump(from, target), Err(EngineError::Configuration(_))));
    }

    #[test]
    fn a_shim_does_what_the_entry_does_and_goes_back() {
        let shim = in_front_of(BASE, ENTRY, 0x48).unwrap();
        let code = words(&shim.bytes);
        // csrrw tp, mscratch, tp; sd t0, 0x48(tp); csrr t0, mcause; addi t0, t0, -9
        assert_eq!(code[..4], [0x3402_1273, 0x0452_3423, 0x3420_22f3, 0xff72_8293]);
        // ld t0, 0x48(tp), then the jump.
        let chain = code.iter().rposition(|word| *word == 0x0482_3283).unwrap();
        let from = BASE + u64::try_from(chain + 1).unwrap() * 4;
        assert_eq!(code[chain + 1], words(&jump(from, ENTRY + 4).unwrap())[0]);
        // mret
        assert_eq!(code.iter().filter(|word| **word == 0x3020_0073).count(), 1);
    }

    #[test]
    fn the_mailbox_is_behind_the_code() {
        let ram = 0x8000_0000..0x8010_0000;
        let entry = Entry { pc: ram.start, hart: 0, argument: 7 };
        for shim in [bare_metal(ram.end, &ram, entry).unwrap(), in_front_of(BASE, ENTRY, 0x48).unwrap()] {
            assert!(shim.mailbox.is_multiple_of(64));
            let mailbox = usize::try_from(shim.mailbox).unwrap();
            assert_eq!(shim.bytes[mailbox..], [0; SIZE]);
        }
    }

    #[test]
    fn values_stand_behind_the_first_code() {
        let entry = Entry { pc: 0x8020_0000, hart: 3, argument: 0x8060_0000 };
        let code = trampoline(0xa010_1000, entry).unwrap();
        let values = [3, 0x8060_0000, 0, 0x8020_0000_u64].map(u64::to_le_bytes).concat();
        assert!(code.ends_with(&values));
        assert!(boot(0xa010_0000, 0xa000_0000, 3, 1, 2).unwrap().len() < 0x1000);
    }

    proptest! {
        #[test]
        fn any_place_is_answered(base: u64, entry: u64, temporary in -2048_i32..2048, start: u64, end: u64) {
            let _ = in_front_of(base, entry, temporary);
            let _ = jump(base, entry);
            let at = Entry { pc: entry, hart: start, argument: end };
            let _ = bare_metal(base, &(start..end), at);
            let _ = trampoline(base, at);
        }
    }
}
