//! A Linux TVM in memory, before its launch: kernel, RAM disk, device tree.
//!
//! Each of the three is measured in whole pages, in this order, the kernel without what is zero behind it. All other memory is
//! confidential too, begins as zeros, and is mapped when the guest uses it; neither its contents nor its size are measured but
//! in the device tree. Entry point and address of the device tree are measured by `finalize_tvm`.
//!
//! Not measured is what comes over the serial ports, such as the task for the init program.

use std::ops::Range;

use thiserror::Error;
use tsmsim_abi::{cove::covh::TVM_IDENTITY_SIZE, linux_guest::CHANNEL_TASK_MAX};
use tsmsim_simulator::{
    cove::{
        PAGE_SIZE,
        machine::{LaunchPlan, PlannedPage},
        measure::InitialRegisters,
    },
    env::OutOfRange,
};

use super::{
    layout::COMMAND_LINE_MAX,
    riscv_fdt::{Reader, device_tree},
    riscv_image::{KERNEL_ALIGNMENT, RiscvImageError, RiscvKernel},
};
use crate::{engine::riscv::RAM_BASE, memory::PlacedRam};

const PAGE: u64 = PAGE_SIZE as u64;

/// Why a TVM could not be loaded.
#[derive(Debug, Error)]
pub enum TvmLoadError {
    /// The kernel.
    #[error(transparent)]
    Image(#[from] RiscvImageError),
    /// RAM is too small.
    #[error(
        "{ram} MiB of memory are too few: kernel and device tree end at {kernel} MiB, and the RAM disk has {initrd} MiB"
    )]
    RamTooSmall {
        /// MiB of RAM.
        ram: u64,
        /// Where kernel and device tree end, in MiB.
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
    #[error("a task has at most {CHANNEL_TASK_MAX} bytes; this one has {0}")]
    Task(usize),
    /// The device tree cannot be made.
    #[error("the device tree: {0}")]
    DeviceTree(#[from] vm_fdt::Error),
    /// Something lies outside RAM.
    #[error(transparent)]
    Memory(#[from] OutOfRange),
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct LinuxTvm<'a> {
    /// The kernel.
    pub kernel: &'a RiscvKernel,
    /// The initial RAM disk; empty: none.
    pub initrd: &'a [u8],
    /// The command line, at most [`COMMAND_LINE_MAX`] bytes.
    pub command_line: &'a str,
}

/// A TVM in memory, before its launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedLinuxTvm {
    ram: Range<u64>,
    /// What is measured, guest-physical, in whole pages.
    measured: Vec<Range<u64>>,
    entry: u64,
    fdt: u64,
}

/// Puts a TVM into `ram`, which is expected to begin at [`RAM_BASE`] and to be zero.
///
/// # Errors
/// [`TvmLoadError`].
pub fn load(ram: &PlacedRam, guest: &LinuxTvm<'_>) -> Result<LoadedLinuxTvm, TvmLoadError> {
    let line = guest.command_line;
    if line.len() > COMMAND_LINE_MAX || line.contains('\0') {
        return Err(TvmLoadError::CommandLine(line.len()));
    }
    let range = ram.range();
    let place = guest.kernel.place();
    let kernel = RAM_BASE + place.start..RAM_BASE + place.end;
    // Linux maps the device tree with pages of 2 MiB before it knows anything.
    let fdt = kernel.end.next_multiple_of(KERNEL_ALIGNMENT);
    let initrd_length = length(guest.initrd);
    let room = fdt + KERNEL_ALIGNMENT;
    let too_small = || TvmLoadError::RamTooSmall {
        ram: (range.end - range.start) >> 20,
        kernel: (room - RAM_BASE).div_ceil(1 << 20),
        initrd: initrd_length.div_ceil(1 << 20),
    };
    let initrd = range.end.checked_sub(initrd_length).map(|start| start - start % PAGE);
    let initrd = initrd.filter(|start| *start >= room).ok_or_else(too_small)?;
    let initrd = initrd..initrd + initrd_length;
    let tree = Reader::Kernel { command_line: line, initrd: &initrd };
    let tree = device_tree(range.end - range.start, tree)?;
    if length(&tree) > KERNEL_ALIGNMENT {
        return Err(TvmLoadError::CommandLine(line.len()));
    }
    let parts = [(kernel.start, guest.kernel.image()), (initrd.start, guest.initrd), (fdt, &tree)];
    for (gpa, bytes) in parts {
        ram.write(gpa, bytes)?;
    }
    let pages = |(gpa, bytes): (u64, &[u8])| gpa..(gpa + length(bytes)).next_multiple_of(PAGE);
    let measured = parts.into_iter().map(pages).collect();
    Ok(LoadedLinuxTvm { ram: range, measured, entry: kernel.start, fdt })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl LoadedLinuxTvm {
    /// Guest-physical addresses of the measured pages, in the order of their measurement.
    fn pages(&self) -> impl Iterator<Item = u64> {
        self.measured.iter().flat_map(|range| range.clone().step_by(PAGE_SIZE))
    }

    /// The launch. `identity` is what the host calls the TVM; it is attested and not measured.
    #[must_use]
    pub fn plan(&self, identity: Option<[u8; TVM_IDENTITY_SIZE]>) -> LaunchPlan {
        LaunchPlan {
            ram: std::iter::once(self.ram.clone()).collect(),
            vcpus: 1,
            pages: self.pages().map(|gpa| PlannedPage { gpa, contents: None }).collect(),
            entry_sepc: self.entry,
            entry_arg: self.fdt,
            identity,
        }
    }

    /// The initial registers that the TVM in `ram` will have. `registers` are those that the platform gives every TVM
    /// ([`CovePlatform::initial_registers`](tsmsim_simulator::cove::platform::CovePlatform::initial_registers)).
    ///
    /// # Errors
    /// If `ram` is not what the TVM was loaded into.
    pub fn measure(
        &self,
        ram: &PlacedRam,
        mut registers: InitialRegisters,
    ) -> Result<InitialRegisters, OutOfRange> {
        let mut contents = [0; PAGE_SIZE];
        for gpa in self.pages() {
            ram.read(gpa, &mut contents)?;
            registers.measured_page(gpa, &contents);
        }
        registers.entry(self.entry, self.fdt);
        Ok(registers)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{super::riscv_image::tests::image, *};
    use crate::memory::GuestRam;

    const RAM: u64 = 16 << 20;

    fn ram(size: u64) -> PlacedRam {
        PlacedRam::new(GuestRam::new(size).unwrap(), RAM_BASE).unwrap()
    }

    fn kernel() -> RiscvKernel {
        RiscvKernel::read(&image(0x1800, 0x30_0000)).unwrap()
    }

    #[test]
    fn everything_is_in_its_place() {
        let (ram, kernel) = (ram(RAM), kernel());
        let guest = LinuxTvm { kernel: &kernel, initrd: &[7; 5000], command_line: "a=b" };
        let loaded = load(&ram, &guest).unwrap();
        let plan = loaded.plan(None);
        let end = RAM_BASE + RAM;
        let (start, fdt) = (RAM_BASE + 0x20_0000, RAM_BASE + 0x60_0000);
        assert_eq!((plan.entry_sepc, plan.entry_arg), (start, fdt));
        let pages: Vec<u64> = plan.pages.iter().map(|page| page.gpa).collect();
        assert_eq!(pages[..4], [start, start + PAGE, end - 2 * PAGE, end - PAGE]);
        assert_eq!(pages[4], fdt);
        let mut word = [0; 4];
        ram.read(end - 2 * PAGE + 4999, &mut word).unwrap();
        assert_eq!(word, [7, 0, 0, 0]);
        ram.read(fdt, &mut word).unwrap();
        assert_eq!(u32::from_be_bytes(word), 0xd00d_feed);
    }

    #[rstest]
    #[case::line("x", &[7; 5000])]
    #[case::initrd("a=b", &[7; 5001])]
    fn what_is_measured_makes_a_difference(#[case] command_line: &str, #[case] initrd: &[u8]) {
        use tsmsim_abi::cove::attcaps::HashAlgorithm;
        use tsmsim_simulator::cove::measure::Hash;
        let kernel = kernel();
        let measure = |command_line, initrd| {
            let ram = ram(RAM);
            let loaded = load(&ram, &LinuxTvm { kernel: &kernel, initrd, command_line }).unwrap();
            let registers = InitialRegisters::new(Hash::new(HashAlgorithm::SHA_384).unwrap());
            loaded.measure(&ram, registers).unwrap()
        };
        assert_ne!(measure(command_line, initrd), measure("a=b", &[7; 5000]));
        assert_eq!(measure("a=b", &[7; 5000]), measure("a=b", &[7; 5000]));
    }

    #[rstest]
    #[case::no_room(6 << 20, 0, "a", "too few")]
    #[case::no_room_for_initrd(9 << 20, 2 << 20, "a", "too few")]
    #[case::initrd_larger_than_ram(9 << 20, 10 << 20, "a", "too few")]
    #[case::zero_in_line(RAM, 0, "a\0b", "command line")]
    fn what_does_not_fit_is_refused(
        #[case] size: u64,
        #[case] initrd: usize,
        #[case] command_line: &str,
        #[case] problem: &str,
    ) {
        let guest = LinuxTvm { kernel: &kernel(), initrd: &vec![1; initrd], command_line };
        let error = load(&ram(size), &guest).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
