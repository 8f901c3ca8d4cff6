//! TDCALL, and TDVMCALL by it, with named operands.

use tsmsim_abi::tdx::{
    leaf::{LeafAndVersion, TdcallLeaf, VmcallControl},
    status::{CompletionStatus, OperandId, StatusCode},
    vmcall::{VmcallStatus, VmcallSubFunction},
};

use crate::guest::{
    arch::td::{Registers, call, call_with_interrupts, gpr},
    tap::{Check, equal},
};

/// A call of the module to be made; after it, what it came to.
#[derive(Clone, Copy)]
pub(super) struct Tdcall(Registers);

impl Tdcall {
    /// Version 0 of a function.
    pub(super) fn new(leaf: TdcallLeaf) -> Self {
        Self([0; 16]).with(gpr::RAX, LeafAndVersion::new().with_leaf(leaf.0).into())
    }

    /// With a register.
    pub(super) fn with(mut self, register: usize, value: u64) -> Self {
        self.0[register] = value;
        self
    }

    /// With RCX.
    pub(super) fn rcx(self, value: u64) -> Self {
        self.with(gpr::RCX, value)
    }

    /// With RDX.
    pub(super) fn rdx(self, value: u64) -> Self {
        self.with(gpr::RDX, value)
    }

    /// With R8.
    pub(super) fn r8(self, value: u64) -> Self {
        self.with(gpr::R8, value)
    }

    /// Makes the call.
    pub(super) fn run(mut self) -> Self {
        call(&mut self.0);
        self
    }

    /// A register.
    pub(super) fn get(&self, register: usize) -> u64 {
        self.0[register]
    }

    /// RAX after the call.
    pub(super) fn status(&self) -> CompletionStatus {
        CompletionStatus(self.get(gpr::RAX))
    }

    /// Makes the call, which must end with this status.
    pub(super) fn expect(self, status: CompletionStatus) -> Check<Self> {
        let after = self.run();
        equal("RAX", after.status(), status)?;
        Ok(after)
    }

    /// Makes the call, which must succeed.
    pub(super) fn succeed(self) -> Check<Self> {
        self.expect(CompletionStatus::SUCCESS)
    }

    /// Makes the call, which must be refused with this status.
    pub(super) fn refused(self, status: CompletionStatus) -> Check {
        self.expect(status).map(drop)
    }
}

/// `OPERAND_INVALID` with this operand.
pub(super) const fn invalid(operand: OperandId) -> CompletionStatus {
    StatusCode::OPERAND_INVALID.of(operand)
}

/// A TDVMCALL to be made; after it, what it came to.
#[derive(Clone, Copy)]
pub(super) struct Vmcall(Tdcall);

impl Vmcall {
    /// A standard sub-function that sees R10 to R15.
    pub(super) fn new(sub_function: VmcallSubFunction) -> Self {
        let control = VmcallControl::new().with_gpr_select(VmcallControl::GPR_R10_TO_R15);
        let call = Tdcall::new(TdcallLeaf::TDG_VP_VMCALL).rcx(control.into());
        Self(call.with(gpr::R11, sub_function.0))
    }

    /// With R12 and those that follow.
    pub(super) fn operands<const N: usize>(mut self, values: [u64; N]) -> Self {
        for (register, value) in (gpr::R12..=gpr::R15).zip(values) {
            self.0 = self.0.with(register, value);
        }
        self
    }

    /// With any register.
    pub(super) fn with(self, register: usize, value: u64) -> Self {
        Self(self.0.with(register, value))
    }

    /// Makes the call; the module itself must let it through.
    pub(super) fn run(self) -> Check<Self> {
        self.0.succeed().map(Self)
    }

    /// The same with interrupts on.
    pub(super) fn run_with_interrupts(mut self) -> Check<Self> {
        call_with_interrupts(&mut self.0.0);
        equal("RAX", self.0.status(), CompletionStatus::SUCCESS)?;
        Ok(self)
    }

    /// R10 after the call.
    pub(super) fn status(&self) -> VmcallStatus {
        VmcallStatus(self.get(gpr::R10))
    }

    /// A register.
    pub(super) fn get(&self, register: usize) -> u64 {
        self.0.get(register)
    }

    /// Makes the call, which the host must answer with this status.
    pub(super) fn expect(self, status: VmcallStatus) -> Check<Self> {
        let after = self.run()?;
        equal("R10", after.status(), status)?;
        Ok(after)
    }

    /// Makes the call, which the host must serve.
    pub(super) fn succeed(self) -> Check<Self> {
        self.expect(VmcallStatus::SUCCESS)
    }

    /// Makes the call, which the host must refuse with this status.
    pub(super) fn refused(self, status: VmcallStatus) -> Check {
        self.expect(status).map(drop)
    }
}
