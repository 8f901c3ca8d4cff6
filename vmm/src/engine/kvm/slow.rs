//! Linux on a KVM that interprets ring 0: what that interpreter lacks, and what a guest is better not told of.
//!
//! Such a KVM (KVM over PVM, for one) runs ring 3 on the processor and decodes every instruction of ring 0 in software, a million
//! per second. Everything that only such a KVM needs is in this file; on an ordinary KVM none of it is used.
//!
//! * Instructions that its interpreter does not know end in `KVM_EXIT_INTERNAL_ERROR`: carried out are the few that
//!   a small kernel cannot be kept from using.
//! * SYSCALL loads RIP, RCX and RFLAGS, but leaves CS and SS in ring 3. So the first fetch of the kernel's entry raises a
//!   page fault of ring 3. The kernel's own handler of page faults is stopped at its CLD, and there such a fault is turned into
//!   the entry that it should have been.
//! * Other instructions it never uses, if CPUID and the command line do not offer them: [`simplify`], [`command_line`].
//! * An interpreted tick of the timer takes milliseconds. [`command_line`] tells the kernel of a faster counter than there is, so
//!   that it asks for fewer.

use iced_x86::{Code, Decoder, DecoderOptions};
use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;
use tsmsim_abi::snp::PAGE_SIZE;

use super::convert::{kernel_segments, registers_from_kvm};
use super::{KvmConfig, host_error};
use crate::engine::cpuid::CpuidTable;
use crate::engine::{EngineError, SystemRegisters};
use crate::memory::GuestRam;
use crate::paging::Walk;

/// STAR and LSTAR: selectors and target of SYSCALL (AMD64 Architecture Programmer's Manual volume 2, section 6.1.1).
const MSR_STAR: u32 = 0xc000_0081;
pub(super) const MSR_LSTAR: u32 = 0xc000_0082;
/// How much faster than it is a guest is told that its time-stamp counter runs.
const TIME_FACTOR: u64 = 10;
/// The longest instruction.
const LONGEST: usize = 15;
/// Bytes of a handler's beginning in which its CLD is looked for.
const HANDLER_START: usize = 16;
const PAGE_FAULT: u64 = 14;
const BREAKPOINT: u8 = 3;
const INT3: u8 = 0xcc;
/// Direction flag, resume flag.
const DF: u64 = 1 << 10;
const RF: u64 = 1 << 16;

/// What the command line of a Linux guest has to say on such a KVM; `tsc_khz` is what `KVM_GET_TSC_KHZ` says.
#[must_use]
pub fn command_line(tsc_khz: u32) -> String {
    let told = u64::from(tsc_khz) * TIME_FACTOR;
    format!(
        "noapic nokaslr mitigations=off rodata=off noxsave \
         clearcpuid=ssse3,sse4_1,sse4_2,popcnt,movbe,aes,pclmulqdq,fma,avx,f16c \
         tsc=reliable tsc_early_khz={told} no_timer_check random.trust_cpu=on swiotlb=512 loglevel=7"
    )
}

/// Takes out of a CPU model what leads a kernel to instructions that the interpreter lacks, and to code that only measures
/// the processor. What `KVM_SET_CPUID2` puts back is dealt with by [`command_line`].
pub fn simplify(cpuid: &mut CpuidTable) {
    /// Leaf 1, ECX: SSE3, timer by TSC deadline, RDRAND, hypervisor.
    const FEATURES: u32 = 1 << 0 | 1 << 24 | 1 << 30 | 1 << 31;
    /// Leaf 1, EDX: CLFLUSH, several logical processors.
    const NOT: u32 = 1 << 19 | 1 << 28;
    /// Leaf 80000001h, EDX: fast FXSAVE.
    const FFXSR: u32 = 1 << 25;
    /// Structured features and XSAVE; topology, caches, monitoring, trace; SVM, performance, extended topology.
    const GONE: [u32; 19] = [
        0x7,
        0xa,
        0xb,
        0xd,
        0xf,
        0x10,
        0x12,
        0x14,
        0x1d,
        0x1e,
        0x1f,
        0x8000_000a,
        0x8000_0019,
        0x8000_001a,
        0x8000_001b,
        0x8000_001d,
        0x8000_001e,
        0x8000_0021,
        0x8000_0022,
    ];
    GONE.into_iter().for_each(|function| cpuid.remove(function));
    cpuid.edit(1, |entry| {
        entry.ebx = entry.ebx & 0xffff | 1 << 16;
        entry.ecx = FEATURES;
        entry.edx &= !NOT;
    });
    // The local timer runs in every power state.
    cpuid.edit(6, |entry| (entry.eax, entry.ebx, entry.ecx, entry.edx) = (1 << 2, 0, 0, 0));
    cpuid.edit(0x8000_0001, |entry| {
        entry.ecx = 1;
        entry.edx &= !FFXSR;
    });
    // The counter's frequency does not change.
    cpuid.edit(0x8000_0007, |entry| (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 1 << 8));
    cpuid.edit(0x8000_0008, |entry| (entry.ebx, entry.ecx) = (0, 0));
}

/// Does for one processor what the interpreter leaves undone.
pub(super) struct Assistant {
    ram: GuestRam,
    alias_bit: Option<u8>,
    /// Where SYSCALL leads, once the guest has said so.
    syscall_entry: Option<u64>,
    /// Where the CLD of the guest's page fault handler was.
    page_fault_cld: Option<u64>,
}

/// The frame of an exception with an error code (AMD64 Architecture Programmer's Manual volume 2, section 8.9.3).
struct Frame {
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
}

impl Assistant {
    pub(super) fn new(ram: GuestRam, config: &KvmConfig) -> Self {
        Self { ram, alias_bit: config.alias_bit, syscall_entry: None, page_fault_cld: None }
    }

    /// Carries out the instruction at RIP, which the interpreter does not know; gives its name, or `None` if it is not known
    /// here either.
    pub(super) fn instruction(&mut self, fd: &VcpuFd) -> Result<Option<&'static str>, EngineError> {
        let regs = fd.get_regs().map_err(|error| host_error("KVM_GET_REGS", error))?;
        let sregs = fd.get_sregs().map_err(|error| host_error("KVM_GET_SREGS", error))?;
        if sregs.ss.dpl != 0 {
            return Ok(None);
        }
        let bytes = self.read(&sregs, regs.rip, LONGEST);
        let mut decoder = Decoder::with_ip(64, &bytes, regs.rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let next = instruction.next_ip();
        match instruction.code() {
            Code::Int3 if self.page_fault_cld == Some(regs.rip) => self.page_fault(fd, regs, sregs).map(Some),
            Code::Int3 => {
                resume(fd, kvm_regs { rip: next, ..regs })?;
                raise(fd, BREAKPOINT)?;
                Ok(Some("INT3"))
            }
            code => {
                let Some(name) = floating_point(fd, code)? else { return Ok(None) };
                resume(fd, kvm_regs { rip: next, ..regs })?;
                Ok(Some(name))
            }
        }
    }

    /// The guest says where SYSCALL leads: by then its page fault handler is in place.
    pub(super) fn write_lstar(&mut self, fd: &VcpuFd, value: u64) -> Result<(), EngineError> {
        let entry = kvm_msr_entry { index: MSR_LSTAR, data: value, ..kvm_msr_entry::default() };
        let refused = || EngineError::UnexpectedExit("this KVM does not take LSTAR".to_owned());
        let msrs = Msrs::from_entries(&[entry]).map_err(|_| refused())?;
        let taken = fd.set_msrs(&msrs).map_err(|error| host_error("KVM_SET_MSRS", error))?;
        if taken != 1 {
            return Err(refused());
        }
        self.syscall_entry = Some(value);
        let sregs = fd.get_sregs().map_err(|error| host_error("KVM_GET_SREGS", error))?;
        if self.page_fault_cld.is_none()
            && let Some(address) = self.find_cld(&sregs)
            && self.write(&sregs, address, INT3)
        {
            self.page_fault_cld = Some(address);
        }
        Ok(())
    }

    /// At the CLD of the page fault handler: a fault at SYSCALL's target becomes the entry that it should have been, for any
    /// other the CLD is carried out.
    fn page_fault(
        &self,
        fd: &VcpuFd,
        regs: kvm_regs,
        mut sregs: kvm_sregs,
    ) -> Result<&'static str, EngineError> {
        /// A fetch, from ring 3.
        const USER_FETCH: u64 = 1 << 4 | 1 << 2;
        let frame = self.frame(&sregs, regs.rsp).filter(|frame| {
            frame.error & USER_FETCH == USER_FETCH
                && frame.cs & 3 == 3
                && Some(frame.rip) == self.syscall_entry
        });
        let Some(frame) = frame else {
            resume(fd, kvm_regs { rip: regs.rip.wrapping_add(1), rflags: regs.rflags & !DF, ..regs })?;
            return Ok("page fault");
        };
        let (code, data) = kernel_segments(syscall_selector(fd)?);
        (sregs.cs, sregs.ss) = (code, data);
        fd.set_sregs(&sregs).map_err(|error| host_error("KVM_SET_SREGS", error))?;
        resume(fd, kvm_regs { rip: frame.rip, rsp: frame.rsp, rflags: frame.rflags & !RF | 2, ..regs })?;
        Ok("SYSCALL")
    }

    fn frame(&self, sregs: &kvm_sregs, rsp: u64) -> Option<Frame> {
        let bytes = self.read(sregs, rsp, 5 * 8);
        let word =
            |index: usize| Some(u64::from_le_bytes(bytes.get(8 * index..8 * index + 8)?.try_into().ok()?));
        Some(Frame { error: word(0)?, rip: word(1)?, cs: word(2)?, rflags: word(3)?, rsp: word(4)? })
    }

    /// The CLD at the beginning of the page fault handler, which the interrupt descriptor table names.
    fn find_cld(&self, sregs: &kvm_sregs) -> Option<u64> {
        let gate = self.read(sregs, sregs.idt.base.wrapping_add(PAGE_FAULT * 16), 16);
        let handler = gate_target(&gate)?;
        let bytes = self.read(sregs, handler, HANDLER_START);
        let decoder = Decoder::with_ip(64, &bytes, handler, DecoderOptions::NONE);
        let mut valid = decoder.into_iter().take_while(|instruction| !instruction.is_invalid());
        valid.find(|instruction| instruction.code() == Code::Cld).map(|instruction| instruction.ip())
    }

    /// At most `length` bytes of the guest's memory, up to the first that is not there.
    fn read(&self, sregs: &kvm_sregs, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        let mut address = address;
        while bytes.len() < length {
            let Some(gpa) = self.translate(sregs, address) else { break };
            let in_page = usize::try_from(address).unwrap_or(0) % PAGE_SIZE;
            let mut part = vec![0; (length - bytes.len()).min(PAGE_SIZE - in_page)];
            if self.ram.read(gpa, &mut part).is_err() {
                break;
            }
            address = address.wrapping_add(u64::try_from(part.len()).unwrap_or(0));
            bytes.extend(part);
        }
        bytes
    }

    fn write(&self, sregs: &kvm_sregs, address: u64, byte: u8) -> bool {
        self.translate(sregs, address).is_some_and(|gpa| self.ram.write(gpa, &[byte]).is_ok())
    }

    fn translate(&self, sregs: &kvm_sregs, address: u64) -> Option<u64> {
        let kvm_sregs { cr0, cr3, cr4, efer, ss, .. } = *sregs;
        let registers = SystemRegisters { cr0, cr3, cr4, efer, cpl: ss.dpl };
        let mask = self.alias_bit.and_then(|bit| 1_u64.checked_shl(bit.into())).unwrap_or(0);
        let walked = Walk::new(&self.ram, &registers, self.alias_bit).translate(address).ok()?;
        Some(walked.gpa & !mask)
    }
}

/// x87 instructions around the restoring of a process's state where the processor leaks the last pointers of another
/// (`arch/x86/kernel/fpu/legacy.h`, `X86_BUG_FXSAVE_LEAK`).
fn floating_point(fd: &VcpuFd, code: Code) -> Result<Option<&'static str>, EngineError> {
    /// Of the status word: not the exceptions, and not busy.
    const STATUS: u16 = 0x7f00;
    let change = |change: fn(&mut kvm_fpu)| {
        let mut fpu = fd.get_fpu().map_err(|error| host_error("KVM_GET_FPU", error))?;
        change(&mut fpu);
        fd.set_fpu(&fpu).map_err(|error| host_error("KVM_SET_FPU", error))
    };
    let name = match code {
        Code::Wait => "FWAIT",
        Code::Fnclex => {
            change(|fpu| fpu.fsw &= STATUS)?;
            "FNCLEX"
        }
        Code::Emms => {
            change(|fpu| fpu.ftwx = 0)?;
            "EMMS"
        }
        // FXRSTOR follows and replaces the value that is loaded. What this is for is the last pointers.
        Code::Fild_m32int => {
            change(|fpu| (fpu.last_opcode, fpu.last_ip, fpu.last_dp) = (0, 0, 0))?;
            "FILD"
        }
        _ => return Ok(None),
    };
    Ok(Some(name))
}

/// The code segment's selector of SYSCALL: STAR\[47:32\]; the stack's is the next.
fn syscall_selector(fd: &VcpuFd) -> Result<u16, EngineError> {
    let unreadable = || EngineError::UnexpectedExit("this KVM does not give STAR".to_owned());
    let entry = kvm_msr_entry { index: MSR_STAR, ..kvm_msr_entry::default() };
    let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| unreadable())?;
    fd.get_msrs(&mut msrs).map_err(|error| host_error("KVM_GET_MSRS", error))?;
    let star = msrs.as_slice().first().ok_or_else(unreadable)?.data.to_le_bytes();
    Ok(u16::from_le_bytes([star[4], star[5]]) & !3)
}

/// Where a 64-bit interrupt gate leads (section 4.8.4).
fn gate_target(gate: &[u8]) -> Option<u64> {
    let &[a, b, _, _, _, _, c, d, e, f, g, h, ..] = gate else { return None };
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn resume(fd: &VcpuFd, regs: kvm_regs) -> Result<(), EngineError> {
    tracing::trace!(registers = ?registers_from_kvm(&regs), "instruction carried out");
    fd.set_regs(&regs).map_err(|error| host_error("KVM_SET_REGS", error))
}

/// Delivers an exception without an error code.
fn raise(fd: &VcpuFd, vector: u8) -> Result<(), EngineError> {
    let mut events: kvm_vcpu_events =
        fd.get_vcpu_events().map_err(|error| host_error("KVM_GET_VCPU_EVENTS", error))?;
    (events.exception.injected, events.exception.pending) = (1, 0);
    (events.exception.nr, events.exception.has_error_code) = (vector, 0);
    events.flags = 0;
    fd.set_vcpu_events(&events).map_err(|error| host_error("KVM_SET_VCPU_EVENTS", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpuid::CpuidEntry;
    use crate::loader::boot::write_identity_tables;

    /// Identity tables at 1000h, interrupt descriptor table at 8000h, a handler at 9000h.
    fn assistant(handler: &[u8]) -> (Assistant, kvm_sregs) {
        let ram = GuestRam::new(0x10_000).unwrap();
        let tables = write_identity_tables(&ram, 0x1000).unwrap();
        let gate = [0x00, 0x90, 0x10, 0, 0, 0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        ram.write(0x8000 + PAGE_FAULT * 16, &gate).unwrap();
        ram.write(0x9000, handler).unwrap();
        let mut sregs =
            kvm_sregs { cr0: 0x8000_0001, cr3: tables.cr3, cr4: 0x20, efer: 0x500, ..kvm_sregs::default() };
        sregs.idt.base = 0x8000;
        (Assistant { ram, alias_bit: Some(47), syscall_entry: None, page_fault_cld: None }, sregs)
    }

    #[test]
    fn the_handlers_cld_is_an_instruction_of_its_own() {
        // nop dword ptr [rax]; cld
        let (assistant, sregs) = assistant(&[0x0f, 0x1f, 0x00, 0xfc, 0xe8]);
        assert_eq!(assistant.find_cld(&sregs), Some(0x9003));
    }

    #[test]
    fn a_handler_without_cld_is_left_alone() {
        // mov eax, 0xfcfcfcfc: the bytes are there, the instruction is not; then nothing but NOPs.
        let code = [&[0xb8, 0xfc, 0xfc, 0xfc, 0xfc][..], &[0x90; 16]].concat();
        let (assistant, sregs) = assistant(&code);
        assert_eq!(assistant.find_cld(&sregs), None);
    }

    #[test]
    fn reads_end_where_memory_ends() {
        let (assistant, sregs) = assistant(&[]);
        assert_eq!(assistant.read(&sregs, 0xfff8, 16).len(), 8);
        assert!(assistant.read(&sregs, 1 << 46, 16).is_empty());
        assert!(assistant.frame(&sregs, 0xffe0).is_none());
        assert_eq!(assistant.frame(&sregs, 0xff00).map(|frame| frame.rip), Some(0));
    }

    #[test]
    fn half_a_gate_leads_nowhere() {
        assert_eq!(gate_target(&[0; 11]), None);
        assert_eq!(
            gate_target(&[1, 2, 0xff, 0xff, 0xff, 0xff, 3, 4, 5, 6, 7, 8]),
            Some(0x0807_0605_0403_0201)
        );
    }

    #[test]
    fn a_simple_cpu_has_no_vectors() {
        let entry = |function, ecx| CpuidEntry { function, ecx, edx: u32::MAX, ..CpuidEntry::default() };
        let mut cpuid: CpuidTable = [entry(1, u32::MAX), entry(7, 1), entry(0x8000_0001, u32::MAX)]
            .into_iter()
            .chain([CpuidEntry { index: Some(1), ..entry(0xd, 1) }])
            .collect();
        simplify(&mut cpuid);
        assert_eq!((cpuid.get(7, 0), cpuid.get(0xd, 1)), (None, None));
        // AVX, XSAVE, AES, SSE4.2, POPCNT.
        assert_eq!(cpuid.get(1, 0).unwrap().ecx & (1 << 28 | 1 << 26 | 1 << 25 | 1 << 20 | 1 << 23), 0);
        assert!(command_line(2_000_000).contains("tsc_early_khz=20000000 "));
    }
}
