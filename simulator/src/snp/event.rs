//! Journal entries of an SNP machine.

use tsmsim_abi::snp::{
    ghcb::ExitCode,
    message::MessageType,
    msr::{GhcbMsr, TerminationReason},
    status::FirmwareStatus,
};

/// Something that happened to an SNP guest, its hypervisor or its firmware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnpEvent {
    /// A firmware command ended.
    Command {
        /// The specification's name, e.g. `SNP_LAUNCH_UPDATE`.
        name: &'static str,
        /// What it returned.
        status: FirmwareStatus,
    },
    /// A guest message authenticated and was answered.
    Message {
        /// Which VMPCK protected it.
        vmpck: u8,
        /// Its type.
        msg_type: MessageType,
        /// Its sequence number.
        seqno: u64,
        /// `STATUS` of the answer.
        status: FirmwareStatus,
    },
    /// A request of the GHCB MSR protocol.
    Msr {
        /// Which vCPU.
        vcpu: usize,
        /// What the guest wrote.
        request: GhcbMsr,
        /// What it reads back.
        response: GhcbMsr,
    },
    /// A non-automatic exit.
    Exit {
        /// Which vCPU.
        vcpu: usize,
        /// `SW_EXITCODE`.
        code: ExitCode,
        /// `SW_EXITINFO1` as the hypervisor left it.
        info1: u64,
        /// `SW_EXITINFO2` as the hypervisor left it.
        info2: u64,
    },
    /// The guest did something that hardware would have punished, or that the specification forbids.
    Violation {
        /// Guest-physical address concerned.
        gpa: u64,
        /// What.
        violation: Violation,
    },
    /// The guest ended itself.
    Terminated {
        /// Why.
        reason: TerminationReason,
    },
}

/// What a guest (or the hypervisor on its behalf) did wrong with a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// A page that the hypervisor must reach is private: hardware would raise an RMP fault in the host.
    HostAccessToPrivate,
    /// A private page is used that was never validated: hardware would raise #VC in the guest.
    GuestAccessToUnvalidated,
    /// A page was validated that is already validated (a possible remapping attack; PVALIDATE sets the carry flag).
    AlreadyValidated,
    /// A page was validated that is shared.
    ValidateShared,
    /// A page was made shared while it was still validated.
    SharedWhileValidated,
    /// RMPADJUST on a page that is not validated or not assigned.
    AdjustInvalid,
    /// The guest's GHCB was never registered.
    GhcbNotRegistered,
    /// A VMSA page was used as data, or a data page as VMSA.
    VmsaMismatch,
    /// An address outside guest memory.
    OutOfRange,
    /// PVALIDATE or RMPADJUST through a mapping without the C-bit.
    MappedWithoutCBit,
}
