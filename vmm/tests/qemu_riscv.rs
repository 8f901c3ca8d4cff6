//! QEMU's hart with guests of a few instructions.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use dynasmrt::{DynasmApi, DynasmLabelApi, VecAssembler, dynasm, riscv::RiscvRelocation};
use rstest::rstest;
use tsmsim_tests::need;
use tsmsim_vmm::{
    engine::{
        EngineError,
        riscv::{
            Entry, Exit, Hart, RAM_BASE, Trap,
            qemu::{Firmware, QEMU, QemuHart},
        },
    },
    memory::GuestRam,
};

/// Long enough for any of these guests, however busy the machine.
const TIME: Duration = Duration::from_secs(120);
const RAM: u64 = 1 << 20;
/// Behind the guest's RAM: the firmware's.
const FIRMWARE: u64 = RAM_BASE + RAM;

/// One QEMU at a time: each keeps a processor busy.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

type Code = VecAssembler<RiscvRelocation>;

fn assembled(source: impl FnOnce(&mut Code)) -> Vec<u8> {
    let mut code = Code::new(usize::try_from(RAM_BASE).unwrap());
    source(&mut code);
    code.finalize().unwrap()
}

/// A hart at the first of these instructions.
fn hart(source: impl FnOnce(&mut Code)) -> (QemuHart, GuestRam) {
    let ram = GuestRam::new_shared(RAM).unwrap();
    ram.write(0, &assembled(source)).unwrap();
    let mut hart = QemuHart::new(Firmware::BareMetal, ram.clone());
    hart.start(Entry { pc: RAM_BASE, hart: 0, argument: 0x1234 }).unwrap();
    (hart, ram)
}

fn run(hart: &mut QemuHart) -> Exit {
    hart.run(Instant::now() + TIME).unwrap()
}

/// Asks with what the hart began with, then with what it was answered.
fn asks_twice(code: &mut Code) {
    dynasm!(code
        ; .arch riscv64i
        ; li.32 a2, 0x1111_1111
        ; addi a7, zero, 7
        ; addi t0, zero, 99
        ; ecall
        ; add a2, a0, a1
        ; add a3, t0, zero
        ; ecall
        ; wait:
        ; j <wait
    );
}

#[test]
fn ecalls_are_answered() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let (mut hart, _) = hart(asks_twice);
    let first = Exit::Ecall { arguments: [0, 0x1234, 0x1111_1111, 0, 0, 0, 0, 7] };
    assert_eq!(run(&mut hart), first);
    assert!(matches!(hart.run(Instant::now() + TIME), Err(EngineError::Unanswered(_))));
    hart.complete_ecall(-3, 10).unwrap();
    let error = (-3i64).cast_unsigned();
    assert_eq!(run(&mut hart), Exit::Ecall { arguments: [error, 10, 7, 99, 0, 0, 0, 7] });
    hart.complete_ecall(0, 0).unwrap();
    assert!(hart.complete_ecall(0, 0).is_err(), "nothing waits for an answer");
    assert_eq!(hart.run(Instant::now()).unwrap(), Exit::Deadline, "a deadline in the past");
    assert_eq!(hart.run(Instant::now() + Duration::from_millis(200)).unwrap(), Exit::Deadline);
    hart.attention().store(true, Ordering::Relaxed);
    assert_eq!(run(&mut hart), Exit::Deadline, "attention ends a run");
    assert_eq!(hart.stops()["ecall"], 2);
}

#[test]
fn a_guest_runs_on_after_the_deadline() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let counts = |code: &mut Code| {
        dynasm!(code
            ; .arch riscv64i
            ; li.32 t1, 0x1000
            ; add a1, zero, zero
            ; la t2, >counter
            ; again:
            ; addi a1, a1, 1
            ; sw a1, [t2]
            ; lw t3, [t2, 8]
            ; beqz t3, <again
            ; ecall
            ; .align 8
            ; counter:
            ; .u64 0
            ; .u64 0
        );
    };
    let (mut hart, ram) = hart(counts);
    let counter = u64::try_from(assembled(counts).len() - 16).unwrap();
    let read = || {
        let mut word = [0; 4];
        ram.read(counter, &mut word).unwrap();
        u32::from_le_bytes(word)
    };
    while read() == 0 {
        assert_eq!(hart.run(Instant::now() + Duration::from_millis(20)).unwrap(), Exit::Deadline);
    }
    let stopped = read();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(read(), stopped, "between runs the guest stands still");
    ram.write(counter + 8, &1u32.to_le_bytes()).unwrap();
    let Exit::Ecall { arguments } = run(&mut hart) else { panic!("no ecall") };
    assert!(arguments[1] >= u64::from(stopped));
}

/// What no handler of the guest's takes: cause, where from its first instruction on, value.
#[rstest]
#[case::illegal_instruction(0, 2, 0)]
#[case::load_from_the_firmware(1, 5, FIRMWARE)]
#[case::store_to_the_firmware(2, 7, FIRMWARE)]
#[case::jump_to_the_firmware(3, 1, FIRMWARE)]
#[case::a_device(4, 5, 0x1000_0000)]
#[case::machine_mode(5, 2, 0x3000_2573)]
fn traps_end_the_run(#[case] which: u32, #[case] cause: u64, #[case] value: u64) {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let (mut hart, _) = hart(|code| {
        dynasm!(code; .arch riscv64i; ld t0, >address);
        match which {
            0 => dynasm!(code; .arch riscv64i; .u32 0),
            1 | 4 => dynasm!(code; .arch riscv64i; ld t1, [t0]),
            2 => dynasm!(code; .arch riscv64i; sd t1, [t0]),
            3 => dynasm!(code; .arch riscv64i; jr t0),
            // csrr a0, mstatus
            _ => dynasm!(code; .arch riscv64i; .u32 0x3000_2573),
        }
        dynasm!(code; .arch riscv64i; .align 8; address: ; .u64 value);
    });
    let Exit::Trap(trap) = run(&mut hart) else { panic!("no trap") };
    let pc = if which == 3 { FIRMWARE } else { RAM_BASE + 8 };
    assert_eq!(trap, Trap { cause, pc, value });
    assert!(hart.run(Instant::now() + TIME).is_err(), "a hart that trapped cannot run on");
}

#[test]
fn a_hart_starts_once_and_with_ram_that_can_be_shared() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let entry = Entry { pc: RAM_BASE, hart: 0, argument: 0 };
    let (mut hart, _) = hart(asks_twice);
    assert!(hart.start(entry).is_err());
    let mut hart = QemuHart::new(Firmware::BareMetal, GuestRam::new(RAM).unwrap());
    assert!(matches!(hart.start(entry), Err(EngineError::Configuration(_))));
    assert!(hart.run(Instant::now() + TIME).is_err(), "it has not started");
}

/// The QEMU that this process has started: [`one_at_a_time`] sees to it that there is one.
fn child() -> u32 {
    let us = format!("PPid:\t{}", std::process::id());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .find(|number: &u32| {
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            status.contains("qemu-system-ris") && status.lines().any(|line| line == us)
        })
        .unwrap()
}

/// One that is killed is an error, and says so each time.
#[test]
fn a_qemu_that_is_killed_is_told() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let (mut hart, _) = hart(|code| dynasm!(code; .arch riscv64i; here: ; j <here));
    assert_eq!(hart.run(Instant::now() + Duration::from_millis(50)).unwrap(), Exit::Deadline);
    let killed = Command::new("sh").args(["-c", &format!("kill -KILL {}", child())]).status();
    assert!(killed.unwrap().success());
    let error = hart.run(Instant::now() + TIME).unwrap_err().to_string();
    assert!(error.contains("signal: 9"), "{error}");
    assert!(hart.run(Instant::now() + TIME).is_err());
}

#[test]
fn nothing_is_left_of_a_hart() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let (hart, _) = hart(asks_twice);
    let process = PathBuf::from(format!("/proc/{}", child()));
    assert!(process.exists());
    drop(hart);
    assert!(!process.exists());
}

/// QEMU puts a device tree of its own below 3 GiB; a guest with so much RAM does not see it.
#[test]
fn ram_is_as_it_was_when_the_guest_begins() {
    let _one = one_at_a_time();
    if need::program(QEMU).is_none() {
        return;
    }
    let ram = GuestRam::new_shared(3 << 29).unwrap();
    let near = (1 << 30) - (32 << 20);
    let pattern: Vec<u8> = (0..32_u32 << 18).flat_map(|number| (number | 1).to_le_bytes()).collect();
    ram.write(near, &pattern).unwrap();
    let mut hart = QemuHart::new(Firmware::BareMetal, ram.clone());
    ram.write(0, &assembled(asks_twice)).unwrap();
    hart.start(Entry { pc: RAM_BASE, hart: 0, argument: 0 }).unwrap();
    assert!(matches!(run(&mut hart), Exit::Ecall { .. }));
    let mut after = vec![0; pattern.len()];
    ram.read(near, &mut after).unwrap();
    assert!(after == pattern);
}
