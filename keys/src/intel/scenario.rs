//! Ways in which a platform and its collateral can stand, by name.

use super::{CrlKind, Hierarchy, PlatformIdentity, QeIdentitySpec, QuoteCollateral, TcbInfoSpec, TcbStatus};
use crate::KeysError;

/// `nextUpdate` of collateral that has run out.
const PAST_UPDATE: &str = "2023-02-01T00:00:00Z";

/// What a verifier is to find.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scenario {
    /// The platform reaches a TCB level of this status.
    Status(TcbStatus),
    /// The PCK CA's list revokes the platform's PCK certificate.
    RevokedPck,
    /// TCB info and QE identity should have been renewed on 2023-02-01.
    ExpiredCollateral,
}

impl Default for Scenario {
    /// Up to date.
    fn default() -> Self {
        Self::Status(TcbStatus::UpToDate)
    }
}

impl Scenario {
    /// Collateral for a platform. `tcb_info` and `qe_identity` are as for a platform that is up to date.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails.
    pub fn collateral(
        self,
        hierarchy: &Hierarchy,
        platform: &PlatformIdentity,
        tcb_info: TcbInfoSpec,
        qe_identity: QeIdentitySpec,
    ) -> Result<QuoteCollateral, KeysError> {
        let (tcb_info, qe_identity) = match self {
            Self::Status(status) => (tcb_info.with_status(status), qe_identity),
            Self::RevokedPck => (tcb_info, qe_identity),
            Self::ExpiredCollateral => (
                TcbInfoSpec { next_update: PAST_UPDATE.to_owned(), ..tcb_info },
                QeIdentitySpec { next_update: PAST_UPDATE.to_owned(), ..qe_identity },
            ),
        };
        let mut collateral = hierarchy.collateral(platform.ca(), &tcb_info, &qe_identity)?;
        if self == Self::RevokedPck {
            let pck = hierarchy.pck(platform)?.certificate().parse()?;
            let serial = pck.tbs_certificate().serial_number().as_bytes();
            let list = hierarchy.crl(CrlKind::Pck(platform.ca()), 2, &[serial])?;
            collateral.pck_crl = list.der().to_vec();
        }
        Ok(collateral)
    }
}
