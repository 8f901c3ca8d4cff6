//! The bare-metal guests: built in, or the user's.

use std::path::Path;

use tsmsim_abi::snp::policy::GuestPolicy;
use tsmsim_simulator::snp::launch::LaunchDigest;
use tsmsim_vmm::{
    engine::cpuid::CpuidTable,
    loader::bare_metal::{GuestTask, load as load_elf},
};

use crate::{failure::Failure, output::read_file};

/// An ELF image that can be loaded.
pub(crate) struct Guest {
    /// The image.
    pub(crate) elf: Vec<u8>,
    measurement: LaunchDigest,
}

impl Guest {
    /// The launch measurement.
    pub(crate) const fn measure(&self) -> &LaunchDigest {
        &self.measurement
    }
}

#[cfg(embedded_guest)]
const BUILT_IN: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/guest-x86_64.elf")));
#[cfg(not(embedded_guest))]
const BUILT_IN: Option<&[u8]> = None;

#[cfg(embedded_guest_riscv64)]
const BUILT_IN_RISCV64: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/guest-riscv64.elf")));
#[cfg(not(embedded_guest_riscv64))]
const BUILT_IN_RISCV64: Option<&[u8]> = None;

/// Reads a RISC-V guest; the built-in one if none is named.
pub(crate) fn load_riscv64(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    read(path, BUILT_IN_RISCV64)
}

fn read(path: Option<&Path>, built_in: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
    match (path, built_in) {
        (Some(path), _) => read_file(path),
        (None, Some(elf)) => Ok(elf.to_vec()),
        (None, None) => Err(Failure::Lacking(
            "this tsmsim was built without its test guest: build it with `cargo xtask build`, or name a guest with --kernel"
                .to_owned(),
        )),
    }
}

/// Reads and measures an x86-64 guest; the built-in one if none is named.
pub(crate) fn load(path: Option<&Path>) -> Result<Guest, Failure> {
    let elf = read(path, BUILT_IN)?;
    let task = GuestTask { mode: 0, count: 0, report_data: [0; 64] };
    let measurement = load_elf(&elf, GuestPolicy::DEFAULT, &CpuidTable::new(), task)
        .map_err(|error| Failure::Usage(format!("the guest cannot be loaded: {error}")))?
        .measure()
        .map_err(|error| Failure::because("measuring the guest", error))?;
    Ok(Guest { elf, measurement })
}
