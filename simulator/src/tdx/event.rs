//! Journal entries of a TDX machine.

use tsmsim_abi::tdx::{
    get_quote::GetQuoteStatus,
    leaf::{SeamcallLeaf, TdcallLeaf},
    status::CompletionStatus,
    vmcall::{FatalError, VmcallStatus, VmcallSubFunction},
};

/// Something that happened to a TD, its host or the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TdxEvent {
    /// A host-side function ended.
    Seamcall {
        /// Which.
        leaf: SeamcallLeaf,
        /// What it returned.
        status: CompletionStatus,
    },
    /// A guest-side function ended.
    Tdcall {
        /// Which VCPU.
        vcpu: usize,
        /// Which function.
        leaf: TdcallLeaf,
        /// What it returned.
        status: CompletionStatus,
    },
    /// The host answered a TDVMCALL.
    VmCall {
        /// Which VCPU.
        vcpu: usize,
        /// `R11`.
        sub_function: VmcallSubFunction,
        /// `R10` as the guest reads it.
        status: VmcallStatus,
    },
    /// A `GetQuote` request ended.
    Quote {
        /// Guest-physical address of the buffer, without the shared bit.
        gpa: u64,
        /// The status in the buffer.
        status: GetQuoteStatus,
        /// Bytes of the answer.
        len: usize,
    },
    /// The TD did something that hardware would have stopped, or that the specification forbids.
    Violation {
        /// Guest-physical address concerned, without the shared bit.
        gpa: u64,
        /// What.
        violation: Violation,
    },
    /// The TD ended itself by `ReportFatalError`.
    Terminated {
        /// Why.
        error: FatalError,
    },
}

/// What a TD (or the host on its behalf) did wrong with a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// A private page was used that was never accepted: #VE, or a TD exit if the TD disabled that.
    AccessToPending,
    /// A private page was used that is not mapped, or blocked: an EPT violation exits to the host.
    AccessToUnmapped,
    /// A page was used as private that is shared.
    PrivateAccessToShared,
    /// A page was used as shared that is private: with KVM the machine would stop.
    SharedAccessToPrivate,
    /// A page was accepted that is already accepted: a possible attack by remapping, or a page accepted twice.
    AlreadyAccepted,
    /// A page was accepted that is shared.
    AcceptShared,
    /// An address outside guest memory.
    OutOfRange,
}
