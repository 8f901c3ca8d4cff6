//! What a verifier demands beyond what every genuine quote fulfils.

use tsmsim_abi::tdx::report::{Measurement, NUM_RTMRS};

use super::TcbStatus;
use crate::{Timestamp, TrustedRoot};

/// What is demanded. [`Policy::at`] demands what every quote of a production TD fulfils; set fields for more or for less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The moment for which certificates, lists and documents must be valid.
    pub at: Timestamp,
    /// Which roots are good enough.
    pub trust: TrustedRoot,
    /// Which TCB statuses are good enough. [`TcbStatus::Revoked`] never is.
    pub accepted_statuses: Vec<TcbStatus>,
    /// `tcbEvaluationDataNumber` of both documents is at least this.
    pub minimum_evaluation_data_number: u32,
    /// `MRSEAM`: the module.
    pub mr_seam: Option<Measurement>,
    /// `MRTD`.
    pub mr_td: Option<Measurement>,
    /// `MRCONFIGID`.
    pub mr_config_id: Option<Measurement>,
    /// `MROWNER`.
    pub mr_owner: Option<Measurement>,
    /// `MROWNERCONFIG`.
    pub mr_owner_config: Option<Measurement>,
    /// `RTMR0` to `RTMR3`.
    pub rtmr: [Option<Measurement>; NUM_RTMRS],
    /// `XFAM`, all 64 bits.
    pub xfam: Option<u64>,
    /// Takes TDs and enclaves that may be debugged, or profiled.
    pub allow_debug: bool,
    /// Takes TDs that may be migrated or that service TDs are bound to.
    pub allow_service_td: bool,
    /// Takes TDs for which `SEPT_VE_DISABLE` is not set.
    pub allow_sept_ve: bool,
    /// Takes bytes that are not zero behind the quote.
    pub allow_trailing: bool,
    /// Refuses when there is no collateral: without it, neither revocation nor TCB can be judged.
    pub require_collateral: bool,
}

impl Policy {
    /// The default: up to date, no debugging, no migration, collateral demanded; no values expected.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self {
            at,
            trust: TrustedRoot::Recognised,
            accepted_statuses: vec![TcbStatus::UpToDate],
            minimum_evaluation_data_number: 0,
            mr_seam: None,
            mr_td: None,
            mr_config_id: None,
            mr_owner: None,
            mr_owner_config: None,
            rtmr: [None; NUM_RTMRS],
            xfam: None,
            allow_debug: false,
            allow_service_td: false,
            allow_sept_ve: false,
            allow_trailing: false,
            require_collateral: true,
        }
    }
}
