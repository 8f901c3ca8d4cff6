//! SBI calls, and what is expected of them.

use tsmsim_abi::cove::{
    covg::CovgFid,
    sbi::{BaseFid, ExtensionId, SbiError},
};

use super::{
    arch::ecall,
    tap::{Check, ensure},
};

/// A call, not yet made.
#[derive(Clone, Copy)]
pub(super) struct Call {
    registers: [u64; 8],
}

impl Call {
    /// Of any extension.
    pub(super) const fn new(extension: ExtensionId, a6: u64) -> Self {
        Self { registers: [0, 0, 0, 0, 0, 0, a6, extension.0] }
    }

    /// Of COVG.
    pub(super) fn covg(function: CovgFid) -> Self {
        Self::new(ExtensionId::COVG, function.0.into())
    }

    /// With `a0` and further.
    pub(super) fn arguments(mut self, arguments: &[u64]) -> Self {
        self.registers.iter_mut().take(6).zip(arguments).for_each(|(register, value)| *register = *value);
        self
    }

    /// With another argument at this position.
    pub(super) const fn with(mut self, position: usize, value: u64) -> Self {
        self.registers[position] = value;
        self
    }

    /// With more bits in `a6`.
    pub(super) const fn with_a6(mut self, bits: u64) -> Self {
        self.registers[6] |= bits;
        self
    }

    /// Makes it: error and value.
    pub(super) fn make(self) -> (SbiError, u64) {
        let [error, value, ..] = ecall(self.registers);
        (SbiError::from_register(error), value)
    }

    /// It succeeds; gives the value. No register changes but `a0` and `a1`.
    pub(super) fn succeed(self) -> Check<u64> {
        let [error, value, rest @ ..] = ecall(self.registers);
        let error = SbiError::from_register(error);
        ensure!(error == SbiError::SUCCESS, "{error}");
        ensure!(rest == self.registers[2..], "a2 to a7 are not as they were");
        Ok(value)
    }

    /// It gives this value.
    pub(super) fn gives(self, expected: u64) -> Check {
        let value = self.succeed()?;
        ensure!(value == expected, "the value is {value:#x}, not {expected:#x}");
        Ok(())
    }

    /// It ends with this error and the value zero, and no other register changes.
    pub(super) fn refused(self, expected: SbiError) -> Check {
        let [error, value, rest @ ..] = ecall(self.registers);
        let error = SbiError::from_register(error);
        ensure!(error == expected, "{error}, not {expected}");
        ensure!(value == 0, "an error with the value {value:#x}");
        ensure!(rest == self.registers[2..], "a2 to a7 are not as they were");
        Ok(())
    }
}

/// `sbi_probe_extension`.
pub(super) fn probe(extension: ExtensionId) -> Call {
    Call::new(ExtensionId::BASE, BaseFid::PROBE_EXTENSION.0.into()).arguments(&[extension.0])
}
