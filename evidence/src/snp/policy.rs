//! What a verifier demands beyond what every genuine report fulfils.

use tsmsim_abi::snp::tcb::TcbParts;

use crate::{Timestamp, TrustedRoot};

/// What is demanded. [`Policy::at`] demands what every report of a production guest fulfils; set fields for more or for less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The moment for which certificates and revocation lists must be valid.
    pub at: Timestamp,
    /// Which roots are good enough.
    pub trust: TrustedRoot,
    /// Launch digest.
    pub measurement: Option<[u8; 48]>,
    /// `HOST_DATA`.
    pub host_data: Option<[u8; 32]>,
    /// SHA-384 of the ID key.
    pub id_key_digest: Option<[u8; 48]>,
    /// SHA-384 of the author key.
    pub author_key_digest: Option<[u8; 48]>,
    /// The guest policy, all 64 bits.
    pub guest_policy: Option<u64>,
    /// Privilege level of the request; `0xffff_ffff` for requests of the host.
    pub vmpl: Option<u32>,
    /// `GUEST_SVN` is at least this.
    pub minimum_guest_svn: u32,
    /// Every component of `REPORTED_TCB` is at least this.
    pub minimum_tcb: Option<TcbParts>,
    /// Takes guests whose policy allows debugging.
    pub allow_debug: bool,
    /// Takes guests whose policy allows a migration agent, or that have one.
    pub allow_migration: bool,
    /// Takes a VCEK-signed report whose `CHIP_ID` is masked (zero), so that it cannot be compared with the VCEK.
    pub allow_masked_chip_id: bool,
    /// Takes certificate tables with entries of unknown GUIDs (which are not looked into).
    pub allow_unknown_table_entries: bool,
    /// Refuses when there is no revocation list.
    pub require_crl: bool,
}

impl Policy {
    /// The default: no debugging, no migration agent, no masked chip identifier; no values expected.
    #[must_use]
    pub const fn at(at: Timestamp) -> Self {
        Self {
            at,
            trust: TrustedRoot::Recognised,
            measurement: None,
            host_data: None,
            id_key_digest: None,
            author_key_digest: None,
            guest_policy: None,
            vmpl: None,
            minimum_guest_svn: 0,
            minimum_tcb: None,
            allow_debug: false,
            allow_migration: false,
            allow_masked_chip_id: false,
            allow_unknown_table_entries: false,
            require_crl: false,
        }
    }
}
