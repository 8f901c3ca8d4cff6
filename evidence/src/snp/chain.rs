//! From the root down to the key that signs reports.

use tsmsim_abi::snp::{cert_table::CertGuid, policy::SigningKey, tcb::ProductLine};

use super::{
    Bundle, CertificateKind, Policy, TrustedRoot,
    bundle::kind_of,
    certificates::{judge_authority, judge_fields, judge_signature},
    crl,
    endorsement::{self, Endorsement},
    read_table, root,
};
use crate::{Outcome, Root, Verdict, profile::open_certificate, x509::Certificate};

/// What the judged chain says for the report.
pub(super) struct Chain<'a> {
    /// Of the ARK, or else of whatever certificate names one.
    pub(super) line: Option<ProductLine>,
    /// What the VCEK or VLEK says, if it can be read.
    pub(super) endorsement: Option<Endorsement<'a>>,
    leaf: Option<Certificate<'a>>,
    signer: Option<Certificate<'a>>,
}

impl Chain<'_> {
    /// The signature of the VCEK or VLEK: put off so that what the report says against the certificate is read first, which tells more.
    pub(super) fn judge_leaf_signature(&self, verdict: &mut Verdict) {
        if let (Some(certificate), Some(endorsement)) = (&self.leaf, &self.endorsement) {
            judge_signature(verdict, endorsement.kind, certificate, self.signer.as_ref());
        }
    }
}

/// Judges every certificate (but for the last signature), the list and the table. `signing_key` as the report names it, to choose by if both a VCEK and a VLEK
/// are there.
pub(super) fn judge<'a>(
    verdict: &mut Verdict,
    bundle: &'a Bundle,
    signing_key: Option<SigningKey>,
    policy: &'a Policy,
) -> Chain<'a> {
    let vcek = bundle.find(CertGuid::VCEK);
    let vlek = bundle.find(CertGuid::VLEK);
    let wants_vlek = match signing_key {
        Some(key) => key == SigningKey::Vlek,
        None => bundle.find(CertGuid::ASK).and_then(kind_of) == Some(CertificateKind::Asvk),
    };
    let (leaf, leaf_der, unused) = match (vcek, vlek) {
        (Some(_), Some(vlek)) if wants_vlek => (CertificateKind::Vlek, Some(vlek), Some("VCEK")),
        (Some(vcek), Some(_)) => (CertificateKind::Vcek, Some(vcek), Some("VLEK")),
        (None, Some(vlek)) => (CertificateKind::Vlek, Some(vlek), None),
        (None, None) if wants_vlek => (CertificateKind::Vlek, None, None),
        (vcek, None) => (CertificateKind::Vcek, vcek, None),
    };
    let signer = leaf.issuer();
    let ark = open_certificate(
        verdict,
        CertificateKind::Ark.name(),
        bundle.find(CertGuid::ARK).or(given_root(policy)),
    );
    let ask = open_certificate(verdict, signer.name(), bundle.find(CertGuid::ASK));
    let endorsement = open_certificate(verdict, leaf.name(), leaf_der);
    let line = line_of(&[&ark, &ask, &endorsement]);

    judge_ark(verdict, ark.as_ref(), line, policy);
    if let Some(ask) = &ask {
        judge_fields(verdict, signer, ask, ark.as_ref(), line);
        judge_authority(verdict, signer, ask, ark.as_ref(), line);
        judge_signature(verdict, signer, ask, ark.as_ref());
    }
    let judged = endorsement.as_ref().map(|certificate| {
        judge_fields(verdict, leaf, certificate, ask.as_ref(), line);
        endorsement::judge(verdict, leaf, certificate, ask.as_ref(), line)
    });
    if let Some(unused) = unused {
        verdict.push(
            unused,
            "certificate",
            Outcome::Failed,
            "given, but the report is signed by the other kind of key",
        );
    }
    let certificates = [(CertificateKind::Ark, &ark), (signer, &ask), (leaf, &endorsement)];
    crl::judge(verdict, bundle.find(CertGuid::CRL), &certificates, policy);
    judge_table(verdict, bundle, policy);
    Chain { line, endorsement: judged, leaf: endorsement, signer: ask }
}

fn given_root(policy: &Policy) -> Option<&[u8]> {
    if let TrustedRoot::Given(der) = &policy.trust { Some(der) } else { None }
}

/// The line that the first certificate to name one names, as its subject's or else its issuer's.
fn line_of(certificates: &[&Option<Certificate<'_>>]) -> Option<ProductLine> {
    let certificates = certificates.iter().copied().flatten();
    certificates.flat_map(|certificate| [&certificate.subject, &certificate.issuer]).find_map(|name| {
        let (_, line) = CertificateKind::from_common_name(name.common_name()?)?;
        line
    })
}

fn judge_ark(
    verdict: &mut Verdict,
    ark: Option<&Certificate<'_>>,
    line: Option<ProductLine>,
    policy: &Policy,
) {
    let kind = CertificateKind::Ark;
    let Some(ark) = ark else { return };
    judge_fields(verdict, kind, ark, Some(ark), line);
    judge_authority(verdict, kind, ark, None, line);
    let signed = judge_signature(verdict, kind, ark, Some(ark));
    let given = given_root(policy).is_some_and(|root| root == ark.encoding);
    if signed {
        verdict.root = root::recognise(ark, given);
        verdict.root_given = given;
    }
    let result = match (&policy.trust, &verdict.root) {
        (_, Root::Unknown) if !signed => Err("does not sign itself".to_owned()),
        (TrustedRoot::Given(_), _) if !given => Err(format!("not the given root; {}", root::describe(ark))),
        (TrustedRoot::Vendor, Root::Vendor(_)) | (TrustedRoot::Given(_), _) => Ok(verdict.root.to_string()),
        (TrustedRoot::Vendor, other) => Err(format!("{other}, where the vendor's is demanded")),
        (TrustedRoot::Recognised, Root::Unknown) => Err(format!(
            "neither AMD's nor marked as synthetic; {}: to trust it, give it as the root",
            root::describe(ark)
        )),
        (TrustedRoot::Recognised, known) => Ok(known.to_string()),
    };
    verdict.judge(kind.name(), "root", result);
}

/// The table as such, and that it agrees with what was given otherwise.
fn judge_table(verdict: &mut Verdict, bundle: &Bundle, policy: &Policy) {
    const OBJECT: &str = "certificate table";
    let Some(table) = &bundle.table else { return };
    let entries = match read_table(table) {
        Ok(entries) => entries,
        Err(fault) => {
            verdict.judge(OBJECT, "layout", Err::<&str, _>(fault.to_string()));
            return;
        }
    };
    verdict.judge(OBJECT, "layout", Ok::<_, &str>(format!("{} entries", entries.len())));
    for entry in entries {
        let result = match (entry.guid.name(), bundle.given(entry.guid)) {
            (None, _) if policy.allow_unknown_table_entries => {
                verdict.skip(OBJECT, entry.guid.to_string(), "unknown GUID, not looked into");
                continue;
            }
            (None, _) => Err("unknown GUID"),
            (Some(_), Some(given)) if given != entry.certificate => {
                Err("differs from the certificate given beside the table")
            }
            (Some(_), Some(_)) => Ok("as given beside the table"),
            (Some(_), None) => Ok("taken from the table"),
        };
        let field = entry.guid.name().map_or_else(|| entry.guid.to_string(), str::to_owned);
        verdict.judge(OBJECT, field, result);
    }
}
