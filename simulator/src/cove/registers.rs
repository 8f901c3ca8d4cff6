//! The registers of an SBI call.

use tsmsim_abi::cove::{
    covg::CovgFid,
    sbi::{BaseFid, ExtensionId, SbiError},
};

/// `a0` to `a7`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers(pub [u64; 8]);

impl Registers {
    /// Of a COVG call; arguments from `a0` on.
    #[must_use]
    pub fn covg(fid: CovgFid, arguments: &[u64]) -> Self {
        Self::call(ExtensionId::COVG, fid.0.into(), arguments)
    }

    /// Of `sbi_probe_extension`.
    #[must_use]
    pub fn probe(extension: ExtensionId) -> Self {
        Self::call(ExtensionId::BASE, BaseFid::PROBE_EXTENSION.0.into(), &[extension.0])
    }

    /// Of any call; arguments from `a0` on, six at most.
    #[must_use]
    pub fn call(extension: ExtensionId, a6: u64, arguments: &[u64]) -> Self {
        let mut registers = [0; 8];
        registers.iter_mut().take(6).zip(arguments).for_each(|(register, value)| *register = *value);
        registers[6] = a6;
        registers[7] = extension.0;
        Self(registers)
    }

    /// `a7`.
    #[must_use]
    pub const fn extension(&self) -> ExtensionId {
        ExtensionId(self.0[7])
    }

    /// `a0` after the call.
    #[must_use]
    pub const fn error(&self) -> SbiError {
        SbiError::from_register(self.0[0])
    }

    /// `a1` after the call.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0[1]
    }

    /// Puts `sbiret` into `a0` and `a1`; the value of an error is zero.
    pub const fn set(&mut self, result: Result<u64, SbiError>) {
        match result {
            Ok(value) => {
                self.0[0] = SbiError::SUCCESS.to_register();
                self.0[1] = value;
            }
            Err(error) => {
                self.0[0] = error.to_register();
                self.0[1] = 0;
            }
        }
    }
}
