//! Fault points: named places in dispatch at which a plan may make something go wrong.
//!
//! The points are always compiled in and always consulted; [`NoFaults`] answers that nothing is to happen. Each is
//! named after the specification's command or exit. The journal has each fault that was wanted, and whether it came to
//! nothing.

use crate::journal::{Event, Journal};

/// A named place in dispatch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FaultPoint {
    /// The name that a plan uses.
    pub name: &'static str,
    /// What goes through here.
    pub what: &'static str,
}

macro_rules! points {
    ($( $konst:ident = $name:literal, $what:literal; )*) => {
        impl FaultPoint {
            $( #[doc = $what] pub const $konst: Self = Self { name: $name, what: $what }; )*

            /// Every point.
            pub const ALL: &'static [Self] = &[ $( Self::$konst ),* ];
        }
    };
}

points! {
    SNP_LAUNCH_START = "snp.launch-start", "SNP_LAUNCH_START, before its checks";
    SNP_LAUNCH_UPDATE = "snp.launch-update", "SNP_LAUNCH_UPDATE, before its checks";
    SNP_LAUNCH_FINISH = "snp.launch-finish", "SNP_LAUNCH_FINISH, before its checks";
    SNP_GUEST_REQUEST = "snp.guest-request", "SNP_GUEST_REQUEST: the command's status, before its checks";
    SNP_MESSAGE = "snp.message", "a guest message that authenticated, before its own checks: the payload's STATUS";
    SNP_REPORT = "snp.report", "an attestation report, signed, before it is put into the response";
    SNP_RESPONSE = "snp.response", "a response page, encrypted, before it is written to the guest";
    GHCB_MSR = "ghcb.msr", "a GHCB MSR protocol request: the response value";
    GHCB_EXIT = "ghcb.exit", "a non-automatic exit, before it is served: SW_EXITINFO1 and SW_EXITINFO2";
    GHCB_PAGE_STATE_CHANGE = "ghcb.page-state-change", "a page state change, before it is made";
    GHCB_GUEST_REQUEST = "ghcb.guest-request", "a guest request, before the firmware is called: the host's error";
    GHCB_CERTIFICATES = "ghcb.certificates", "the certificate table of an extended guest request, before it is copied";
    GHCB_AP_CREATION = "ghcb.ap-creation", "SNP AP creation, before its checks";
    TDX_MNG_INIT = "tdx.mng-init", "TDH.MNG.INIT, before its checks";
    TDX_MEM_PAGE_ADD = "tdx.mem-page-add", "TDH.MEM.PAGE.ADD, before its checks";
    TDX_MR_EXTEND = "tdx.mr-extend", "TDH.MR.EXTEND, before its checks";
    TDX_MR_FINALIZE = "tdx.mr-finalize", "TDH.MR.FINALIZE, before its checks";
    TDX_TDCALL = "tdx.tdcall", "a TDCALL other than TDG.VP.VMCALL, before its checks: the completion status";
    TDX_REPORT = "tdx.report", "a TDREPORT with its MAC, before it is written to the guest";
    TDX_VMCALL = "tdx.vmcall", "a TDG.VP.VMCALL, before it is served: the status in R10";
    TDX_QUOTE = "tdx.quote", "the answer to GetQuote, before it is written to the guest: its bytes, or its status";
    COVE_COVH = "cove.covh", "a COVH call of the host, before its checks: the error";
    COVE_ECALL = "cove.ecall", "a COVG call, before its checks: the error in a0";
    COVE_CONVERSION = "cove.conversion", "the host's part of share or unshare: the error in a0";
    COVE_TOKEN = "cove.token", "the claims of a TVM token, before it is signed";
    COVE_EVIDENCE = "cove.evidence", "a TVM's certificate, signed, before it is written to the guest";
}

/// What is to go wrong. A point applies the actions that make sense for it and journals the others as ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultAction {
    /// Answer with this status or value instead of doing the work.
    Status(u64),
    /// Do the work, then flip this bit (counted from bit 0 of byte 0) of the data that goes through.
    FlipBit(usize),
    /// Do the work, then cut the data to this many bytes (the rest reads as zero).
    Truncate(usize),
    /// Do the work, then put these bytes in place of the data, from this offset on.
    Overwrite {
        /// Where.
        offset: usize,
        /// What.
        bytes: Vec<u8>,
    },
    /// Drop the answer: the guest's buffer stays as it was.
    Drop,
}

impl FaultAction {
    /// Whether the action changes the data that goes through a point.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        matches!(self, Self::FlipBit(_) | Self::Truncate(_) | Self::Overwrite { .. })
    }

    /// Applies a data action to a buffer. Returns whether anything was changed; bits and bytes outside are left alone.
    pub fn apply(&self, data: &mut [u8]) -> bool {
        match self {
            Self::FlipBit(bit) => match data.get_mut(bit / 8) {
                Some(byte) => {
                    *byte ^= 1 << (bit % 8);
                    true
                }
                None => false,
            },
            Self::Truncate(len) => match data.get_mut(*len..) {
                Some(rest) => {
                    rest.fill(0);
                    true
                }
                None => false,
            },
            Self::Overwrite { offset, bytes } => {
                let end = offset.saturating_add(bytes.len());
                match data.get_mut(*offset..end) {
                    Some(range) => {
                        range.copy_from_slice(bytes);
                        true
                    }
                    None => false,
                }
            }
            Self::Status(_) | Self::Drop => false,
        }
    }
}

/// Decides what goes wrong, point by point.
pub trait FaultHook: Send {
    /// Called each time that dispatch passes the point.
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction>;
}

/// Nothing goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl FaultHook for NoFaults {
    fn consult(&mut self, _: FaultPoint) -> Option<FaultAction> {
        None
    }
}

/// Asks the hook and journals what it wants. What the point then cannot do is [`ignored`].
pub fn consult(hook: &mut dyn FaultHook, journal: &mut Journal, point: FaultPoint) -> Option<FaultAction> {
    let action = hook.consult(point)?;
    journal.record(Event::Fault { point, action: action.clone() });
    Some(action)
}

/// Journals that a fault came to nothing: the action makes no sense at this point, or its place lies outside the data.
pub fn ignored(journal: &mut Journal, point: FaultPoint, action: &FaultAction) {
    journal.record(Event::FaultIgnored { point, action: action.clone() });
}

/// Applies a data action to what goes through a point ([`FaultAction::apply`]), or journals it as ignored. Returns whether
/// anything was changed.
pub fn apply(journal: &mut Journal, point: FaultPoint, action: &FaultAction, data: &mut [u8]) -> bool {
    let applied = action.apply(data);
    if !applied {
        ignored(journal, point, action);
    }
    applied
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(FaultAction::FlipBit(9), Some([0, 2, 0]))]
    #[case(FaultAction::FlipBit(24), None)]
    #[case(FaultAction::Overwrite { offset: 1, bytes: vec![7, 8] }, Some([0, 7, 8]))]
    #[case(FaultAction::Overwrite { offset: usize::MAX, bytes: vec![7] }, None)]
    #[case(FaultAction::Drop, None)]
    fn data_actions(#[case] action: FaultAction, #[case] expected: Option<[u8; 3]>) {
        let mut data = [0; 3];
        assert_eq!(action.apply(&mut data), expected.is_some());
        assert_eq!(data, expected.unwrap_or_default());
    }

    #[rstest]
    #[case(FaultAction::FlipBit(0), &[])]
    #[case(FaultAction::FlipBit(8), &[FaultAction::FlipBit(8)])]
    #[case(FaultAction::Status(1), &[FaultAction::Status(1)])]
    fn what_changes_nothing_is_journalled(#[case] action: FaultAction, #[case] expected: &[FaultAction]) {
        let (mut journal, point) = (Journal::new(), FaultPoint::SNP_REPORT);
        assert_eq!(apply(&mut journal, point, &action, &mut [0]), expected.is_empty());
        let ignored = |action: &FaultAction| Event::FaultIgnored { point, action: action.clone() };
        let expected: Vec<_> = expected.iter().map(ignored).collect();
        assert!(journal.entries().map(|(_, event)| event).eq(&expected));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = FaultPoint::ALL.iter().map(|point| point.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FaultPoint::ALL.len());
    }
}
