use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{engine::riscv::RAM_BASE, memory::GuestRam};

const RAM: u64 = 0x1_0000;
const NOP: u32 = 0x0000_0013;
const ECALL: u32 = 0x0000_0073;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A hart at the beginning of these instructions.
fn hart(code: &[u8]) -> (CkbHart, PlacedRam) {
    let ram = PlacedRam::new(GuestRam::new(RAM).unwrap(), RAM_BASE).unwrap();
    ram.write(RAM_BASE, code).unwrap();
    let mut hart = CkbHart::new(ram.clone());
    hart.start(Entry { pc: RAM_BASE, hart: 3, argument: 0x8040_0000 }).unwrap();
    (hart, ram)
}

fn words(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn an_ecall_shows_its_registers_and_takes_an_answer() {
    let code = [
        0x05d0_0893, // li a7, 93
        ECALL,
        ECALL,
    ];
    let (mut hart, _) = hart(&words(&code));
    let expected = Exit::Ecall { arguments: [3, 0x8040_0000, 0, 0, 0, 0, 0, 93] };
    assert_eq!(hart.run(soon()), Ok(expected));
    assert_eq!(hart.run(soon()), Err(EngineError::Unanswered("ecall")));
    hart.complete_ecall(-2, 5).unwrap();
    assert!(hart.complete_ecall(-2, 5).is_err(), "an answer is given once");
    let expected = Exit::Ecall { arguments: [u64::MAX - 1, 5, 0, 0, 0, 0, 0, 93] };
    assert_eq!(hart.run(soon()), Ok(expected));
}

#[rstest]
#[case::load_outside(&[0x0000_3503], 5, 0, 0)] // ld a0, 0(zero)
#[case::store_outside(&[0x0000_3023], 7, 0, 0)] // sd zero, 0(zero)
// lui a0, 0x80010; slli a0, a0, 32; srli a0, a0, 32; sd zero, 0(a0)
#[case::store_behind_ram(&[0x8001_0537, 0x0205_1513, 0x0205_5513, 0x0005_3023], 7, 12, RAM_BASE + RAM)]
#[case::amo_outside(&[0x0000_252f], 5, 0, 0)] // amoadd.w a0, zero, (zero)
#[case::lr_outside(&[0x1000_252f], 5, 0, 0)] // lr.w a0, (zero)
#[case::jump_outside(&[0x0000_0067], 1, 0, 0)] // jr zero: traps at its target
#[case::breakpoint(&[NOP, 0x0010_0073], 3, 4, RAM_BASE + 4)] // ebreak
#[case::breakpoint_of_two_bytes(&[0x9002_9002], 3, 0, RAM_BASE)] // c.ebreak
#[case::zeros(&[0], 2, 0, 0)]
#[case::ones(&[u32::MAX], 2, 0, 0xffff_ffff)]
#[case::csr(&[0x1400_2573], 2, 0, 0x1400_2573)] // csrr a0, sscratch
#[case::wfi(&[0x1050_0073], 2, 0, 0x1050_0073)]
#[case::sret(&[0x1020_0073], 2, 0, 0x1020_0073)]
#[case::float(&[0x0000_0053], 2, 0, 0x0000_0053)] // fadd.s
fn traps(#[case] code: &[u32], #[case] cause: u64, #[case] offset: u64, #[case] value: u64) {
    let (mut hart, _) = hart(&words(code));
    let pc = if cause == cause::INSTRUCTION_ACCESS_FAULT { 0 } else { RAM_BASE + offset };
    let trap = Exit::Trap(Trap { cause, pc, value });
    assert_eq!(hart.run(soon()), Ok(trap.clone()));
    assert_eq!(hart.run(soon()), Ok(trap), "it stays where it is");
}

#[test]
fn instructions_end_with_ram() {
    let nops = words(&[NOP; 0x1_0000 / 4]);
    let (mut hart, _) = hart(&nops);
    let end = RAM_BASE + RAM;
    let trap = Trap { cause: cause::INSTRUCTION_ACCESS_FAULT, pc: end, value: end };
    assert_eq!(hart.run(soon()), Ok(Exit::Trap(trap)));
}

#[test]
fn a_reservation_is_needed_once() {
    let code = [
        0x0000_0517, // auipc a0, 0
        0x1005_35af, // lr.d a1, (a0)
        0x1805_362f, // sc.d a2, zero, (a0)
        0x1805_36af, // sc.d a3, zero, (a0)
        ECALL,
    ];
    let (mut hart, ram) = hart(&words(&code));
    let Ok(Exit::Ecall { arguments: [_, first, failed, failed_again, ..] }) = hart.run(soon()) else {
        panic!()
    };
    assert_eq!((first, failed, failed_again), (0x1005_35af_0000_0517, 0, 1));
    let mut bytes = [0xff; 8];
    ram.read(RAM_BASE, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 8]);
}

/// Code that changes itself is seen behind `fence.i`.
#[test]
fn fence_i_drops_what_was_decoded() {
    let code = [
        0x0000_0517, // auipc a0, 0
        0x0080_006f, // j 1f
        NOP,
        NOP,         // 1: becomes ecall
        0x0730_0593, // li a1, 0x73
        0x00b5_2623, // sw a1, 12(a0)
        0x0000_100f, // fence.i
        0xff1f_f06f, // j 1b
    ];
    let (mut hart, _) = hart(&words(&code));
    assert!(matches!(hart.run(soon()), Ok(Exit::Ecall { arguments: [_, 0x73, ..] })));
}

#[test]
fn a_deadline_stops_a_loop_that_can_go_on() {
    let (mut hart, ram) = hart(&words(&[0x0000_006f])); // j .
    assert_eq!(hart.run(Instant::now() + Duration::from_millis(5)), Ok(Exit::Deadline));
    ram.write(RAM_BASE, &ECALL.to_le_bytes()).unwrap();
    hart.start(Entry { pc: RAM_BASE, hart: 0, argument: 0 }).unwrap();
    assert_eq!(hart.run(Instant::now()), Ok(Exit::Deadline), "nothing was run");
    assert!(matches!(hart.run(soon()), Ok(Exit::Ecall { .. })));
}

#[test]
fn no_guest_begins_between_instructions() {
    let (mut hart, _) = hart(&[]);
    assert!(hart.start(Entry { pc: RAM_BASE + 1, hart: 0, argument: 0 }).is_err());
}

proptest! {
    /// Any instructions: an exit, no panic.
    #[test]
    fn any_code_ends_in_an_exit(code in prop::collection::vec(any::<u32>(), 1..64), compressed: bool) {
        let mut bytes = words(&code);
        if !compressed {
            // Instructions of four bytes.
            bytes.chunks_mut(4).for_each(|word| word[0] |= 3);
        }
        let (mut hart, _) = hart(&bytes);
        for _ in 0..8 {
            match hart.run(Instant::now() + Duration::from_millis(2)).unwrap() {
                Exit::Ecall { .. } => hart.complete_ecall(-1, 0).unwrap(),
                _ => break,
            }
        }
    }
}
