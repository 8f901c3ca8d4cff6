//! Every unsafe line of the KVM engine: the shared `kvm_run` page, two requests that kvm-ioctls leaves unsafe or out,
//! and POSIX timers.
#![expect(
    unsafe_code,
    reason = "unions shared with the kernel, memory slots and timers have no safe interface"
)]

use std::os::raw::{c_int, c_uint};
use std::ptr::{null_mut, slice_from_raw_parts_mut};
use std::time::Duration;

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR,
    KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVMIO,
    kvm_signal_mask, kvm_userspace_memory_region,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{_IOC_WRITE, ioctl_expr, ioctl_with_ref};

use super::host_error;
use crate::engine::EngineError;
use crate::memory::GuestRam;

/// The suberror of an internal error that means: an instruction that cannot be emulated.
pub(super) const EMULATION: u32 = KVM_INTERNAL_ERROR_EMULATION;

/// Puts all of `ram` at guest-physical address `gpa`, as memory slot `slot`.
///
/// The virtual machine must not outlive `ram`; [`super::KvmVm`] keeps a clone beside its descriptor.
pub(super) fn map_ram(vm: &VmFd, slot: u32, gpa: u64, ram: &GuestRam) -> Result<(), EngineError> {
    let userspace_addr = ram.host_address().map_err(|error| EngineError::Configuration(error.to_string()))?;
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: gpa,
        memory_size: ram.size(),
        userspace_addr,
    };
    // SAFETY: the address and size are those of one live mapping, which the caller keeps. KVM refuses slots that
    // overlap in guest-physical space; the same host memory in two slots is allowed.
    unsafe { vm.set_user_memory_region(region) }
        .map_err(|error| host_error("KVM_SET_USER_MEMORY_REGION", error))
}

/// `struct kvm_signal_mask` with its eight bytes.
#[repr(C)]
struct SignalMask {
    len: u32,
    sigset: [u8; 8],
}

/// Says which signals are blocked while KVM_RUN runs, instead of those that the thread has blocked.
///
/// `blocked` has signal `n` at bit `n - 1`, as the kernel's `sigset_t`.
pub(super) fn set_signal_mask(vcpu: &VcpuFd, blocked: u64) -> Result<(), EngineError> {
    const KVM_SET_SIGNAL_MASK_NUMBER: c_uint = 0x8b;
    const LENGTH: u32 = 8;
    // The size in the request's number is that of the structure without its variable part.
    let size = c_uint::try_from(size_of::<kvm_signal_mask>()).unwrap_or(4);
    let request = ioctl_expr(_IOC_WRITE, KVMIO, KVM_SET_SIGNAL_MASK_NUMBER, size);
    let mask = SignalMask { len: LENGTH, sigset: blocked.to_le_bytes() };
    // SAFETY: KVM reads `len` and then that many bytes behind it, all within `mask`.
    let status = unsafe { ioctl_with_ref(vcpu, request, &mask) };
    if status == 0 { Ok(()) } else { Err(host_error("KVM_SET_SIGNAL_MASK", errno::Error::last())) }
}

/// `struct kvm_interrupt`.
#[repr(C)]
struct Interrupt {
    irq: u32,
}

/// Has the processor take an external interrupt when it next runs; it must be ready for one.
pub(super) fn interrupt(vcpu: &VcpuFd, vector: u8) -> Result<(), EngineError> {
    const KVM_INTERRUPT_NUMBER: c_uint = 0x86;
    let size = c_uint::try_from(size_of::<Interrupt>()).unwrap_or(4);
    let request = ioctl_expr(_IOC_WRITE, KVMIO, KVM_INTERRUPT_NUMBER, size);
    // SAFETY: KVM reads the one field.
    let status = unsafe { ioctl_with_ref(vcpu, request, &Interrupt { irq: vector.into() }) };
    if status == 0 { Ok(()) } else { Err(host_error("KVM_INTERRUPT", errno::Error::last())) }
}

/// How the pending KVM_EXIT_IO accesses its port.
#[derive(Clone, Copy)]
pub(super) struct IoAccess {
    pub(super) size: u8,
    pub(super) count: u32,
}

/// Width and number of the accesses of the current exit, if that is KVM_EXIT_IO.
pub(super) fn io_access(vcpu: &mut VcpuFd) -> Option<IoAccess> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_IO {
        return None;
    }
    // SAFETY: the exit reason says that this member was filled in; all its bit patterns are valid.
    let io = unsafe { run.__bindgen_anon_1.io };
    Some(IoAccess { size: io.size, count: io.count })
}

/// Fills in what an IN reads; `false` if the current exit is no KVM_EXIT_IO of this length. `run_size` is the length of
/// the mapping behind `kvm_run`.
pub(super) fn answer_io_in(vcpu: &mut VcpuFd, run_size: usize, data: &[u8]) -> bool {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_IO {
        return false;
    }
    // SAFETY: as in `io_access`.
    let io = unsafe { run.__bindgen_anon_1.io };
    let length = usize::try_from(io.count).ok().and_then(|count| count.checked_mul(usize::from(io.size)));
    let offset = usize::try_from(io.data_offset).ok();
    let (Some(length), Some(offset)) = (length, offset) else {
        return false;
    };
    if length != data.len() || offset.checked_add(length).is_none_or(|end| end > run_size) {
        return false;
    }
    // SAFETY: kvm-ioctls maps `run_size` bytes from `run` on for as long as the vCPU lives, and offset + length was
    // checked to lie within. The pointer comes from the mapping's own address; nothing else refers to it now.
    unsafe {
        let start = std::ptr::from_mut(run).cast::<u8>().add(offset);
        (*slice_from_raw_parts_mut(start, length)).copy_from_slice(data);
    }
    true
}

/// Fills in what an MMIO read reads; `false` if the current exit is no KVM_EXIT_MMIO or `data` is too long.
pub(super) fn answer_mmio_read(vcpu: &mut VcpuFd, data: &[u8]) -> bool {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_MMIO {
        return false;
    }
    // SAFETY: the exit reason says that this member was filled in; all its bit patterns are valid.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    let Some(place) = mmio.data.get_mut(..data.len()) else {
        return false;
    };
    place.copy_from_slice(data);
    true
}

/// Answers RDMSR or WRMSR: the value (which WRMSR ignores), or `None` for #GP; `false` if the current exit is neither.
pub(super) fn answer_msr(vcpu: &mut VcpuFd, outcome: Option<u64>) -> bool {
    let run = vcpu.get_kvm_run();
    if !matches!(run.exit_reason, KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR) {
        return false;
    }
    // SAFETY: the exit reason says that this member was filled in; all its bit patterns are valid.
    let msr = unsafe { &mut run.__bindgen_anon_1.msr };
    msr.error = u8::from(outcome.is_none());
    msr.data = outcome.unwrap_or(msr.data);
    true
}

/// The suberror of KVM_EXIT_INTERNAL_ERROR, and the instruction's bytes if KVM gave them.
pub(super) fn internal_error(vcpu: &mut VcpuFd) -> Option<(u32, Vec<u8>)> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return None;
    }
    // SAFETY: the exit reason says that this member was filled in; all its bit patterns are valid.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    if internal.suberror != KVM_INTERNAL_ERROR_EMULATION || internal.ndata < 3 {
        return Some((internal.suberror, Vec::new()));
    }
    // SAFETY: for this suberror the same bytes have this shape; all bit patterns are valid, and what is used of them
    // is bounded by `get`.
    let (flags, bytes) = unsafe {
        let failure = &run.__bindgen_anon_1.emulation_failure;
        (failure.flags, failure.__bindgen_anon_1.__bindgen_anon_1)
    };
    let has_bytes = flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
    let length = if has_bytes { usize::from(bytes.insn_size) } else { 0 };
    Some((internal.suberror, bytes.insn_bytes.get(..length).unwrap_or(&bytes.insn_bytes).to_vec()))
}

/// A one-shot timer that sends a signal to the thread that made it. Not `Send`, as it holds a `timer_t`.
pub(super) struct ThreadTimer(libc::timer_t);

impl ThreadTimer {
    /// A disarmed timer for `signal` to the calling thread.
    pub(super) fn new(signal: c_int) -> Result<Self, EngineError> {
        // SAFETY: an all-zero sigevent is valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: gettid has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = null_mut();
        // SAFETY: both pointers are to live values; `timer` is filled in on success.
        let status = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) };
        if status == 0 { Ok(Self(timer)) } else { Err(host_error("timer_create", errno::Error::last())) }
    }

    /// Fires once, `after` from now, and at least a nanosecond from now; replaces what was set before.
    pub(super) fn set(&self, after: Duration) -> Result<(), EngineError> {
        let after = after.max(Duration::from_nanos(1));
        // SAFETY: an all-zero itimerspec is valid.
        let mut setting: libc::itimerspec = unsafe { std::mem::zeroed() };
        setting.it_value.tv_sec = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
        setting.it_value.tv_nsec = after.subsec_nanos().into();
        // SAFETY: the timer lives until `drop`; the setting is a live value; no old setting is asked for.
        let status = unsafe { libc::timer_settime(self.0, 0, &setting, null_mut()) };
        if status == 0 { Ok(()) } else { Err(host_error("timer_settime", errno::Error::last())) }
    }
}

impl Drop for ThreadTimer {
    fn drop(&mut self) {
        // SAFETY: made by `timer_create`, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
