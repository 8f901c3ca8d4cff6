//! A Linux guest in memory, before its launch: kernel, RAM disk, boot parameters, and what confidential guests get.
//!
//! # What is launched
//! The guest is started as if its kernel were its firmware, so nothing in it validates (SNP) or accepts (TDX) memory before
//! the kernel uses it, and a kernel does that by itself only for memory that EFI calls unaccepted. A host that starts a
//! guest in this way therefore has to give it *all* of its memory at launch, and so does the plan here. Under SNP, what
//! holds nothing is launched as ZERO pages; under TDX every page is added, and those that hold something are extended into
//! `MRTD`. So the size of memory is part of the measurement, as it is of every such launch. A ZERO page or an added page
//! costs one or two blocks of SHA-384, and no contents are hashed: for 512 MiB, the launch takes less than a second.
//!
//! # What is not measured
//! The task for the init program (a nonce): its pages are UNMEASURED, or added without being extended.

use std::ops::Range;

use thiserror::Error;
use tsmsim_abi::{
    linux_boot::{
        BOOT_FLAG, BootParams, E820Entry, E820Type, HEADER_MAGIC, LOADED_HIGH, LOADER_UNDEFINED,
        PROTOCOL_VERSION, SetupData, SetupDataType,
    },
    snp::{
        PAGE_SIZE,
        launch::PageType,
        pages::{CC_BLOB_MAGIC, CcBlob},
        policy::GuestPolicy,
        vmsa::{Vmsa, VmsaSegment},
    },
    tdx::{ccel::LogWriter, td_params::TdParams},
};
use tsmsim_simulator::{env::OutOfRange, snp, tdx};
use zerocopy::{FromZeros, IntoBytes, little_endian::U64};

use super::{
    acpi::{EventLogArea, tables},
    image::{ImageError, KernelImage},
    layout::{
        ACPI, BOOT_PARAMS, CC_BLOB, CC_SETUP_DATA, COMMAND_LINE, COMMAND_LINE_MAX, CPUID, EVENT_LOG, GDT,
        HOLE, INITRD_END_MAX, PAGE_TABLES, RESERVED, SECRETS, STACK_END, TASK, TASK_MAX,
    },
};
use crate::{
    engine::{InitialState, cpuid::CpuidTable},
    loader::{
        bare_metal::{LoadError, cpuid_page},
        boot::{BootError, write_identity_tables},
        vmsa::long_mode_vmsa,
    },
    memory::GuestRam,
};

/// A page, as an address counts.
const PAGE: u64 = PAGE_SIZE as u64;

/// Why a guest could not be loaded.
#[derive(Debug, Error)]
pub enum LinuxLoadError {
    /// The kernel.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// RAM is too small.
    #[error(
        "{ram} MiB of memory are too few: the kernel ends at {kernel} MiB, and the RAM disk has {initrd} MiB"
    )]
    RamTooSmall {
        /// MiB of RAM.
        ram: u64,
        /// Where the kernel ends, in MiB.
        kernel: u64,
        /// MiB of the RAM disk.
        initrd: u64,
    },
    /// The command line is too long, or has a zero in it.
    #[error(
        "a command line has at most {COMMAND_LINE_MAX} bytes and no zero among them; this one has {0} bytes"
    )]
    CommandLine(usize),
    /// The task is too long.
    #[error("a task has at most {TASK_MAX} bytes; this one has {0}")]
    Task(usize),
    /// The CPUID page.
    #[error(transparent)]
    Cpuid(#[from] LoadError),
    /// The page tables.
    #[error(transparent)]
    Tables(#[from] BootError),
    /// Something lies outside RAM.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
}

/// What a guest gets of its kind.
#[derive(Clone, Copy, Debug)]
pub enum Tee<'a> {
    /// SEV-SNP: CC blob, secrets page, CPUID page.
    Snp {
        /// What the CPUID page is to say; 64 functions at most.
        cpuid: &'a CpuidTable,
    },
    /// TDX: with ACPI, an event log.
    Tdx,
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct LinuxGuest<'a> {
    /// The kernel.
    pub kernel: &'a KernelImage,
    /// The initial RAM disk; empty: none.
    pub initrd: &'a [u8],
    /// The command line, at most [`COMMAND_LINE_MAX`] bytes.
    pub command_line: &'a str,
    /// What kind of guest.
    pub tee: Tee<'a>,
    /// Whether there are ACPI tables; see [`super::acpi`]. Without them the command line needs `noapic`.
    pub acpi: bool,
    /// For the init program, not measured: [`tsmsim_abi::linux_guest::Task`] or nothing. At most [`TASK_MAX`] bytes.
    pub task: &'a [u8],
}

/// Where a descriptor table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Guest-physical address, and linear address.
    pub base: u64,
    /// Its size, less one.
    pub limit: u16,
}

/// How the processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxState {
    /// Registers: RIP is the kernel's entry, RSI the guest-physical address of the boot parameters.
    pub initial: InitialState,
    /// The descriptor table, in guest memory: [`descriptors`].
    pub gdt: DescriptorTable,
    /// The code segment's selector (Linux `__BOOT_CS`).
    pub cs: u16,
    /// The data segments' selector (Linux `__BOOT_DS`).
    pub data: u16,
}

/// The descriptors: none, 32-bit code at 08h, 64-bit code at 10h, data at 18h; all flat, ring 0.
#[must_use]
pub const fn descriptors() -> [u64; 4] {
    [0, 0x00cf_9b00_0000_ffff, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]
}

const CS: u16 = 0x10;
const DATA: u16 = 0x18;
const GDT_LIMIT: u16 = 31;

/// What a page of the guest's memory holds at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Data,
    Task,
    Secrets,
    Cpuid,
}

/// A guest in memory, before its launch and before anything was patched.
#[derive(Clone, Debug)]
pub struct LoadedLinux {
    state: LinuxState,
    vmsa: Box<Vmsa>,
    /// By page number.
    pages: Vec<Held>,
    ram_size: u64,
}

/// Puts a guest into `ram`, which is expected to be zero.
///
/// # Errors
/// [`LinuxLoadError`].
pub fn load(ram: &GuestRam, guest: &LinuxGuest<'_>) -> Result<LoadedLinux, LinuxLoadError> {
    check(guest)?;
    let initrd = place_initrd(ram, guest)?;
    let pages = usize::try_from(ram.size() / PAGE).unwrap_or(0);
    let mut loader = Loader { ram, pages: vec![Held::Nothing; pages] };
    guest.kernel.load(ram)?;
    for segment in guest.kernel.segments() {
        let length = u64::try_from(segment.contents.len()).unwrap_or(0);
        loader.mark(segment.paddr..segment.paddr + length, Held::Data);
    }
    loader.put(initrd.start, guest.initrd)?;
    let tables = write_identity_tables(ram, PAGE_TABLES)?;
    tables.pages().for_each(|page| loader.mark(page..page + PAGE, Held::Data));
    loader.put(GDT, descriptors().map(U64::new).as_bytes())?;
    loader.put(COMMAND_LINE, guest.command_line.as_bytes())?;
    let setup_data = loader.tee(guest)?;
    let rsdp = if guest.acpi { loader.acpi(guest)? } else { 0 };
    let mut parameters = boot_params(ram, &initrd, guest.command_line.len());
    parameters.acpi_rsdp_addr = rsdp.into();
    parameters.hdr.setup_data = setup_data.into();
    loader.put(BOOT_PARAMS, parameters.as_bytes())?;
    let mut initial = InitialState::long_mode(guest.kernel.entry(), tables.cr3);
    initial.registers.rsi = BOOT_PARAMS;
    initial.registers.rsp = STACK_END;
    let state =
        LinuxState { initial, gdt: DescriptorTable { base: GDT, limit: GDT_LIMIT }, cs: CS, data: DATA };
    Ok(LoadedLinux { state, vmsa: Box::new(vmsa(&state)), pages: loader.pages, ram_size: ram.size() })
}

fn check(guest: &LinuxGuest<'_>) -> Result<(), LinuxLoadError> {
    let line = guest.command_line;
    if line.len() > COMMAND_LINE_MAX || line.contains('\0') {
        return Err(LinuxLoadError::CommandLine(line.len()));
    }
    if guest.task.len() > TASK_MAX {
        return Err(LinuxLoadError::Task(guest.task.len()));
    }
    Ok(())
}

/// At the end of memory, where the kernel does not reach when it decompresses the archive.
fn place_initrd(ram: &GuestRam, guest: &LinuxGuest<'_>) -> Result<Range<u64>, LinuxLoadError> {
    let length = u64::try_from(guest.initrd.len()).unwrap_or(u64::MAX);
    let kernel_end = guest.kernel.end().max(HOLE.end).next_multiple_of(PAGE);
    let start = ram.size().min(INITRD_END_MAX).checked_sub(length).map(|start| start - start % PAGE);
    match start {
        Some(start) if start >= kernel_end => Ok(start..start + length),
        _ => Err(LinuxLoadError::RamTooSmall {
            ram: ram.size() >> 20,
            kernel: kernel_end.div_ceil(1 << 20),
            initrd: length.div_ceil(1 << 20),
        }),
    }
}

struct Loader<'a> {
    ram: &'a GuestRam,
    pages: Vec<Held>,
}

impl Loader<'_> {
    fn mark(&mut self, range: Range<u64>, held: Held) {
        for page in range.start / PAGE..range.end.div_ceil(PAGE) {
            if let Some(place) = usize::try_from(page).ok().and_then(|page| self.pages.get_mut(page)) {
                *place = held;
            }
        }
    }

    fn put(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.ram.write(gpa, bytes)?;
        self.mark(gpa..gpa + u64::try_from(bytes.len()).unwrap_or(0), Held::Data);
        Ok(())
    }

    /// What the kind of guest needs, and the task; gives the address of the first `setup_data`.
    fn tee(&mut self, guest: &LinuxGuest<'_>) -> Result<u64, LinuxLoadError> {
        let task = self.task(guest.task)?;
        let Tee::Snp { cpuid } = guest.tee else {
            return Ok(task);
        };
        let blob = CcBlob {
            magic: CC_BLOB_MAGIC.into(),
            version: 1.into(),
            secrets_phys: SECRETS.into(),
            secrets_len: 4096.into(),
            cpuid_phys: CPUID.into(),
            cpuid_len: 4096.into(),
            ..CcBlob::new_zeroed()
        };
        self.put(CC_BLOB, blob.as_bytes())?;
        let node = SetupData { next: task.into(), kind: SetupDataType::CC_BLOB.0.into(), len: 4.into() };
        let address: [u8; 8] = CC_BLOB.to_le_bytes();
        self.put(CC_SETUP_DATA, &[node.as_bytes(), &address[..4]].concat())?;
        self.put(CPUID, cpuid_page(cpuid)?.as_bytes())?;
        self.mark(CPUID..CPUID + PAGE, Held::Cpuid);
        self.mark(SECRETS..SECRETS + PAGE, Held::Secrets);
        Ok(CC_SETUP_DATA)
    }

    /// The node is there even for a task of no bytes, so that the measurement is the same for any.
    fn task(&mut self, task: &[u8]) -> Result<u64, LinuxLoadError> {
        let len = u32::try_from(task.len()).map_err(|_| LinuxLoadError::Task(task.len()))?;
        let node = SetupData { next: 0.into(), kind: SetupDataType::TSMSIM_TASK.0.into(), len: len.into() };
        self.put(TASK, &[node.as_bytes(), task].concat())?;
        // The whole area, so that a longer task changes nothing.
        self.mark(TASK..RESERVED.end, Held::Task);
        Ok(TASK)
    }

    /// ACPI tables; a TD gets the log of a machine without firmware: its first record alone.
    fn acpi(&mut self, guest: &LinuxGuest<'_>) -> Result<u64, LinuxLoadError> {
        let log = match guest.tee {
            Tee::Snp { .. } => None,
            Tee::Tdx => Some(EventLogArea { gpa: EVENT_LOG, size: PAGE }),
        };
        if let Some(area) = log {
            // Ones: no record.
            let mut bytes = [0xff; PAGE_SIZE];
            LogWriter::new(&mut bytes).map_err(|_| OutOfRange { gpa: area.gpa, len: PAGE_SIZE })?;
            self.put(area.gpa, &bytes)?;
        }
        self.put(ACPI.start, &tables(ACPI.start, log))?;
        Ok(ACPI.start)
    }
}

fn boot_params(ram: &GuestRam, initrd: &Range<u64>, command_line: usize) -> BootParams {
    let low = |value: u64| u32::try_from(value).unwrap_or(0);
    let mut parameters = BootParams::new_zeroed();
    let header = &mut parameters.hdr;
    header.boot_flag = BOOT_FLAG.into();
    header.header = HEADER_MAGIC;
    header.version = PROTOCOL_VERSION.into();
    header.type_of_loader = LOADER_UNDEFINED;
    header.loadflags = LOADED_HIGH;
    header.kernel_alignment = 0x20_0000.into();
    if !initrd.is_empty() {
        // Below 4 GiB, as place_initrd chose.
        header.ramdisk_image = low(initrd.start).into();
        header.ramdisk_size = low(initrd.end - initrd.start).into();
    }
    if command_line > 0 {
        header.cmd_line_ptr = low(COMMAND_LINE).into();
    }
    header.cmdline_size = u32::try_from(COMMAND_LINE_MAX).unwrap_or(0).into();
    let map = [
        (0..RESERVED.start, E820Type::RAM),
        (RESERVED, E820Type::RESERVED),
        (ACPI, E820Type::ACPI),
        (HOLE, E820Type::RESERVED),
        (HOLE.end..ram.size(), E820Type::RAM),
    ];
    for (place, (range, kind)) in parameters.e820_table.iter_mut().zip(&map) {
        *place = E820Entry {
            addr: range.start.into(),
            size: (range.end - range.start).into(),
            kind: kind.0.into(),
        };
    }
    parameters.e820_entries = u8::try_from(map.len()).unwrap_or(0);
    parameters
}

/// What KVM would measure of a processor in this state.
fn vmsa(state: &LinuxState) -> Vmsa {
    let registers = &state.initial.registers;
    let segment =
        |descriptor: VmsaSegment, selector: u16| VmsaSegment { selector: selector.into(), ..descriptor };
    let vmsa = long_mode_vmsa(registers.rip, state.initial.cr3, registers.rdi);
    Vmsa {
        cs: segment(vmsa.cs, state.cs),
        ds: segment(vmsa.ds, state.data),
        es: segment(vmsa.es, state.data),
        fs: segment(vmsa.fs, state.data),
        gs: segment(vmsa.gs, state.data),
        ss: segment(vmsa.ss, state.data),
        gdtr: VmsaSegment::new(0, 0, u32::from(state.gdt.limit), state.gdt.base),
        cr0: state.initial.cr0.into(),
        // MCE, which a hypervisor of SNP guests cannot intercept and therefore sets.
        cr4: (state.initial.cr4 | 1 << 6).into(),
        rsi: registers.rsi.into(),
        rsp: registers.rsp.into(),
        ..vmsa
    }
}

impl LoadedLinux {
    /// How the processor begins.
    #[must_use]
    pub fn state(&self) -> LinuxState {
        self.state
    }

    /// The same as the VMSA that an SNP guest's launch measures.
    #[must_use]
    pub fn vmsa(&self) -> &Vmsa {
        &self.vmsa
    }

    /// Guest-physical addresses of memory.
    #[must_use]
    pub fn ram_ranges(&self) -> Vec<Range<u64>> {
        vec![0..HOLE.start, HOLE.end..self.ram_size]
    }

    /// The pages of memory, ascending.
    fn pages(&self) -> impl Iterator<Item = (u64, Held)> + '_ {
        let pages = (0..self.ram_size).step_by(PAGE_SIZE).zip(&self.pages);
        pages.filter(|(gpa, _)| !HOLE.contains(gpa)).map(|(gpa, held)| (gpa, *held))
    }

    /// The launch of an SNP guest. Pages that hold something are taken from memory, so it is to be launched, or
    /// [measured](snp::host::LaunchPlan::measure), before anything is patched.
    #[must_use]
    pub fn snp_plan(&self, policy: GuestPolicy) -> snp::host::LaunchPlan {
        let mut plan = snp::host::LaunchPlan::from(policy);
        plan.pages = self
            .pages()
            .map(|(gpa, held)| {
                let page_type = match held {
                    Held::Nothing => PageType::ZERO,
                    Held::Data => PageType::NORMAL,
                    Held::Task => PageType::UNMEASURED,
                    Held::Secrets => PageType::SECRETS,
                    Held::Cpuid => PageType::CPUID,
                };
                snp::host::PlannedPage::memory(page_type, gpa)
            })
            .collect();
        let mut page = Box::new([0; PAGE_SIZE]);
        page.copy_from_slice(self.vmsa.as_bytes());
        plan.pages.push(snp::host::PlannedPage::vmsa(page));
        plan
    }

    /// The launch of a TD, one VCPU. Pages that hold something are taken from memory, so it is to be launched before
    /// anything is patched.
    #[must_use]
    pub fn tdx_plan(&self, params: TdParams) -> tdx::machine::LaunchPlan {
        let pages = self
            .pages()
            .map(|(gpa, held)| tdx::machine::PlannedPage {
                gpa,
                contents: None,
                measured: held == Held::Data,
            })
            .collect();
        tdx::machine::LaunchPlan { params, ram: self.ram_ranges(), vcpus: 1, pages }
    }
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
