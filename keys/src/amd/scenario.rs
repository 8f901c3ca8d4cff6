//! Ways in which a platform's certificates can stand, by name.

use der::{DateTime, asn1::UtcTime};
use tsmsim_abi::snp::tcb::ProductLine;
use x509_cert::time::Time;

use super::{CertificateKind, Hierarchy};
use crate::{KeysError, Seed};

/// What a verifier is to find.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scenario {
    /// Nothing wrong.
    #[default]
    UpToDate,
    /// The ARK's list revokes ASK and ASVK.
    RevokedAsk,
    /// VCEK and VLEK were valid until 2024-01-01.
    ExpiredVek,
}

impl Scenario {
    /// The hierarchy in which it is so.
    ///
    /// # Errors
    /// [`KeysError`] when a library fails.
    pub fn hierarchy(self, seed: &Seed, line: ProductLine) -> Result<Hierarchy, KeysError> {
        let usual = Hierarchy::new(seed, line);
        match self {
            Self::UpToDate => Ok(usual),
            Self::RevokedAsk => {
                let serial = |certificate: &crate::Certificate| -> Result<Vec<u8>, KeysError> {
                    Ok(certificate.parse()?.tbs_certificate().serial_number().as_bytes().to_vec())
                };
                let serials = [serial(usual.ask()?)?, serial(usual.asvk()?)?];
                let edit =
                    move |crl: &mut crate::CrlDraft| serials.iter().for_each(|serial| crl.revoke(serial));
                Ok(Hierarchy::builder(seed, line).edit_crl(edit).build())
            }
            Self::ExpiredVek => {
                let end = Time::UtcTime(UtcTime::from_date_time(DateTime::new(2024, 1, 1, 0, 0, 0)?)?);
                let edit = move |draft: &mut crate::CertificateDraft| draft.not_after = end;
                let builder = Hierarchy::builder(seed, line).edit(CertificateKind::Vcek, edit);
                Ok(builder.edit(CertificateKind::Vlek, edit).build())
            }
        }
    }
}
