//! Measurement registers: `M' = H(M || data)` (`attestation.adoc`, "Measurements").
//!
//! Pure computation: `tsmsim measure` uses the same type as the TSM's model.

use aws_lc_rs::digest::{self, Algorithm, Context};
use tsmsim_abi::cove::{attcaps::HashAlgorithm, claims::register};

use super::PAGE_SIZE;

/// One of the hash algorithms that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(HashAlgorithm);

impl Hash {
    /// The algorithm of a code, if it is known.
    #[must_use]
    pub fn new(algorithm: HashAlgorithm) -> Option<Self> {
        algorithm.digest_size().map(|_| Self(algorithm))
    }

    /// Its code.
    #[must_use]
    pub const fn algorithm(self) -> HashAlgorithm {
        self.0
    }

    /// Bytes of a digest.
    #[must_use]
    pub fn size(self) -> usize {
        self.implementation().output_len()
    }

    /// Its name in evidence.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.iana_name().unwrap_or_default()
    }

    const fn implementation(self) -> &'static Algorithm {
        match self.0 {
            HashAlgorithm::SHA_512 => &digest::SHA512,
            HashAlgorithm::SHA3_384 => &digest::SHA3_384,
            HashAlgorithm::SHA3_512 => &digest::SHA3_512,
            _ => &digest::SHA384,
        }
    }

    /// The digest of some parts, one behind the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = Context::new(self.implementation());
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }

    /// A register before anything was measured.
    #[must_use]
    pub fn zeros(self) -> Vec<u8> {
        vec![0; self.size()]
    }

    /// Extends a register by some parts, one behind the other.
    pub fn extend(self, register: &mut Vec<u8>, parts: &[&[u8]]) {
        let all: Vec<&[u8]> = std::iter::once(register.as_slice()).chain(parts.iter().copied()).collect();
        *register = self.digest(&all);
    }
}

/// The initial registers of a TVM, by [`register`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialRegisters {
    hash: Hash,
    values: [Vec<u8>; register::COUNT],
}

impl InitialRegisters {
    /// All zero.
    #[must_use]
    pub fn new(hash: Hash) -> Self {
        Self { hash, values: std::array::from_fn(|_| hash.zeros()) }
    }

    /// The hash algorithm.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The registers.
    #[must_use]
    pub const fn values(&self) -> &[Vec<u8>; register::COUNT] {
        &self.values
    }

    /// Extends a register. There is none beyond the last.
    pub fn extend(&mut self, index: usize, parts: &[&[u8]]) {
        if let Some(value) = self.values.get_mut(index) {
            self.hash.extend(value, parts);
        }
    }

    /// A measured page: its guest-physical address, then its contents.
    pub fn measured_page(&mut self, gpa: u64, contents: &[u8; PAGE_SIZE]) {
        self.extend(register::TVM_PAGES, &[&gpa.to_le_bytes(), contents]);
    }

    /// Entry point and argument, at finalize.
    pub fn entry(&mut self, entry_sepc: u64, entry_arg: u64) {
        self.extend(register::TVM_CONFIGURATION, &[&entry_sepc.to_le_bytes()]);
        self.extend(register::TVM_CONFIGURATION, &[&entry_arg.to_le_bytes()]);
    }

    /// What a TAP names: SHA-512 over the registers of the TVM.
    #[must_use]
    pub fn local_measurement(&self) -> [u8; 64] {
        let parts =
            [register::TVM_PAGES, register::TVM_CONFIGURATION].map(|index| self.values[index].as_slice());
        let digest = digest::digest(&digest::SHA512, &parts.concat());
        let mut measurement = [0; 64];
        measurement.copy_from_slice(digest.as_ref());
        measurement
    }

    /// `H(Meas)` of the TVM's layer: from zeros, extended with each register.
    #[must_use]
    pub fn layer(&self) -> Vec<u8> {
        let mut layer = self.hash.zeros();
        self.values.iter().for_each(|value| self.hash.extend(&mut layer, &[value]));
        layer
    }
}
