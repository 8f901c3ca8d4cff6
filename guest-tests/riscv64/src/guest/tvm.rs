//! What all checks need: parameters, capabilities, registers.

use sha2::{Digest, Sha384, Sha512};
use tsmsim_abi::{
    cove::{
        attcaps::{AttestationCapabilities, HashAlgorithm, MAX_DIGEST_SIZE},
        covg::CovgFid,
        sbi::ExtensionId,
    },
    guest_test::{PARAMETERS_MAGIC, Parameters, riscv64::FDT_GPA},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    arch,
    call::{Call, probe},
    console,
    place::{CAPABILITIES, CONSOLE, DIGEST, PAGE, PARAMETERS},
    tap::{Check, Why, ensure},
};

/// The TVM.
pub(super) struct Tvm {
    /// What the host wants.
    pub(super) parameters: Parameters,
    /// What the TSM offers.
    pub(super) capabilities: AttestationCapabilities,
    /// Bytes of a digest.
    pub(super) digest_size: usize,
    /// Whether it was promoted, and not built in steps.
    pub(super) promoted: bool,
}

/// A register's value; what is beyond its size is zero.
pub(super) type Value = [u8; MAX_DIGEST_SIZE];

impl Tvm {
    /// Shares the pages that the host reads and writes, and asks what there is. The argument of a TVM that was built in steps
    /// is the address of the parameter page, that of one that was promoted is the address of the device tree.
    pub(super) fn start(argument: u64) -> Check<Self> {
        ensure!(probe(ExtensionId::COVG).succeed()? != 0, "there is no COVG extension");
        share(CONSOLE, PAGE).succeed()?;
        console::page_is_shared();
        let promoted = argument == FDT_GPA;
        ensure!(promoted || argument == PARAMETERS, "the argument is {argument:#x}");
        share(PARAMETERS, PAGE).succeed()?;
        let mut parameters = Parameters::new_zeroed();
        arch::read(PARAMETERS, parameters.as_mut_bytes());
        ensure!(parameters.magic == PARAMETERS_MAGIC, "there are no parameters");
        let capabilities = capabilities()?;
        let algorithm = HashAlgorithm(capabilities.hash_algorithm.get());
        let digest_size = algorithm.digest_size().ok_or(Why::new(format_args!("{algorithm} is unknown")))?;
        Ok(Self { parameters, capabilities, digest_size, promoted })
    }

    /// Reads a register.
    pub(super) fn register(&self, index: u64) -> Check<Value> {
        let size = self.digest_size as u64;
        Call::covg(CovgFid::READ_MEASUREMENT).arguments(&[DIGEST, size, index]).gives(size)?;
        let mut value = [0; MAX_DIGEST_SIZE];
        arch::read(DIGEST, &mut value[..self.digest_size]);
        Ok(value)
    }

    /// The call that extends a register by a digest.
    pub(super) fn extend(&self, index: u64, digest: &Value) -> Call {
        arch::write(DIGEST, digest);
        Call::covg(CovgFid::EXTEND_MEASUREMENT).arguments(&[DIGEST, self.digest_size as u64, index])
    }

    /// What a register is after it was extended; `None` of a hash that this program cannot compute.
    pub(super) fn extended(&self, register: &Value, digest: &Value) -> Option<Value> {
        let parts = [register, digest].map(|value| &value[..self.digest_size]);
        let mut value = [0; MAX_DIGEST_SIZE];
        match HashAlgorithm(self.capabilities.hash_algorithm.get()) {
            HashAlgorithm::SHA_384 => value[..48].copy_from_slice(&hash::<Sha384>(&parts)),
            HashAlgorithm::SHA_512 => value.copy_from_slice(&hash::<Sha512>(&parts)),
            _ => return None,
        }
        Some(value)
    }

    /// Initial and runtime registers.
    pub(super) fn registers(&self) -> [u64; 2] {
        let capabilities = &self.capabilities;
        [capabilities.initial_measurements, capabilities.runtime_measurements].map(u64::from)
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut digest = D::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// The call for capabilities.
pub(super) fn get_attcaps() -> Call {
    Call::covg(CovgFid::GET_ATTCAPS).arguments(&[CAPABILITIES, PAGE])
}

/// `sbi_covg_get_attcaps`.
pub(super) fn capabilities() -> Check<AttestationCapabilities> {
    get_attcaps().gives(size_of::<AttestationCapabilities>() as u64)?;
    let mut capabilities = AttestationCapabilities::new_zeroed();
    arch::read(CAPABILITIES, capabilities.as_mut_bytes());
    Ok(capabilities)
}

/// `sbi_covg_share_memory_region`.
pub(super) fn share(gpa: u64, length: u64) -> Call {
    Call::covg(CovgFid::SHARE_MEMORY_REGION).arguments(&[gpa, length])
}

/// `sbi_covg_unshare_memory_region`.
pub(super) fn unshare(gpa: u64, length: u64) -> Call {
    Call::covg(CovgFid::UNSHARE_MEMORY_REGION).arguments(&[gpa, length])
}
