//! AMD SEV-SNP evidence: a report and the certificates that it stands on.
//!
//! What the certificates must look like: AMD 57230, *Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface
//! Specification*, chapter 3; what the report must: AMD 56860 rev. 1.58, section 7.3.

mod bundle;
mod certificates;
mod chain;
mod crl;
mod endorsement;
mod names;
mod picture;
mod policy;
mod report;
mod root;
mod show;
mod signature;
mod table;
mod values;

pub use crate::TrustedRoot;
pub use bundle::Bundle;
pub use names::CertificateKind;
pub use picture::svg;
pub use policy::Policy;
pub use root::{VENDOR_ROOTS, VendorRoot};
pub(crate) use show::{extension_meaning, extension_name, is_report, show_report, show_table, vendor_name};
pub use table::{TableEntry, TableFault, read_table};

use crate::Verdict;

/// Judges a report and everything that it stands on. Every check is made, whatever fails before it.
#[must_use]
pub fn verify(bundle: &Bundle, policy: &Policy) -> Verdict {
    let mut verdict = Verdict::new(policy.at);
    let signing_key = report::signing_key(&bundle.report);
    let chain = chain::judge(&mut verdict, bundle, signing_key, policy);
    report::judge(&mut verdict, bundle, &chain, policy);
    verdict
}

/// Judges the certificates, the revocation list and the certificate table only; [`Bundle::report`] is not looked at.
#[must_use]
pub fn verify_chain(bundle: &Bundle, policy: &Policy) -> Verdict {
    let mut verdict = Verdict::new(policy.at);
    chain::judge(&mut verdict, bundle, None, policy).judge_leaf_signature(&mut verdict);
    verdict
}

/// Judges any bytes: a report, and certificates in any of the forms that [`Bundle::add_certificates`] takes.
///
/// # Errors
/// [`EvidenceError`](crate::EvidenceError) where the certificates are in none of those forms.
pub fn verify_bytes(
    report: &[u8],
    certificates: &[u8],
    policy: &Policy,
) -> Result<Verdict, crate::EvidenceError> {
    let mut bundle = Bundle { report: report.to_vec(), ..Bundle::default() };
    bundle.add_certificates("certificates", certificates)?;
    Ok(verify(&bundle, policy))
}
