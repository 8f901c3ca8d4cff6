//! OpenSBI, as distributions ship it: found, and changed in memory so that the [shim](super::shim) sees each `ecall` first.
//!
//! OpenSBI's code finds its own address, so it runs wherever it is put. Its trap entries are the addresses that its first
//! page of code writes to `mtvec`; each begins with `csrrw tp, mscratch, tp` and `sd t0, OFFSET(tp)` (OpenSBI,
//! `firmware/fw_base.S`, `TRAP_SAVE_AND_SETUP_SP_T0`). The first of the two becomes a jump. An image in which this is not
//! found so is refused, and nothing is guessed.

use std::{fs, io, path::PathBuf};

use super::shim;
use crate::engine::EngineError;

/// Where packages have it: OpenSBI's own, and QEMU's.
const PATHS: [&str; 4] = [
    "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
    "/usr/share/opensbi/lp64/generic/firmware/fw_dynamic.bin",
    "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
    "/usr/local/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
];

/// Where the shims are, from OpenSBI's first byte on. Releases 1.1 to 1.6 use less than this on one hart, with stack and heap,
/// and protect the memory up to a power of two that is not below [`PROTECTED`].
pub(super) const SHIMS: u64 = 0x5_f000;
/// The end of what OpenSBI protects from the guest.
pub(super) const PROTECTED: u64 = 0x6_0000;
/// What OpenSBI is placed at a multiple of, so that the protected memory is its own alone.
pub(super) const ALIGNMENT: u64 = 0x20_0000;
/// Larger images use more memory than is known here.
const MAX_IMAGE: usize = 0x4_8000;
/// The code of `fw_base.S` comes first; it is much smaller than this.
const FIRST_CODE: usize = 0x1000;
/// How far before a write to `mtvec` its value is made up.
const MOST_BETWEEN: usize = 64;

/// `csrrw tp, mscratch, tp`.
const SWAP_TP: u32 = 0x3402_1273;
/// `csrw mtvec, REGISTER`, without the register.
const WRITE_MTVEC: u32 = 0x3050_1073;
/// `sd t0, OFFSET(tp)`, without the offset.
const SAVE_T0: u32 = 0x0052_3023;
/// `wfi`: where a hart waits before it has a trap entry.
const WFI: u32 = 0x1050_0073;

/// An OpenSBI image that was recognised: `fw_dynamic.bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSbi {
    image: Vec<u8>,
    entries: Vec<TrapEntry>,
}

/// A trap entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrapEntry {
    /// From the image's first byte on.
    offset: usize,
    /// Where it saves `t0`, in scratch space.
    temporary: i32,
}

/// An OpenSBI with shims, and where the mailbox of each is; all from the image's first byte on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patched {
    /// Up to the end of the shims.
    pub(super) bytes: Vec<u8>,
    /// The mailboxes.
    pub(super) mailboxes: Vec<u64>,
}

impl OpenSbi {
    /// The one that is installed, or the one that the environment variable `TSMSIM_OPENSBI` names.
    ///
    /// # Errors
    /// If there is none, with what to install, or if it is not recognised.
    pub fn find() -> Result<Self, EngineError> {
        let named = std::env::var_os("TSMSIM_OPENSBI").map(PathBuf::from);
        let path = named.or_else(|| PATHS.map(PathBuf::from).into_iter().find(|path| path.is_file()));
        let Some(path) = path else {
            let hint = "install it (Debian, Ubuntu: package opensbi)";
            return Err(EngineError::Missing(format!("there is no OpenSBI on this machine: {hint}")));
        };
        let unreadable = |error: io::Error| EngineError::Missing(format!("{}: {error}", path.display()));
        let image = fs::read(&path).map_err(unreadable)?;
        Self::read(image).map_err(|error| match error {
            EngineError::Configuration(problem) => {
                EngineError::Configuration(format!("{}: {problem}", path.display()))
            }
            other => other,
        })
    }

    /// Takes an image, `fw_dynamic.bin`, if its trap entries are found. Any bytes give an image or an error.
    ///
    /// # Errors
    /// [`EngineError::Configuration`]: what is not as it is known here.
    pub fn read(image: Vec<u8>) -> Result<Self, EngineError> {
        if image.len() > MAX_IMAGE {
            let problem = format!("{} bytes are more than those of known releases", image.len());
            return Err(unknown(&problem));
        }
        let entries = trap_entries(&image)?;
        if entries.is_empty() {
            return Err(unknown("there is no trap entry"));
        }
        Ok(Self { image, entries })
    }

    /// The image for address `base`, each trap entry with a shim in front of it.
    pub(super) fn patched(&self, base: u64) -> Result<Patched, EngineError> {
        let mut bytes = self.image.clone();
        bytes.resize(usize::try_from(SHIMS).unwrap_or(usize::MAX), 0);
        let mut mailboxes = Vec::new();
        for entry in &self.entries {
            let at = base + to_u64(entry.offset);
            bytes.resize(bytes.len().next_multiple_of(64), 0);
            let place = to_u64(bytes.len());
            let shim = shim::in_front_of(base + place, at, entry.temporary)?;
            mailboxes.push(place + shim.mailbox);
            bytes.extend(&shim.bytes);
            let jump = shim::jump(at, base + place)?;
            if let Some(instruction) = bytes.get_mut(entry.offset..entry.offset + jump.len()) {
                instruction.copy_from_slice(&jump);
            }
        }
        if to_u64(bytes.len()) > PROTECTED {
            return Err(unknown("it has too many trap entries"));
        }
        Ok(Patched { bytes, mailboxes })
    }
}

fn unknown(problem: &str) -> EngineError {
    EngineError::Configuration(format!("not an OpenSBI that is known (releases 1.1 to 1.6 are): {problem}"))
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The instruction at an offset, as if it had four bytes.
fn instruction(code: &[u8], offset: usize) -> Option<u32> {
    code.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The trap entries, each once, in ascending order.
fn trap_entries(image: &[u8]) -> Result<Vec<TrapEntry>, EngineError> {
    let mut entries = Vec::new();
    let end = image.len().min(FIRST_CODE);
    for at in (0..end).step_by(2) {
        let Some(written) = instruction(image, at).filter(|code| code & 0xfff0_7fff == WRITE_MTVEC) else {
            continue;
        };
        let register = written >> 15 & 31;
        let first = at.saturating_sub(MOST_BETWEEN);
        let mut targets =
            (first..at).step_by(2).rev().filter_map(|place| address_made(image, place, register));
        let Some(last) = targets.next() else {
            return Err(unknown(&format!("what is written to mtvec at {at:#x} is not clear")));
        };
        entries.extend(trap_entry(image, last)?);
        // A branch may choose between two entries; or the register held something else before.
        entries.extend(targets.filter_map(|target| trap_entry(image, target).ok().flatten()));
    }
    entries.sort_by_key(|entry| entry.offset);
    entries.dedup();
    Ok(entries)
}

/// The address that `auipc` and `addi` at `place` make in a register, from the image's first byte on.
fn address_made(image: &[u8], place: usize, register: u32) -> Option<usize> {
    const AUIPC: u32 = 0x17;
    const ADDI: u32 = 0x13;
    let first = instruction(image, place).filter(|code| code & 0xfff == register << 7 | AUIPC)?;
    let expected = register << 15 | register << 7 | ADDI;
    let second = instruction(image, place + 4).filter(|code| code & 0xf_ffff == expected)?;
    let high = i64::from((first & 0xffff_f000).cast_signed());
    let low = i64::from(second.cast_signed() >> 20);
    usize::try_from(i64::try_from(place).ok()? + high + low).ok()
}

/// What lies at an address that is written to `mtvec`: a trap entry, or the place where a hart that is in nobody's hands waits.
fn trap_entry(image: &[u8], offset: usize) -> Result<Option<TrapEntry>, EngineError> {
    let problem = |what: &str| unknown(&format!("at {offset:#x}, written to mtvec, {what}"));
    if !offset.is_multiple_of(4) {
        return Err(problem("no trap entry can be"));
    }
    match (instruction(image, offset), instruction(image, offset.saturating_add(4))) {
        (Some(WFI), _) => Ok(None),
        (Some(SWAP_TP), Some(save)) if save & 0x01ff_f07f == SAVE_T0 => {
            let temporary = save.cast_signed() >> 25 << 5 | (save >> 7 & 31).cast_signed();
            Ok(Some(TrapEntry { offset, temporary }))
        }
        _ => Err(problem("is no trap entry")),
    }
}

#[cfg(test)]
#[path = "opensbi_tests.rs"]
pub(super) mod tests;
