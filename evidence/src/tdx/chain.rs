//! From the root down to the platform's key, and to the key that signs TCB info.

use tsmsim_abi::tdx::{
    codec::ReadError,
    qe::{CertificationData, CertificationDataType},
};

use super::{
    Bundle, CertificateKind, Collateral, Policy, SgxExtension, certificates, crl,
    extension::is_sgx,
    root::{describe, recognise},
};
use crate::{
    Root, TrustedRoot, Verdict,
    profile::open_certificate,
    x509::{Certificate, p256_point, pem_blocks},
};

/// What the judged chain says for the quote.
pub(super) struct Chain {
    /// The platform's key, an uncompressed point.
    pub(super) pck_key: Option<[u8; 65]>,
    /// What the PCK certificate says of the platform.
    pub(super) platform: Option<SgxExtension>,
    /// The key that signs TCB info and QE identity.
    pub(super) tcb_signing_key: Option<[u8; 65]>,
}

/// Certificates of one PEM chain, leaf first, DER.
type Pem = Vec<Vec<u8>>;

/// Judges certificates and lists. `certification` as the quote has it.
pub(super) fn judge(
    verdict: &mut Verdict,
    bundle: &Bundle,
    certification: Option<&CertificationData<'_>>,
    collateral: Option<&Collateral>,
    policy: &Policy,
) -> Chain {
    let pck_chain = pck_chain(verdict, certification, collateral);
    let crl_chain = collateral
        .and_then(|it| read_chain(verdict, "PCK CRL", "issuer chain", it.pck_crl_issuer_chain.as_bytes(), 2));
    let tcb_chain = collateral.and_then(|it| issuer_chain(verdict, it));
    let of = |chain: &Option<Pem>, index: usize| chain.as_ref().and_then(|chain| chain.get(index)).cloned();
    let given = if let TrustedRoot::Given(der) = &policy.trust { Some(der.clone()) } else { None };
    let root_der = bundle.root.clone().or(given).or_else(|| of(&pck_chain, 2)).or_else(|| of(&tcb_chain, 1));
    let (ca_der, pck_der, tcb_der) = (of(&pck_chain, 1), of(&pck_chain, 0), of(&tcb_chain, 0));

    let root = open_certificate(verdict, CertificateKind::Root.name(), root_der.as_deref());
    judge_root(verdict, root.as_ref(), policy);
    let ca = open_certificate(verdict, CertificateKind::PckCa.name(), ca_der.as_deref());
    if let Some(ca) = &ca {
        certificates::judge(verdict, CertificateKind::PckCa, ca, root.as_ref());
    }
    let pck = open_certificate(verdict, CertificateKind::Pck.name(), pck_der.as_deref());
    let platform = pck.as_ref().and_then(|pck| {
        let platform = judge_platform(verdict, pck);
        certificates::judge(verdict, CertificateKind::Pck, pck, ca.as_ref());
        platform
    });
    same(verdict, "root CA", "in the PCK chain", root_der.as_ref(), of(&pck_chain, 2).as_ref());
    let mut tcb_signing_key = None;
    if let Some(collateral) = collateral {
        let signing = open_certificate(verdict, CertificateKind::TcbSigning.name(), tcb_der.as_deref());
        if let Some(signing) = &signing {
            certificates::judge(verdict, CertificateKind::TcbSigning, signing, root.as_ref());
            tcb_signing_key = p256_point(&signing.public_key).ok().copied();
        }
        same(
            verdict,
            "root CA",
            "in the TCB info issuer chain",
            root_der.as_ref(),
            of(&tcb_chain, 1).as_ref(),
        );
        same(verdict, "PCK CA", "in the PCK CRL issuer chain", ca_der.as_ref(), of(&crl_chain, 0).as_ref());
        same(
            verdict,
            "root CA",
            "in the PCK CRL issuer chain",
            root_der.as_ref(),
            of(&crl_chain, 1).as_ref(),
        );
        let (root, ca, pck) = (root.as_ref(), ca.as_ref(), pck.as_ref());
        let (root_kind, ca_kind) = (CertificateKind::Root, CertificateKind::PckCa);
        let by_root = [(root_kind, root), (ca_kind, ca), (CertificateKind::TcbSigning, signing.as_ref())];
        crl::judge(verdict, "root CRL", &collateral.root_ca_crl, (root_kind, root), &by_root);
        let by_ca = [(CertificateKind::Pck, pck)];
        crl::judge(verdict, "PCK CRL", &collateral.pck_crl, (ca_kind, ca), &by_ca);
    }
    let pck_key = pck.as_ref().and_then(|pck| p256_point(&pck.public_key).ok().copied());
    Chain { pck_key, platform, tcb_signing_key }
}

/// The chain in the quote, or else in the collateral; if both are there, they must agree.
fn pck_chain(
    verdict: &mut Verdict,
    certification: Option<&CertificationData<'_>>,
    collateral: Option<&Collateral>,
) -> Option<Pem> {
    const FIELD: &str = "certification data";
    let beside = collateral.and_then(|it| it.pck_certificate_chain.as_ref());
    let beside =
        beside.and_then(|text| read_chain(verdict, "PCK", "pck_certificate_chain", text.as_bytes(), 3));
    let Some(certification) = certification else { return beside };
    if certification.data_type != CertificationDataType::PCK_CERT_CHAIN {
        let found = certification.data_type;
        let result = match beside {
            Some(_) => Ok(format!("{found}, certificates from the collateral")),
            None => Err(format!("{found}: neither it nor the collateral holds the PCK certificate")),
        };
        verdict.judge("PCK", FIELD, result);
        return beside;
    }
    let text = certification.pem_chain().map_err(|error: ReadError| error.to_string());
    let inside = match text {
        Ok(text) => read_chain(verdict, "PCK", FIELD, text.as_bytes(), 3),
        Err(why) => {
            verdict.judge("PCK", FIELD, Err::<&str, _>(why));
            None
        }
    };
    if let (Some(inside), Some(beside)) = (&inside, &beside) {
        let result = if inside == beside { Ok("as in the quote") } else { Err("differs from the quote's") };
        verdict.judge("PCK", "pck_certificate_chain", result);
    }
    inside.or(beside)
}

/// The chain of the TCB signing certificate; both documents must have the same.
fn issuer_chain(verdict: &mut Verdict, collateral: &Collateral) -> Option<Pem> {
    let chain = |verdict: &mut Verdict, object, text: &str| {
        read_chain(verdict, object, "issuer chain", text.as_bytes(), 2)
    };
    let first = chain(verdict, "TCB info", &collateral.tcb_info_issuer_chain);
    let second = chain(verdict, "QE identity", &collateral.qe_identity_issuer_chain);
    if let (Some(first), Some(second)) = (&first, &second) {
        let result = if first == second { Ok("as the TCB info's") } else { Err("not the TCB info's") };
        verdict.judge("QE identity", "issuer chain = TCB info's", result);
    }
    first.or(second)
}

fn read_chain(
    verdict: &mut Verdict,
    object: &'static str,
    field: &'static str,
    text: &[u8],
    expected: usize,
) -> Option<Pem> {
    let blocks = pem_blocks(text).map_err(|error| error.to_string()).and_then(|blocks| {
        match blocks.iter().find(|block| block.label != "CERTIFICATE") {
            Some(_) => Err("a PEM block that is not a CERTIFICATE".to_owned()),
            None if blocks.len() != expected => {
                Err(format!("{} certificates, where {expected} are expected", blocks.len()))
            }
            // Otherwise a closing zero could become a blank unseen.
            None if !matches!(text.last(), Some(b'\n' | b'-')) => {
                Err("text behind the last PEM block".to_owned())
            }
            None => Ok(blocks.into_iter().map(|block| block.der).collect::<Pem>()),
        }
    });
    match blocks {
        Ok(chain) => {
            verdict.judge(object, field, Ok::<_, &str>(format!("{expected} certificates")));
            Some(chain)
        }
        Err(why) => {
            verdict.judge(object, field, Err::<&str, _>(why));
            None
        }
    }
}

/// That a certificate found elsewhere is the one that is judged.
fn same(
    verdict: &mut Verdict,
    object: &'static str,
    field: &'static str,
    judged: Option<&Vec<u8>>,
    found: Option<&Vec<u8>>,
) {
    if let (Some(judged), Some(found)) = (judged, found) {
        let result = if judged == found { Ok("the same") } else { Err("another certificate") };
        verdict.judge(object, field, result);
    }
}

fn judge_root(verdict: &mut Verdict, root: Option<&Certificate<'_>>, policy: &Policy) {
    let Some(root) = root else { return };
    let signed = certificates::judge(verdict, CertificateKind::Root, root, Some(root));
    let given = matches!(&policy.trust, TrustedRoot::Given(der) if der == root.encoding);
    if signed {
        verdict.root = recognise(root, given);
        verdict.root_given = given;
    }
    let result = match (&policy.trust, &verdict.root) {
        (_, Root::Unknown) if !signed => Err("does not sign itself".to_owned()),
        (TrustedRoot::Given(_), _) if !given => Err(format!("not the given root; {}", describe(root))),
        (TrustedRoot::Vendor, Root::Vendor(_)) | (TrustedRoot::Given(_), _) => Ok(verdict.root.to_string()),
        (TrustedRoot::Vendor, other) => Err(format!("{other}, where the vendor's is demanded")),
        (TrustedRoot::Recognised, Root::Unknown) => Err(format!(
            "neither Intel's nor marked as synthetic; {}: to trust it, give it as the root",
            describe(root)
        )),
        (TrustedRoot::Recognised, known) => Ok(known.to_string()),
    };
    verdict.judge("root CA", "root", result);
}

/// What the certificate says of the platform; a PCK of the platform CA says more.
fn judge_platform(verdict: &mut Verdict, pck: &Certificate<'_>) -> Option<SgxExtension> {
    const FIELD: &str = "SGX Extensions";
    let present = pck.extensions.iter().find(|extension| is_sgx(extension.oid));
    let read = match present {
        None => Err("missing".to_owned()),
        Some(extension) if extension.critical => Err("marked as critical".to_owned()),
        Some(extension) => SgxExtension::read(extension.value).map_err(|malformed| malformed.to_string()),
    };
    let by_platform_ca = pck.issuer.common_name().is_some_and(|name| name.ends_with("Platform CA"));
    let read = read.and_then(|read| match (by_platform_ca, read.platform_instance_id.is_some()) {
        (true, false) => Err("Platform Instance ID is missing, which the platform CA writes".to_owned()),
        (false, true) => Err("a Platform Instance ID, which only the platform CA writes".to_owned()),
        _ => Ok(read),
    });
    let text = read.as_ref().map(|read| format!("FMSPC {}", crate::hex::hex(&read.fmspc)));
    verdict.judge("PCK", FIELD, text.map_err(Clone::clone));
    read.ok()
}
