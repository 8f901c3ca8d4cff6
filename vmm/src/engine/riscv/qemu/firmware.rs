//! The firmware's memory: behind the guest's, and not the guest's.

use std::ops::Range;

use super::{
    opensbi::{ALIGNMENT, OpenSbi},
    shim,
};
use crate::{
    engine::{
        EngineError,
        riscv::{Entry, RAM_BASE},
    },
    memory::GuestRam,
};

/// Bytes of the firmware's memory. QEMU writes a device tree of its own, which nobody reads, near the end of memory: at a multiple
/// of 16 MiB or less (QEMU, `hw/riscv/boot.c`), so it lies within this.
pub(super) const SIZE: u64 = 32 << 20;
/// That device tree does not go beyond this address, even if memory does.
const QEMU_FDT_END: u64 = 3 << 30;

/// What runs in machine mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Ours alone: every trap is an exit, and the guest has no devices.
    BareMetal,
    /// OpenSBI: what the TSM is to answer is an exit, and OpenSBI does the rest, with QEMU's devices.
    OpenSbi(Box<OpenSbiBoot>),
}

/// What an OpenSBI is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSbiBoot {
    /// OpenSBI.
    pub image: OpenSbi,
    /// The machine as OpenSBI is to see it; it changes this. The guest's device tree is not this one.
    pub fdt: Vec<u8>,
}

/// `struct fw_dynamic_info`, version 2: magic number, version, where to go on, in which mode, options, hart (OpenSBI,
/// `include/sbi/fw_dynamic.h`).
const INFO_MAGIC: u64 = 0x4942_534f;
const INFO_VERSION: u64 = 2;
const MODE_SUPERVISOR: u64 = 1;

/// From the beginning of the firmware's memory on: OpenSBI with its shims, then what is used once.
const BOOT: u64 = 0x10_0000;
const TRAMPOLINE: u64 = 0x10_1000;
const INFO: u64 = 0x10_2000;
const FDT: u64 = 0x11_0000;
/// OpenSBI adds to its device tree.
const FDT_ROOM: usize = 0x1_0000;

/// Firmware in its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Where the hart begins.
    pub(super) start: u64,
    /// Where the mailboxes are, from the beginning of the firmware's memory on.
    pub(super) mailboxes: Vec<u64>,
}

/// Guest-physical addresses of the guest's RAM.
pub(super) fn guest_range(ram: &GuestRam) -> Range<u64> {
    RAM_BASE..RAM_BASE.saturating_add(ram.size())
}

/// What of the guest's RAM QEMU may overwrite with its device tree before the hart begins, as offsets.
pub(super) fn overwritten(ram: &GuestRam) -> Range<u64> {
    let range = guest_range(ram);
    let end = range.end.saturating_add(SIZE).min(QEMU_FDT_END);
    end.saturating_sub(SIZE).clamp(range.start, range.end) - RAM_BASE..end.min(range.end) - RAM_BASE
}

impl Firmware {
    /// What is wrong with this amount of RAM, if anything is.
    pub(super) fn check(&self, ram: &GuestRam) -> Result<(), EngineError> {
        match self {
            Self::OpenSbi(_) if !ram.size().is_multiple_of(ALIGNMENT) => {
                let problem = "RAM for a guest with OpenSBI has to be a multiple of 2 MiB";
                Err(EngineError::Configuration(problem.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the firmware that begins the guest at `entry` into its memory.
    pub(super) fn place(
        &self,
        memory: &GuestRam,
        guest: &Range<u64>,
        entry: Entry,
    ) -> Result<Placed, EngineError> {
        let base = guest.end;
        let write = |offset: u64, bytes: &[u8]| {
            let outside =
                |_| EngineError::Configuration("the firmware does not fit into its memory".to_owned());
            memory.write(offset, bytes).map_err(outside)
        };
        match self {
            Self::BareMetal => {
                let shim = shim::bare_metal(base, guest, entry)?;
                write(0, &shim.bytes)?;
                Ok(Placed { start: base, mailboxes: vec![shim.mailbox] })
            }
            Self::OpenSbi(boot) => {
                if boot.fdt.len() > FDT_ROOM {
                    return Err(EngineError::Configuration("the device tree is too large".to_owned()));
                }
                let patched = boot.image.patched(base)?;
                write(0, &patched.bytes)?;
                write(BOOT, &shim::boot(base + BOOT, base, entry.hart, base + FDT, base + INFO)?)?;
                write(TRAMPOLINE, &shim::trampoline(base + TRAMPOLINE, entry)?)?;
                let info = [INFO_MAGIC, INFO_VERSION, base + TRAMPOLINE, MODE_SUPERVISOR, 0, entry.hart];
                write(INFO, &info.map(u64::to_le_bytes).concat())?;
                write(FDT, &boot.fdt)?;
                Ok(Placed { start: base + BOOT, mailboxes: patched.mailboxes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{super::opensbi::tests::image, *};

    fn opensbi(fdt: Vec<u8>) -> Firmware {
        Firmware::OpenSbi(Box::new(OpenSbiBoot { image: OpenSbi::read(image()).unwrap(), fdt }))
    }

    #[test]
    fn opensbi_is_told_where_the_guest_begins() {
        let memory = GuestRam::new(SIZE).unwrap();
        let entry = Entry { pc: RAM_BASE + 0x20_0000, hart: 0, argument: 0x8800_0000 };
        let guest = RAM_BASE..RAM_BASE + (64 << 20);
        let placed = opensbi(b"tree".to_vec()).place(&memory, &guest, entry).unwrap();
        assert_eq!(placed.start, guest.end + BOOT);
        let word = |offset: u64| {
            let mut word = [0; 8];
            memory.read(offset, &mut word).unwrap();
            u64::from_le_bytes(word)
        };
        assert_eq!([0, 8, 16, 24].map(|at| word(INFO + at)), [0x4942_534f, 2, guest.end + TRAMPOLINE, 1]);
        assert_eq!(word(FDT), u64::from(u32::from_le_bytes(*b"tree")));
        assert_eq!(word(placed.mailboxes[0]), 0);
        let too_large = opensbi(vec![0; FDT_ROOM + 1]).place(&memory, &guest, entry);
        assert!(matches!(too_large, Err(EngineError::Configuration(_))));
    }

    #[rstest]
    #[case::aligned(64 << 20, true)]
    #[case::not(1 << 20, false)]
    fn opensbi_wants_ram_in_units(#[case] size: u64, #[case] good: bool) {
        let ram = GuestRam::new(size).unwrap();
        assert_eq!(opensbi(Vec::new()).check(&ram).is_ok(), good);
        assert!(Firmware::BareMetal.check(&ram).is_ok());
    }

    #[rstest]
    #[case::little(512 << 20, 512 << 20..512 << 20)]
    #[case::a_gib(1 << 30, (1 << 30) - SIZE..1 << 30)]
    #[case::two_gib(2 << 30, (1 << 30) - SIZE..1 << 30)]
    fn qemus_device_tree_may_be_in_ram(#[case] size: u64, #[case] range: Range<u64>) {
        assert_eq!(overwritten(&GuestRam::new(size).unwrap()), range);
    }

    #[test]
    fn bare_metal_firmware_begins_the_guest() {
        let memory = GuestRam::new(SIZE).unwrap();
        let entry = Entry { pc: RAM_BASE, hart: 0, argument: 5 };
        let guest = RAM_BASE..RAM_BASE + 0x1000;
        let placed = Firmware::BareMetal.place(&memory, &guest, entry).unwrap();
        assert_eq!((placed.start, placed.mailboxes.len()), (guest.end, 1));
        let mut first = [0; 4];
        memory.read(0, &mut first).unwrap();
        // csrw mie, zero
        assert_eq!(u32::from_le_bytes(first), 0x3040_1073);
    }
}
