//! What a TD needs of ring 0: TDCALL, #VE, the interrupt by which a host tells of quotes.
#![expect(unsafe_code, reason = "machine instructions, and entry points that the processor calls")]

use core::{
    arch::{asm, naked_asm, x86_64::__cpuid_count},
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use tsmsim_abi::tdx::{
    leaf::{TdcallLeaf, VeInstruction, VmcallControl, exit_reason, shared_bit},
    status::CompletionStatus,
    vmcall::{Direction, VmcallStatus, VmcallSubFunction},
};

use super::{instructions::invalidate_page, memory::Launched, tables};
use crate::guest::{
    EXIT_EXCEPTION,
    serial::{exit, print},
};

/// The vector of the interrupt that tells of quotes.
pub(in crate::guest) const NOTIFY_VECTOR: u8 = 0x30;
/// The vector of #VE.
const VIRTUALIZATION: usize = 20;
/// RFLAGS.IF.
const INTERRUPTS: u64 = 1 << 9;

/// Numbers of general registers, by which [`Registers`] is indexed.
pub(in crate::guest) mod gpr {
    pub(in crate::guest) const RAX: usize = 0;
    pub(in crate::guest) const RCX: usize = 1;
    pub(in crate::guest) const RDX: usize = 2;
    pub(in crate::guest) const R8: usize = 8;
    pub(in crate::guest) const R9: usize = 9;
    pub(in crate::guest) const R10: usize = 10;
    pub(in crate::guest) const R11: usize = 11;
    pub(in crate::guest) const R12: usize = 12;
    pub(in crate::guest) const R13: usize = 13;
    pub(in crate::guest) const R14: usize = 14;
    pub(in crate::guest) const R15: usize = 15;
}

/// The general registers by their encoding; RSP is not used.
pub(in crate::guest) type Registers = [u64; 16];

/// The operands of TDCALL from and to memory. The instruction stands at the same place in both functions: behind whole
/// instructions from the symbol on, so that a disassembler can confirm it.
macro_rules! tdcall_function {
    ($(#[$doc:meta])* $name:ident, $before:literal, $after:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "sysv64" fn $name(registers: &mut Registers) {
            naked_asm!(
                "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "push rdi",
                "mov rax, [rdi]", "mov rcx, [rdi + 8]", "mov rdx, [rdi + 16]", "mov rbx, [rdi + 24]",
                "mov rbp, [rdi + 40]", "mov rsi, [rdi + 48]",
                "mov r8, [rdi + 64]", "mov r9, [rdi + 72]", "mov r10, [rdi + 80]", "mov r11, [rdi + 88]",
                "mov r12, [rdi + 96]", "mov r13, [rdi + 104]", "mov r14, [rdi + 112]", "mov r15, [rdi + 120]",
                "mov rdi, [rdi + 56]",
                $before,
                ".byte 0x66, 0x0f, 0x01, 0xcc",
                $after,
                "push rdi", "mov rdi, [rsp + 8]",
                "mov [rdi], rax", "mov [rdi + 8], rcx", "mov [rdi + 16], rdx", "mov [rdi + 24], rbx",
                "mov [rdi + 40], rbp", "mov [rdi + 48], rsi",
                "mov [rdi + 64], r8", "mov [rdi + 72], r9", "mov [rdi + 80], r10", "mov [rdi + 88], r11",
                "mov [rdi + 96], r12", "mov [rdi + 104], r13", "mov [rdi + 112], r14", "mov [rdi + 120], r15",
                "pop rax", "mov [rdi + 56], rax",
                "pop rdi", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
                "ret",
            )
        }
    };
}

tdcall_function!(
    /// TDCALL (Intel SDM volume 2).
    tdcall,
    "",
    ""
);
tdcall_function!(
    /// TDCALL right behind STI, so that no interrupt comes in between; interrupts are off again afterwards.
    tdcall_with_interrupts,
    "sti",
    "cli"
);

/// OUT of a byte by `TDG.VP.VMCALL<Instruction.IO>`, with as few instructions as it needs.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "sysv64" fn tdcall_out(port: u64, value: u64) {
    naked_asm!(
        "push r12", "push r13", "push r14", "push r15",
        "xor eax, eax",
        "mov ecx, {shown}",
        "xor r10d, r10d",
        "mov r11d, {io}",
        "mov r12d, 1",
        "mov r13d, {write}",
        "mov r14, rdi",
        "mov r15, rsi",
        ".byte 0x66, 0x0f, 0x01, 0xcc",
        "pop r15", "pop r14", "pop r13", "pop r12",
        "ret",
        shown = const VmcallControl::GPR_R10_TO_R15,
        io = const VmcallSubFunction::INSTRUCTION_IO.0,
        write = const Direction::WRITE.0,
    )
}

/// Set once TDCALL can be used to print.
static UP: AtomicBool = AtomicBool::new(false);
/// How often [`NOTIFY_VECTOR`] came.
static NOTIFIED: AtomicU32 = AtomicU32::new(0);

/// Whether this is a TD that has come to its own tables.
pub(in crate::guest) fn is_up() -> bool {
    UP.load(Ordering::Relaxed)
}

/// How often the host told of a quote.
pub(in crate::guest) fn notified() -> u32 {
    NOTIFIED.load(Ordering::Relaxed)
}

/// Calls the module.
pub(in crate::guest) fn call(registers: &mut Registers) {
    tdcall(registers);
}

/// Calls the module with interrupts on.
pub(in crate::guest) fn call_with_interrupts(registers: &mut Registers) {
    tdcall_with_interrupts(registers);
}

/// OUT of a byte.
pub(in crate::guest) fn port_out(port: u16, value: u8) {
    tdcall_out(port.into(), value.into());
}

/// CPUID.
pub(in crate::guest) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = __cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Whether CPUID says that this is a TD: leaf 21H (348552).
pub(super) fn is_td() -> bool {
    let text = [*b"Inte", *b"    ", *b"lTDX"].map(u32::from_le_bytes);
    cpuid(0, 0)[0] >= 0x21 && cpuid(0x21, 0)[1..] == text
}

/// Takes the width of addresses from the module, loads this program's own tables, and goes on there.
pub(super) fn boot(launched: Launched, entry: extern "sysv64" fn(u64) -> !) -> ! {
    let mut registers = [0; 16];
    registers[gpr::RAX] = TdcallLeaf::TDG_VP_INFO.0.into();
    tdcall(&mut registers);
    let shared = shared_bit(registers[gpr::RCX] & 0x3f).unwrap_or(0);
    tables::load_page_tables(0, shared, launched.ram_size());
    tables::load_descriptor_tables();
    tables::set_handler(VIRTUALIZATION, virtualization_entry as *const () as u64);
    tables::set_handler(NOTIFY_VECTOR.into(), notify_entry as *const () as u64);
    UP.store(true, Ordering::Relaxed);
    tables::enter_ring_0(entry, tsmsim_abi::guest_test::PARAMETERS_GPA)
}

/// Maps a page as private or as shared. False if it is none of the pages that may change.
pub(in crate::guest) fn map_private(address: u64, private: bool) -> bool {
    let done = tables::map_private(address, private);
    invalidate_page(address);
    done
}

/// HLT with interrupts on, and a while after it: where KVM interprets ring 0, it looks for interrupts only now and then.
/// They are off again afterwards.
pub(in crate::guest) fn halt() {
    const LONG_ENOUGH: u32 = 1 << 16;
    let before = notified();
    // SAFETY: the handlers leave everything as it was.
    unsafe { asm!("sti", "hlt", options(nostack)) };
    for _ in 0..LONG_ENOUGH {
        if notified() != before {
            break;
        }
        core::hint::spin_loop();
    }
    // SAFETY: nothing waits for an interrupt.
    unsafe { asm!("cli", options(nostack)) };
}

/// RDMSR of an MSR that raises #VE: its handler asks the host.
pub(in crate::guest) fn read_msr(index: u32) -> u64 {
    super::instructions::read_msr(index)
}

/// WRMSR of `IA32_MISC_ENABLE`, which raises #VE.
pub(in crate::guest) fn write_misc_enable(value: u64) {
    const IA32_MISC_ENABLE: u32 = 0x1a0;
    // SAFETY: the register says nothing about memory.
    unsafe { super::instructions::write_msr(IA32_MISC_ENABLE, value) };
}

/// RDTSC.
pub(in crate::guest) fn time() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What `TDG.VP.VEINFO.GET` said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::guest) struct VeInfo {
    /// Exit reason.
    pub(in crate::guest) reason: u64,
    /// Exit qualification.
    pub(in crate::guest) qualification: u64,
    /// Guest-physical address.
    pub(in crate::guest) gpa: u64,
    /// Length of the instruction.
    pub(in crate::guest) length: u32,
    /// What the host answered, where it was asked.
    pub(in crate::guest) host: VmcallStatus,
}

struct LastVe(UnsafeCell<Option<VeInfo>>);

// SAFETY: one processor; interrupts are off in the handler, and nobody else raises #VE while the value is taken.
unsafe impl Sync for LastVe {}

static LAST_VE: LastVe = LastVe(UnsafeCell::new(None));

/// What the last #VE was about, once.
pub(in crate::guest) fn take_ve() -> Option<VeInfo> {
    // SAFETY: see `Sync` above.
    unsafe { LAST_VE.0.get().replace(None) }
}

/// What the entry pushes, and the processor's frame. 15 words on top of 5 and what the processor aligned: the stack is as
/// the calling convention has it.
#[repr(C)]
struct Frame {
    r15_to_rbp: [u64; 11],
    rbx: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
}

#[unsafe(naked)]
extern "sysv64" fn virtualization_entry() {
    naked_asm!(
        "push rax", "push rcx", "push rdx", "push rbx", "push rbp", "push rsi", "push rdi", "push r8", "push r9",
        "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "mov rdi, rsp",
        "call {handler}",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8", "pop rdi", "pop rsi",
        "pop rbp", "pop rbx", "pop rdx", "pop rcx", "pop rax",
        "iretq",
        handler = sym virtualization,
    )
}

#[unsafe(naked)]
extern "sysv64" fn notify_entry() {
    naked_asm!("lock inc dword ptr [{notified}]", "iretq", notified = sym NOTIFIED)
}

/// #VE: asks the module what it was, and the host to do it.
extern "sysv64" fn virtualization(frame: &mut Frame) {
    let mut info = [0; 16];
    info[gpr::RAX] = TdcallLeaf::TDG_VP_VEINFO_GET.0.into();
    tdcall(&mut info);
    let length = VeInstruction::from(info[gpr::R10]).length();
    let [reason, qualification, gpa] = [info[gpr::RCX], info[gpr::RDX], info[gpr::R9]];
    let mut host = VmcallStatus::SUCCESS;
    match reason {
        _ if CompletionStatus(info[gpr::RAX]) != CompletionStatus::SUCCESS => unexpected(frame, reason),
        exit_reason::HLT => {
            let blocked = frame.rflags & INTERRUPTS == 0;
            (host, _) = ask(VmcallSubFunction::INSTRUCTION_HLT, [blocked.into(), 0]);
        }
        exit_reason::MSR_READ => {
            let value;
            (host, value) = ask(VmcallSubFunction::INSTRUCTION_RDMSR, [frame.rcx & 0xffff_ffff, 0]);
            (frame.rax, frame.rdx) = (value & 0xffff_ffff, value >> 32);
        }
        exit_reason::MSR_WRITE => {
            let value = frame.rdx << 32 | frame.rax & 0xffff_ffff;
            (host, _) = ask(VmcallSubFunction::INSTRUCTION_WRMSR, [frame.rcx & 0xffff_ffff, value]);
        }
        // A page that was not accepted: the instruction is executed again once it is.
        exit_reason::EPT_VIOLATION => {
            let mut accept = [0; 16];
            accept[gpr::RAX] = TdcallLeaf::TDG_MEM_PAGE_ACCEPT.0.into();
            accept[gpr::RCX] = gpa & !0xfff;
            tdcall(&mut accept);
            if CompletionStatus(accept[gpr::RAX]) != CompletionStatus::SUCCESS {
                unexpected(frame, reason)
            }
        }
        _ => unexpected(frame, reason),
    }
    frame.rip += u64::from(length);
    // SAFETY: see `Sync` above.
    unsafe { *LAST_VE.0.get() = Some(VeInfo { reason, qualification, gpa, length, host }) };
}

fn unexpected(frame: &Frame, reason: u64) -> ! {
    print(format_args!(
        "# #VE for exit reason {reason} at {:#x}\nBail out! a #VE that the guest cannot handle\n",
        frame.rip
    ));
    exit(EXIT_EXCEPTION)
}

/// A TDVMCALL with two operands: the host's status and R11.
fn ask(sub_function: VmcallSubFunction, [r12, r13]: [u64; 2]) -> (VmcallStatus, u64) {
    let mut registers = [0; 16];
    registers[gpr::RCX] = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15).into();
    (registers[gpr::R11], registers[gpr::R12], registers[gpr::R13]) = (sub_function.0, r12, r13);
    tdcall(&mut registers);
    (VmcallStatus(registers[gpr::R10]), registers[gpr::R11])
}
