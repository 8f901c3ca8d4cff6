//! The KVM engine with guests assembled by hand, instruction by instruction.
//!
//! They do little in ring 0, as some KVMs interpret that, and use nothing there that an interpreter lacks.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use rstest::rstest;
use tsmsim_tests::need::{Lack, skip};
use tsmsim_vmm::engine::cpuid::CpuidTable;
use tsmsim_vmm::engine::kvm::{KvmConfig, KvmFacts, KvmProbe, KvmVcpu, KvmVm, MsrRange, probe};
use tsmsim_vmm::engine::{
    Engine, EngineError, Exception, Exit, GeneralProtection, InitialState, Privilege, Speed, rflags,
};
use tsmsim_vmm::loader::boot;
use tsmsim_vmm::memory::GuestRam;

const RAM_SIZE: u64 = 0x20_0000;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const SEV_STATUS: u32 = 0xc001_0131;
const GHCB: u32 = 0xc001_0130;

/// What this host's KVM is, or an early return from the test that says why it was skipped.
macro_rules! need_kvm {
    () => {
        match probe() {
            KvmProbe::Present(facts) => facts,
            other => {
                skip(Lack::Hardware, &other.to_string());
                return;
            }
        }
    };
}

/// A machine with `code` in it and one processor about to run it.
struct Machine {
    ram: GuestRam,
    vcpu: KvmVcpu,
    state: InitialState,
}

impl Machine {
    fn new(code: &[u8]) -> Self {
        Self::with(code, &KvmConfig::default(), &CpuidTable::new())
    }

    fn with(code: &[u8], config: &KvmConfig, cpuid: &CpuidTable) -> Self {
        let ram = GuestRam::new(RAM_SIZE).unwrap();
        boot::write_identity_tables(&ram, TABLES).unwrap();
        ram.write(CODE, code).unwrap();
        let vm = KvmVm::new(config, &ram).unwrap();
        let mut vcpu = vm.create_vcpu(cpuid).unwrap();
        let mut state = InitialState::long_mode(CODE, TABLES);
        state.registers.rsp = STACK;
        vcpu.set_initial_state(&state).unwrap();
        Self { ram, vcpu, state }
    }

    /// The same in ring 3 with I/O privilege: every page table entry gets its user bit.
    fn in_ring_3(code: &[u8]) -> Self {
        let mut machine = Self::new(code);
        for gpa in (TABLES..TABLES + 6 * 4096).step_by(8) {
            let mut entry = [0; 8];
            machine.ram.read(gpa, &mut entry).unwrap();
            if entry != [0; 8] {
                entry[0] |= 1 << 2;
                machine.ram.write(gpa, &entry).unwrap();
            }
        }
        machine.state.privilege = Privilege::User;
        machine.state.registers.rflags |= rflags::IOPL_3;
        machine.vcpu.set_initial_state(&machine.state).unwrap();
        machine
    }

    /// A machine whose code begins by loading a GDT with the selectors of the initial state, and an IDT with a gate for one
    /// vector; six bytes of it lie before `code`.
    fn with_handler(code: &[u8], config: &KvmConfig, vector: u64, handler: u64) -> Self {
        let load_tables = [
            0x0f, 0x01, 0x13, //  lgdt [rbx]
            0x0f, 0x01, 0x1e, //  lidt [rsi]
        ];
        let mut machine = Self::with(&[&load_tables[..], code].concat(), config, &CpuidTable::new());
        machine.ram.write(0x3_0010, &0x00af_9b00_0000_ffffu64.to_le_bytes()).unwrap(); // 0x10: 64-bit code
        machine.ram.write(0x3_0018, &0x00cf_9300_0000_ffffu64.to_le_bytes()).unwrap(); // 0x18: data
        let gate = 0x0000_8e00_0010_0000 | (handler & 0xffff) | (handler >> 16 << 48);
        machine.ram.write(0x3_1000 + vector * 16, &gate.to_le_bytes()).unwrap();
        for (gpa, limit, base) in [(0x3_2000, 31u16, 0x3_0000u64), (0x3_2010, 0xfff, 0x3_1000)] {
            machine.ram.write(gpa, &[&limit.to_le_bytes()[..], &base.to_le_bytes()].concat()).unwrap();
        }
        (machine.state.registers.rbx, machine.state.registers.rsi) = (0x3_2000, 0x3_2010);
        machine.vcpu.set_initial_state(&machine.state).unwrap();
        machine
    }

    fn run(&mut self) -> Exit {
        self.vcpu.run(Instant::now() + Duration::from_secs(20)).unwrap()
    }
}

fn out(port: u16, data: &[u8]) -> Exit {
    let size = u8::try_from(data.len()).unwrap();
    Exit::IoOut { port, size, data: data.to_vec() }
}

fn msrs(base: u32, count: u32, read: bool, write: bool) -> KvmConfig {
    KvmConfig { msr_exits: vec![MsrRange { base, count, read, write }], ..KvmConfig::default() }
}

#[test]
fn probe_says_what_it_found() {
    let facts: KvmFacts = need_kvm!();
    println!("{}", KvmProbe::Present(facts.clone()));
    assert!(facts.instructions_per_second > 0);
    assert!((36..=57).contains(&facts.physical_bits));
    assert!(facts.c_bit.is_some_and(|c_bit| c_bit < facts.physical_bits));
    let slow = facts.instructions_per_second < 10_000_000;
    assert_eq!(facts.speed == Speed::SlowEmulated, slow);
    let start = Instant::now();
    assert_eq!(probe(), KvmProbe::Present(facts));
    assert!(start.elapsed() < Duration::from_millis(100), "the answer is kept");
}

#[test]
fn out_and_hlt() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0xb0, 0x2a, //                    mov al, 0x2a
        0x66, 0xba, 0xf8, 0x03, //        mov dx, 0x3f8
        0xee, //                          out dx, al
        0xb8, 0x78, 0x56, 0x34, 0x12, //  mov eax, 0x12345678
        0x66, 0xef, //                    out dx, ax
        0xef, //                          out dx, eax
        0xf4, //                          hlt
    ]);
    assert_eq!(machine.run(), out(0x3f8, &[0x2a]));
    assert_eq!(machine.run(), out(0x3f8, &[0x78, 0x56]));
    assert_eq!(machine.run(), out(0x3f8, &[0x78, 0x56, 0x34, 0x12]));
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn a_string_of_outs_comes_whole() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0xbe, 0x00, 0x00, 0x03, 0x00, //  mov esi, 0x30000
        0xb9, 0x05, 0x00, 0x00, 0x00, //  mov ecx, 5
        0x66, 0xba, 0xf8, 0x03, //        mov dx, 0x3f8
        0xf3, 0x6e, //                    rep outsb
        0xf4, //                          hlt
    ]);
    machine.ram.write(0x3_0000, b"hello").unwrap();
    let mut printed = Vec::new();
    loop {
        match machine.run() {
            Exit::IoOut { port: 0x3f8, size: 1, data } => printed.extend(data),
            Exit::Hlt => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(printed, b"hello");
}

#[test]
fn in_gets_its_answer() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0x66, 0xba, 0xfd, 0x03, //  mov dx, 0x3fd
        0xec, //                    in al, dx
        0xe6, 0x80, //              out 0x80, al
        0xed, //                    in eax, dx
        0xe7, 0x80, //              out 0x80, eax
        0xf4, //                    hlt
    ]);
    assert_eq!(machine.run(), Exit::IoIn { port: 0x3fd, size: 1, count: 1 });
    let soon = Instant::now() + Duration::from_secs(20);
    assert_eq!(machine.vcpu.run(soon), Err(EngineError::Unanswered("IN")));
    assert!(machine.vcpu.complete_io_in(&[1, 2]).is_err(), "two bytes for one");
    assert!(machine.vcpu.complete_msr_read(Ok(0)).is_err(), "not what is asked for");
    machine.vcpu.complete_io_in(&[0x60]).unwrap();
    assert!(machine.vcpu.complete_io_in(&[0x60]).is_err(), "once is enough");
    assert_eq!(machine.run(), out(0x80, &[0x60]));
    assert_eq!(machine.run(), Exit::IoIn { port: 0x3fd, size: 4, count: 1 });
    machine.vcpu.complete_io_in(&[1, 2, 3, 4]).unwrap();
    assert_eq!(machine.run(), out(0x80, &[1, 2, 3, 4]));
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn outside_ram_is_mmio() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0xbb, 0x00, 0x00, 0x00, 0xd0, //  mov ebx, 0xd0000000
        0x8b, 0x03, //                    mov eax, [rbx]
        0x89, 0x43, 0x04, //              mov [rbx + 4], eax
        0xf4, //                          hlt
    ]);
    assert_eq!(machine.run(), Exit::MmioRead { gpa: 0xd000_0000, size: 4 });
    machine.vcpu.complete_mmio_read(&[9, 8, 7, 6]).unwrap();
    assert_eq!(machine.run(), Exit::MmioWrite { gpa: 0xd000_0004, data: vec![9, 8, 7, 6] });
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn named_msrs_exit() {
    need_kvm!();
    let code = [
        0xb9, 0x31, 0x01, 0x01, 0xc0, //  mov ecx, 0xc0010131   SEV_STATUS
        0x0f, 0x32, //                    rdmsr
        0xe7, 0x80, //                    out 0x80, eax
        0x89, 0xd0, //                    mov eax, edx
        0xe7, 0x80, //                    out 0x80, eax
        0xff, 0xc9, //                    dec ecx               GHCB
        0xb8, 0x02, 0x00, 0x00, 0x00, //  mov eax, 2
        0xba, 0x01, 0x00, 0x00, 0x00, //  mov edx, 1
        0x0f, 0x30, //                    wrmsr
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with(&code, &msrs(GHCB, 2, true, true), &CpuidTable::new());
    assert_eq!(machine.run(), Exit::MsrRead { index: SEV_STATUS });
    machine.vcpu.complete_msr_read(Ok(0x1122_3344_0000_0007)).unwrap();
    assert_eq!(machine.run(), out(0x80, &[7, 0, 0, 0]));
    assert_eq!(machine.run(), out(0x80, &[0x44, 0x33, 0x22, 0x11]));
    assert_eq!(machine.run(), Exit::MsrWrite { index: GHCB, value: 0x1_0000_0002 });
    machine.vcpu.complete_msr_write(Ok(())).unwrap();
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn a_refused_msr_is_a_general_protection() {
    need_kvm!();
    let read = [
        0xb9, 0x31, 0x01, 0x01, 0xc0, //  mov ecx, 0xc0010131
        0x0f, 0x32, //                    rdmsr: #GP, without any IDT a triple fault
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with(&read, &msrs(SEV_STATUS, 1, true, true), &CpuidTable::new());
    assert_eq!(machine.run(), Exit::MsrRead { index: SEV_STATUS });
    machine.vcpu.complete_msr_read(Err(GeneralProtection)).unwrap();
    assert_eq!(machine.run(), Exit::Shutdown);

    let write = [
        0xb9, 0x31, 0x01, 0x01, 0xc0, //  mov ecx, 0xc0010131
        0x0f, 0x30, //                    wrmsr: #GP
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with(&write, &msrs(SEV_STATUS, 1, true, true), &CpuidTable::new());
    assert_eq!(machine.run(), Exit::MsrWrite { index: SEV_STATUS, value: 0 });
    machine.vcpu.complete_msr_write(Err(GeneralProtection)).unwrap();
    assert_eq!(machine.run(), Exit::Shutdown);
}

#[test]
fn other_msrs_stay_in_the_kernel() {
    need_kvm!();
    let code = [
        0xb9, 0x81, 0x00, 0x00, 0xc0, //  mov ecx, 0xc0000081   STAR
        0x0f, 0x32, //                    rdmsr
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with(&code, &msrs(GHCB, 2, true, true), &CpuidTable::new());
    assert_eq!(machine.run(), Exit::Hlt);
    // A range for reads only leaves writes alone.
    let write = [
        0xb9, 0x81, 0x00, 0x00, 0xc0, //  mov ecx, 0xc0000081
        0x0f, 0x30, //                    wrmsr
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with(&write, &msrs(0xc000_0081, 1, true, false), &CpuidTable::new());
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn ram_is_there_twice() {
    let facts = need_kvm!();
    let c_bit = facts.c_bit.unwrap();
    let code = [
        0x48, 0xc7, 0x03, 0x78, 0x56, 0x34, 0x12, //  mov qword ptr [rbx], 0x12345678
        0x8b, 0x06, //                                mov eax, [rsi]
        0xe7, 0x80, //                                out 0x80, eax
        0xf4, //                                      hlt
    ];
    let config = KvmConfig { alias_bit: Some(c_bit), ..KvmConfig::default() };
    // The guest's CPU must know addresses that wide.
    let vm = KvmVm::new(&config, &GuestRam::new(RAM_SIZE).unwrap()).unwrap();
    let mut machine = Machine::with(&code, &config, &vm.supported_cpuid().unwrap());
    // A second gigabyte, at 512 GiB, that leads to RAM with the C-bit: PML4 entry 1, tables at 0x8000 and 0x9000.
    let alias = 1u64 << c_bit;
    machine.ram.write(TABLES + 8, &(0x8000u64 | 3).to_le_bytes()).unwrap();
    machine.ram.write(0x8000, &(0x9000u64 | 3).to_le_bytes()).unwrap();
    machine.ram.write(0x9000, &(alias | 0x83).to_le_bytes()).unwrap();
    machine.state.registers.rbx = (512 << 30) + 0x4_0000;
    machine.state.registers.rsi = 0x4_0000;
    machine.vcpu.set_initial_state(&machine.state).unwrap();
    assert_eq!(machine.run(), out(0x80, &[0x78, 0x56, 0x34, 0x12]));
    let mut host = [0; 4];
    machine.ram.read(0x4_0000, &mut host).unwrap();
    assert_eq!(host, [0x78, 0x56, 0x34, 0x12], "and the host sees it");
    assert_eq!(machine.run(), Exit::Hlt);
}

#[test]
fn a_c_bit_that_cannot_be_is_refused() {
    let facts = need_kvm!();
    let ram = GuestRam::new(RAM_SIZE).unwrap();
    for c_bit in [facts.physical_bits, 63, 12] {
        let config = KvmConfig { alias_bit: Some(c_bit), ..KvmConfig::default() };
        assert!(matches!(KvmVm::new(&config, &ram), Err(EngineError::Configuration(_))));
    }
}

#[test]
fn a_deadline_ends_an_endless_loop() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0xff, 0xc0, // inc eax   1:
        0xeb, 0xfc, // jmp 1b
    ]);
    for _ in 0..3 {
        let before = machine.vcpu.registers().unwrap().rax;
        let start = Instant::now();
        assert_eq!(machine.vcpu.run(start + Duration::from_millis(50)), Ok(Exit::Deadline));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(50), "{took:?}: too early");
        assert!(took < Duration::from_secs(5), "{took:?}: too late");
        // The guest ran, and can be run on.
        let state = machine.vcpu.registers().unwrap();
        assert!(state.rax != before || state.rip != CODE);
    }
    assert_eq!(machine.vcpu.run(Instant::now()), Ok(Exit::Deadline), "a deadline in the past");
}

#[test]
fn a_deadline_ends_an_endless_loop_in_ring_3() {
    need_kvm!();
    let mut machine = Machine::in_ring_3(&[
        0xeb, 0xfe, // 1: jmp 1b
    ]);
    let start = Instant::now();
    assert_eq!(machine.vcpu.run(start + Duration::from_millis(50)), Ok(Exit::Deadline));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn many_exits_under_one_deadline() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0xe6, 0x80, // 1: out 0x80, al
        0xeb, 0xfc, // jmp 1b
    ]);
    let deadline = Instant::now() + Duration::from_millis(50);
    let mut exits = 0u32;
    while machine.vcpu.run(deadline).unwrap() != Exit::Deadline {
        exits += 1;
    }
    assert!(exits > 10, "{exits} exits");
    assert!(Instant::now() >= deadline);
}

#[test]
fn processors_of_one_thread_do_not_disturb_each_other() {
    need_kvm!();
    let endless = [
        0xeb, 0xfe, // 1: jmp 1b
    ];
    let mut first = Machine::new(&endless);
    let mut second = Machine::new(&endless);
    // The first one's timer goes off while the second runs.
    let soon = Instant::now() + Duration::from_millis(20);
    let later = soon + Duration::from_millis(60);
    assert_eq!(first.vcpu.run(soon), Ok(Exit::Deadline));
    assert_eq!(second.vcpu.run(later), Ok(Exit::Deadline));
    assert!(Instant::now() >= later);
    drop(first);
    assert_eq!(second.vcpu.run(Instant::now() + Duration::from_millis(20)), Ok(Exit::Deadline));
}

#[test]
fn two_processors_share_ram() {
    need_kvm!();
    let ram = GuestRam::new(RAM_SIZE).unwrap();
    boot::write_identity_tables(&ram, TABLES).unwrap();
    let code = [
        0xff, 0x03, // inc dword ptr [rbx]
        0xf4, //       hlt
    ];
    ram.write(CODE, &code).unwrap();
    let vm = KvmVm::new(&KvmConfig::default(), &ram).unwrap();
    for _ in 0..2 {
        let mut vcpu = vm.create_vcpu(&CpuidTable::new()).unwrap();
        let mut state = InitialState::long_mode(CODE, TABLES);
        state.registers.rbx = 0x4_0000;
        vcpu.set_initial_state(&state).unwrap();
        assert_eq!(vcpu.run(Instant::now() + Duration::from_secs(20)), Ok(Exit::Hlt));
    }
    let mut count = [0; 4];
    ram.read(0x4_0000, &mut count).unwrap();
    assert_eq!(count, [2, 0, 0, 0]);
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    need_kvm!();
    let mut machine = Machine::new(&[
        0x0f, 0x0b, // ud2, without any IDT
    ]);
    assert_eq!(machine.run(), Exit::Shutdown);
}

#[test]
fn an_injected_exception_arrives() {
    need_kvm!();
    let code = [
        0xe6, 0x80, //                    out 0x80, al          here #GP(0x18) is injected
        0xf4, //                          hlt
        0x90, 0x90, 0x90, 0x90, 0x90, //  nop …
        0x58, //                          pop rax               the handler, at offset 8: the error code
        0xe7, 0x81, //                    out 0x81, eax
        0xf4, //                          hlt
    ];
    let mut machine = Machine::with_handler(&code, &KvmConfig::default(), 13, CODE + 6 + 8);
    assert_eq!(machine.run(), out(0x80, &[0]));
    machine.vcpu.inject_exception(Exception::general_protection(0x18)).unwrap();
    assert_eq!(machine.run(), out(0x81, &[0x18, 0, 0, 0]));
    assert_eq!(machine.run(), Exit::Hlt);
    assert!(machine.vcpu.inject_exception(Exception { vector: 32, error_code: None }).is_err());
}

/// A handler: shows EAX and the RIP that it would return to, and halts.
const SHOW_AND_HALT: [u8; 9] = [
    0xe7, 0x81, //                          out 0x81, eax
    0x48, 0x8b, 0x04, 0x24, //              mov rax, [rsp]
    0xe7, 0x82, //                          out 0x82, eax
    0xf4, //                                hlt
];

#[rstest]
#[case::out(&[0xe6, 0x80], KvmConfig::default())]
#[case::in_(&[0xe5, 0x80], KvmConfig::default())]
#[case::hlt(&[0xf4], KvmConfig::default())]
#[case::rdmsr(&[0x0f, 0x32], msrs(SEV_STATUS, 1, true, true))]
#[case::wrmsr(&[0x0f, 0x30], msrs(SEV_STATUS, 1, true, true))]
fn a_fault_takes_the_place_of_its_instruction(#[case] instruction: &[u8], #[case] config: KvmConfig) {
    need_kvm!();
    let handler = CODE + 0x800;
    let before = [0xb8, 0x78, 0x56, 0x34, 0x12]; // mov eax, 0x12345678
    let mut machine = Machine::with_handler(&[&before[..], instruction].concat(), &config, 20, handler);
    machine.ram.write(handler, &SHOW_AND_HALT).unwrap();
    machine.state.registers.rcx = SEV_STATUS.into();
    machine.vcpu.set_initial_state(&machine.state).unwrap();
    machine.run();
    let length = u8::try_from(instruction.len()).unwrap();
    machine.vcpu.inject_fault(Exception::VIRTUALIZATION, length).unwrap();
    assert_eq!(machine.run(), out(0x81, &0x1234_5678u32.to_le_bytes()), "EAX as it was");
    let address = u32::try_from(CODE).unwrap() + 6 + 5;
    assert_eq!(machine.run(), out(0x82, &address.to_le_bytes()));
    assert_eq!(machine.run(), Exit::Hlt);
}

/// An interrupt comes when the guest takes it: `window` runs with interrupts on, between two exits.
#[rstest]
#[case::at_an_exit(&[0xfb, 0x90, 0xe6, 0x83, 0x90], true)] // sti; nop; out 0x83, al; nop
#[case::never(&[0xb9, 0x00, 0x01, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xfc], false)]
// mov ecx, 0x100; 1: dec ecx; jnz 1b
// An interpreting KVM looks now and then: sti; mov ecx, 0x10000; 1: dec ecx; jnz 1b.
#[case::without_exit(&[0xfb, 0xb9, 0x00, 0x00, 0x01, 0x00, 0xff, 0xc9, 0x75, 0xfc], true)]
fn an_interrupt_waits_for_its_window(#[case] window: &[u8], #[case] taken: bool) {
    need_kvm!();
    let handler = CODE + 0x800;
    let code = [&[0xe6, 0x80], window, &[0xfa, 0xe6, 0x84, 0xf4]].concat(); // out 0x80, al; …; cli; out 0x84, al; hlt
    let mut machine = Machine::with_handler(&code, &KvmConfig::default(), 0x30, handler);
    machine.ram.write(handler, &[0xe6, 0x81, 0x48, 0xcf]).unwrap(); // out 0x81, al; iretq
    assert_eq!(machine.run(), out(0x80, &[0]));
    assert!(!machine.vcpu.interrupt_waits());
    machine.vcpu.inject_interrupt(0x30).unwrap();
    machine.vcpu.inject_interrupt(0x30).unwrap();
    assert!(machine.vcpu.interrupt_waits());
    let ports = std::iter::from_fn(|| match machine.run() {
        Exit::IoOut { port, .. } => Some(port),
        _ => None,
    });
    let taken_once = ports.filter(|port| *port == 0x81).count() == 1;
    assert_eq!(taken_once, taken);
    assert_eq!(machine.vcpu.interrupt_waits(), !taken);
}

/// An exception that is being delivered goes before an interrupt, whose window its handler closes.
#[test]
fn an_interrupt_does_not_overtake_a_fault() {
    need_kvm!();
    let (fault, interrupt) = (CODE + 0x800, CODE + 0x900);
    let code = [0xfb, 0x90, 0xf4]; // sti; nop; hlt
    let mut machine = Machine::with_handler(&code, &KvmConfig::default(), 20, fault);
    let gate = 0x0000_8e00_0010_0000 | (interrupt & 0xffff) | (interrupt >> 16 << 48);
    machine.ram.write(0x3_1000 + 0x30 * 16, &gate.to_le_bytes()).unwrap();
    machine.ram.write(fault, &[0xe6, 0x81, 0xfb, 0x90, 0xe6, 0x82, 0x90, 0xf4]).unwrap(); // out; sti; nop; out; nop; hlt
    machine.ram.write(interrupt, &[0xe6, 0x83, 0xf4]).unwrap();
    assert_eq!(machine.run(), Exit::Hlt);
    machine.vcpu.inject_interrupt(0x30).unwrap();
    machine.vcpu.inject_fault(Exception::VIRTUALIZATION, 1).unwrap();
    assert_eq!(machine.run(), out(0x81, &[0]));
    let mut exit = machine.run();
    if exit == out(0x82, &[0]) {
        exit = machine.run();
    }
    assert_eq!(exit, out(0x83, &[0]));
}

/// What stands for VMGEXIT, PVALIDATE and RMPADJUST: OUT and two NOPs; then RAX and the carry flag are shown.
const PATCHED: [u8; 13] = [
    0xe6, 0xb5, 0x90, 0x90, // out 0xb5, al; nop; nop
    0x0f, 0x92, 0xc3, //       setc bl
    0xe7, 0x80, //             out 0x80, eax
    0x88, 0xd8, //             mov al, bl
    0xe6, 0x81, //             out 0x81, al
];

/// Sets RAX and the carry flag at the OUT, and sees the guest go on behind it with both.
fn registers_set_at_an_out(mut machine: Machine) {
    for (rax, carry) in [(0x1234, true), (0, false)] {
        machine.vcpu.set_initial_state(&machine.state).unwrap();
        assert_eq!(machine.run(), out(0xb5, &[0]));
        let mut registers = machine.vcpu.registers().unwrap();
        assert!(registers.rip == CODE || registers.rip == CODE + 2, "{:#x}", registers.rip);
        registers.rax = rax;
        registers.rflags = if carry { registers.rflags | rflags::CF } else { registers.rflags & !rflags::CF };
        machine.vcpu.set_registers(&registers).unwrap();
        assert_eq!(machine.run(), out(0x80, &u32::try_from(rax).unwrap().to_le_bytes()));
        assert_eq!(machine.run(), out(0x81, &[u8::from(carry)]));
    }
}

#[test]
fn registers_may_be_set_at_an_out_in_ring_0() {
    need_kvm!();
    registers_set_at_an_out(Machine::new(&PATCHED));
}

#[test]
fn registers_may_be_set_at_an_out_in_ring_3() {
    need_kvm!();
    let mut machine = Machine::in_ring_3(&PATCHED);
    assert_eq!(machine.run(), out(0xb5, &[0]));
    assert_eq!(machine.vcpu.system_registers().unwrap().cpl, 3);
    registers_set_at_an_out(machine);
}

#[test]
fn ring_3_without_io_privilege_asks_the_bitmap() {
    need_kvm!();
    let mut machine = Machine::in_ring_3(&PATCHED);
    machine.state.registers.rflags = rflags::FIXED;
    machine.vcpu.set_initial_state(&machine.state).unwrap();
    // The task state segment lies at zero, and the offset of its bitmap (at 0x66) is zero as well: port 0xb5 is bit 5
    // of byte 0x16.
    assert_eq!(machine.run(), out(0xb5, &[0]));
    machine.ram.write(0x16, &[1 << 5]).unwrap();
    machine.vcpu.set_initial_state(&machine.state).unwrap();
    assert_eq!(machine.run(), Exit::Shutdown);
}

#[test]
fn system_registers_are_those_set() {
    need_kvm!();
    let machine = Machine::new(&[0xf4]);
    let registers = machine.vcpu.system_registers().unwrap();
    assert_eq!((registers.cr3, registers.cpl), (TABLES, 0));
    assert_eq!((registers.cr0, registers.cr4), (machine.state.cr0, machine.state.cr4));
    assert_eq!(registers.efer & 0x500, 0x500);
    assert_eq!(machine.vcpu.registers().unwrap(), machine.state.registers);
}

#[test]
fn cpuid_is_the_table() {
    need_kvm!();
    let code = [
        0xb8, 0x1f, 0x00, 0x00, 0x80, //  mov eax, 0x8000001f
        0x0f, 0xa2, //                    cpuid
        0xe7, 0x80, //                    out 0x80, eax
        0x89, 0xd8, //                    mov eax, ebx
        0xe7, 0x80, //                    out 0x80, eax
        0xf4, //                          hlt
    ];
    let ram = GuestRam::new(RAM_SIZE).unwrap();
    let vm = KvmVm::new(&KvmConfig::default(), &ram).unwrap();
    let mut table = vm.supported_cpuid().unwrap();
    table.set_vendor(b"AuthenticAMD");
    table.raise_limit(0x8000_0000, 0x8000_001f);
    table.remove(0x8000_001f);
    table.edit(0x8000_001f, |entry| (entry.eax, entry.ebx) = (0x1a, 47 | (1 << 6)));
    let mut machine = Machine::with(&code, &KvmConfig::default(), &table);
    assert_eq!(machine.run(), out(0x80, &[0x1a, 0, 0, 0]));
    assert_eq!(machine.run(), out(0x80, &[0x6f, 0, 0, 0]));
    let seen = machine.vcpu.cpuid().unwrap();
    assert_eq!(seen.get(0x8000_001f, 0).unwrap().eax, 0x1a);
}

#[test]
fn what_ring_0_cannot_do_here_is_named() {
    let facts = need_kvm!();
    if facts.speed == Speed::Native {
        // There nothing is beyond ring 0, so there is nothing to check.
        return;
    }
    let mut machine = Machine::new(&[
        0x66, 0x0f, 0xef, 0xc0, // pxor xmm0, xmm0
        0xf4, //                   hlt
    ]);
    match machine.run() {
        Exit::InternalError { suberror: 1, instruction } => {
            assert_eq!(instruction.get(..4), Some(&[0x66, 0x0f, 0xef, 0xc0][..]));
        }
        Exit::Hlt => {} // an emulator that has it
        other => panic!("{other:?}"),
    }
}

#[test]
fn hlt_with_interrupt_controller_waits_until_the_deadline() {
    need_kvm!();
    let config = KvmConfig { interrupt_controller: true, ..KvmConfig::default() };
    let mut machine = Machine::with(&[0xf4], &config, &CpuidTable::new());
    let start = Instant::now();
    assert_eq!(machine.vcpu.run(start + Duration::from_millis(50)), Ok(Exit::Deadline));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn nothing_is_left_in_the_thread() {
    need_kvm!();
    let blocked = || vmm_sys_util::signal::get_blocked_signals().unwrap();
    let before = blocked();
    let mut machine = Machine::new(&[0xeb, 0xfe]);
    assert_ne!(blocked(), before);
    assert_eq!(machine.vcpu.run(Instant::now() + Duration::from_millis(5)), Ok(Exit::Deadline));
    drop(machine);
    assert_eq!(blocked(), before);
    // A signal left pending would end this process here.
    std::thread::sleep(Duration::from_millis(10));
}
