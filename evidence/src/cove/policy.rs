//! What a verifier demands beyond what every sound evidence fulfils.

use tsmsim_abi::cove::{claims::MANUFACTURER_ID_SIZE, covh::TVM_IDENTITY_SIZE};

use crate::{Timestamp, TrustedRoot};

/// What is demanded. [`Policy::at`] demands what every TVM on a secured platform fulfils; set fields for more or for less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The moment for which certificates and lists must be valid.
    pub at: Timestamp,
    /// Which roots are good enough.
    pub trust: TrustedRoot,
    /// Registers by their index, initial ones first, and the values that they must have.
    pub registers: Vec<(u64, Vec<u8>)>,
    /// What the host must have said of the TVM.
    pub identity: Option<[u8; TVM_IDENTITY_SIZE]>,
    /// Whose platform it must be.
    pub manufacturer_id: Option<[u8; MANUFACTURER_ID_SIZE]>,
    /// Takes platforms in the debug state.
    pub allow_debug: bool,
    /// Refuses when there is no revocation list.
    pub require_crl: bool,
}

impl Policy {
    /// The default: a secured platform; no values expected.
    #[must_use]
    pub const fn at(at: Timestamp) -> Self {
        Self {
            at,
            trust: TrustedRoot::Recognised,
            registers: Vec::new(),
            identity: None,
            manufacturer_id: None,
            allow_debug: false,
            require_crl: false,
        }
    }
}
