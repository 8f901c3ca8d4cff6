//! The bare-metal guest: built in, or the user's.

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

/// Reads and measures a guest; the built-in one if none is named.
pub(crate) fn load(path: Option<&Path>) -> Result<Guest, Failure> {
    let elf = match (path, BUILT_IN) {
        (Some(path), _) => read_file(path)?,
        (None, Some(elf)) => elf.to_vec(),
        (None, None) => {
            return Err(Failure::Lacking(
                "this tsmsim was built without its test guest: build it with `cargo xtask build`, or name a guest with --kernel"
                    .to_owned(),
            ));
        }
    };
    let task = GuestTask { mode: 0, count: 0, report_data: [0; 64] };
    let measurement = load_elf(&elf, GuestPolicy::DEFAULT, &CpuidTable::new(), task)
        .map_err(|error| Failure::Usage(format!("the guest cannot be loaded: {error}")))?
        .measure()
        .map_err(|error| Failure::because("measuring the guest", error))?;
    Ok(Guest { elf, measurement })
}
