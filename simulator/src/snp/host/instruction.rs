//! Exits that stand for one instruction of the guest (56421 rev. 2.04, table 7).

use tsmsim_abi::snp::ghcb::{GhcbField, MalformedInput, event_injection};

use super::{
    Hypervisor,
    exit::{Exit, Refusal, Reply, low32},
};

/// #GP(0).
pub(super) const GENERAL_PROTECTION: Refusal = Refusal::exception(event_injection(13, Some(0)));

/// `TSC_AUX`, which RDTSCP returns in ECX.
const MSR_TSC_AUX: u32 = 0xc000_0103;

/// Bytes that one memory-mapped access moves at most (protocol version 2).
const MMIO_MAX: u64 = 8;

/// CPUID. XCR0 and XSS matter to leaf Dh only; XCR0 is 1 at reset.
pub(super) fn cpuid(exit: &mut Exit<'_, '_>) -> Reply {
    let [leaf, subleaf] = [exit.ghcb.rax, exit.ghcb.rcx].map(|register| low32(register.get()));
    let given = |field, value, default| if exit.ghcb.is_valid(field) { value } else { default };
    let xcr0 = given(GhcbField::XCR0, exit.ghcb.xcr0.get(), 1);
    let xss = given(GhcbField::XSS, exit.ghcb.xss.get(), 0);
    let [eax, ebx, ecx, edx] = exit.devices.cpuid(leaf, subleaf, xcr0, xss).map(u64::from);
    Reply::default()
        .with(GhcbField::RAX, eax)
        .with(GhcbField::RBX, ebx)
        .with(GhcbField::RCX, ecx)
        .with(GhcbField::RDX, edx)
}

/// RDMSR and WRMSR; what the host does not know is a #GP, as on hardware.
pub(super) fn msr(exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
    let index = low32(exit.ghcb.rcx.get());
    match exit.info1() {
        0 => {
            let value = exit.devices.read_msr(index).ok_or(GENERAL_PROTECTION)?;
            let (low, high) = (value & 0xffff_ffff, value >> 32);
            Ok(Reply::default().with(GhcbField::RAX, low).with(GhcbField::RDX, high))
        }
        1 => {
            let [low, high] = [exit.ghcb.rax, exit.ghcb.rdx].map(|register| register.get() & 0xffff_ffff);
            exit.devices.write_msr(index, high << 32 | low).ok_or(GENERAL_PROTECTION)?;
            Ok(Reply::default())
        }
        _ => Err(MalformedInput::INVALID_INPUT.into()),
    }
}

/// `SW_EXITINFO1` of an IOIO exit: `EXITINFO1` of the IOIO intercept (APM volume 2, section 15.10.2).
#[derive(Clone, Copy)]
struct Ioio {
    input: bool,
    string: bool,
    size: u8,
    port: u16,
}

impl Ioio {
    fn new(info1: u64) -> Option<Self> {
        let size = match info1 >> 4 & 7 {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        let port = (info1 >> 16 & 0xffff) as u16;
        Some(Self { input: info1 & 1 != 0, string: info1 & 4 != 0, size, port })
    }
}

impl Hypervisor {
    pub(super) fn read_dr7(&self, exit: &Exit<'_, '_>) -> Reply {
        Reply::default().with(GhcbField::RAX, self.vcpus[exit.vcpu].dr7)
    }

    pub(super) fn write_dr7(&mut self, exit: &Exit<'_, '_>) -> Reply {
        self.vcpus[exit.vcpu].dr7 = exit.ghcb.rax.get();
        Reply::default()
    }

    pub(super) fn rdtsc(&self, exit: &Exit<'_, '_>) -> Reply {
        let ticks = u128::from(exit.env.clock.now_ns()) * u128::from(self.config.tsc_khz) / 1_000_000;
        let [low, high] = [ticks, ticks >> 32].map(|half| u64::from((half & 0xffff_ffff) as u32));
        Reply::default().with(GhcbField::RAX, low).with(GhcbField::RDX, high)
    }

    pub(super) fn rdtscp(&self, exit: &mut Exit<'_, '_>) -> Reply {
        let aux = exit.devices.read_msr(MSR_TSC_AUX).unwrap_or_default();
        self.rdtsc(exit).with(GhcbField::RCX, aux & 0xffff_ffff)
    }

    /// Port I/O. A string instruction moves `SW_EXITINFO2` elements through the scratch area.
    pub(super) fn ioio(&self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let io = Ioio::new(exit.info1()).ok_or(MalformedInput::INVALID_INPUT)?;
        if io.string {
            return self.string_io(exit, io);
        }
        let mask = u64::MAX >> (64 - 8 * u32::from(io.size));
        if io.input {
            let value = u64::from(exit.devices.port_in(io.port, io.size)) & mask;
            return Ok(Reply::default().with(GhcbField::RAX, value));
        }
        let value = low32(exit.ghcb.rax.get() & mask);
        exit.devices.port_out(io.port, io.size, value);
        Ok(Reply::default())
    }

    fn string_io(&self, exit: &mut Exit<'_, '_>, io: Ioio) -> Result<Reply, Refusal> {
        let size = usize::from(io.size);
        let count = usize::try_from(exit.info2()).ok().and_then(|count| count.checked_mul(size));
        let len = count.ok_or(MalformedInput::INVALID_INPUT)?;
        if len == 0 {
            return Ok(Reply::default());
        }
        let scratch = self.scratch(exit, len)?;
        if io.input {
            let element = |_| exit.devices.port_in(io.port, io.size).to_le_bytes();
            let data = (0..len / size).map(element).flat_map(|bytes| bytes.into_iter().take(size)).collect();
            return Ok(Reply { scratch: Some((scratch.gpa, data)), ..Reply::default() });
        }
        for element in self.read_scratch(exit, scratch, len)?.chunks_exact(size) {
            let mut bytes = [0; 4];
            bytes[..size].copy_from_slice(element);
            exit.devices.port_out(io.port, io.size, u32::from_le_bytes(bytes));
        }
        Ok(Reply::default())
    }

    /// Memory-mapped read of `SW_EXITINFO2` bytes at `SW_EXITINFO1` into the scratch area; nothing there: all ones.
    pub(super) fn mmio_read(&self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let Some(len) = mmio_length(exit)? else { return Ok(Reply::default()) };
        let scratch = self.scratch(exit, len)?;
        let mut data = vec![0xff; len];
        if exit.devices.mmio_read(exit.info1(), &mut data).is_none() {
            data.fill(0xff);
        }
        Ok(Reply { scratch: Some((scratch.gpa, data)), ..Reply::default() })
    }

    /// Memory-mapped write of `SW_EXITINFO2` bytes from the scratch area to `SW_EXITINFO1`; nothing there: dropped.
    pub(super) fn mmio_write(&self, exit: &mut Exit<'_, '_>) -> Result<Reply, Refusal> {
        let Some(len) = mmio_length(exit)? else { return Ok(Reply::default()) };
        let scratch = self.scratch(exit, len)?;
        let data = self.read_scratch(exit, scratch, len)?;
        // A bus does not say that nobody took the write.
        let _ = exit.devices.mmio_write(exit.info1(), &data);
        Ok(Reply::default())
    }
}

/// The length of a memory-mapped access; `None` for an empty one, which is done at once.
fn mmio_length(exit: &Exit<'_, '_>) -> Result<Option<usize>, Refusal> {
    match exit.info2() {
        0 => Ok(None),
        len @ 1..=MMIO_MAX => Ok(usize::try_from(len).ok()),
        _ => Err(MalformedInput::INVALID_INPUT.into()),
    }
}
