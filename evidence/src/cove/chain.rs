//! From the root down to the TSM.

use super::{
    Bundle, CertificateKind, Policy,
    certificates::{self, Issuer},
};
use crate::{
    Root, TrustedRoot, Verdict,
    hex::hex,
    profile::{
        check_list_extensions, judge_list_fields, judge_list_signature, judge_revocation, open_certificate,
        open_list,
    },
    trust::carries_marker,
    x509::{Certificate, KnownKey, RevocationList, SignatureScheme, pem_blocks},
};

const CRL: &str = "CRL";

/// The certificates of a bundle, DER.
#[derive(Default)]
pub(super) struct Files {
    root: Option<Vec<u8>>,
    rot: Option<Vec<u8>>,
    /// Platform, TSM.
    layers: Option<[Vec<u8>; 2]>,
}

impl Files {
    /// Takes the chain apart.
    pub(super) fn of(verdict: &mut Verdict, bundle: &Bundle, policy: &Policy) -> Self {
        let given = if let TrustedRoot::Given(der) = &policy.trust { Some(der.clone()) } else { None };
        let root = bundle.root.clone().or(given);
        let (rot, layers) = match read_chain(bundle.chain.as_deref()) {
            Ok((rot, layers)) => {
                let count = if layers.is_some() { "TSM, platform, RoT" } else { "RoT only" };
                verdict.judge("chain", "certificates", Ok::<_, &str>(count));
                (Some(rot), layers)
            }
            Err(why) => {
                verdict.judge("chain", "certificates", Err::<&str, _>(why));
                (None, None)
            }
        };
        Self { root, rot, layers }
    }

    /// Without a verdict, for pictures.
    pub(super) fn rot_of(bundle: &Bundle) -> Option<Vec<u8>> {
        read_chain(bundle.chain.as_deref()).ok().map(|(rot, _)| rot)
    }
}

type Layers = Option<[Vec<u8>; 2]>;

/// RoT, then platform and TSM if they are there.
fn read_chain(pem: Option<&[u8]>) -> Result<(Vec<u8>, Layers), String> {
    let pem = pem.ok_or("none given: without the RoT's certificate nothing can be checked")?;
    let mut blocks = pem_blocks(pem).map_err(|error| error.to_string())?;
    if blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return Err("a PEM block that is not a CERTIFICATE".to_owned());
    }
    let count = blocks.len();
    let rot = blocks.pop().map(|block| block.der);
    let rest = <[_; 2]>::try_from(blocks);
    match (rot, rest) {
        (Some(rot), Ok([tsm, platform])) => Ok((rot, Some([platform.der, tsm.der]))),
        (Some(rot), Err(rest)) if rest.is_empty() => Ok((rot, None)),
        _ => Err(format!(
            "{count} certificates, where those of TSM, platform and RoT are expected, or the RoT's only"
        )),
    }
}

/// What the judged chain says.
pub(super) struct Chain<'a> {
    /// The key that signs the platform token.
    pub(super) rot_key: Option<KnownKey>,
    /// Whether certificates of platform and TSM were given.
    pub(super) has_layers: bool,
    pub(super) platform_key: Option<KnownKey>,
    pub(super) tsm_key: Option<KnownKey>,
    pub(super) tsm: Option<Certificate<'a>>,
}

fn key(certificate: Option<&Certificate<'_>>) -> Option<KnownKey> {
    certificate.and_then(|certificate| KnownKey::of(&certificate.public_key).ok())
}

/// Judges the certificates above the evidence, and the list.
pub(super) fn judge<'a>(
    verdict: &mut Verdict,
    files: &'a Files,
    bundle: &Bundle,
    policy: &Policy,
) -> Chain<'a> {
    let root = open_certificate(verdict, CertificateKind::Root.name(), files.root.as_deref());
    judge_root(verdict, root.as_ref(), policy);
    let mut open = |kind: CertificateKind, der: Option<&'a Vec<u8>>| {
        der.and_then(|der| open_certificate(verdict, kind.name(), Some(der)))
    };
    let rot = open(CertificateKind::Rot, files.rot.as_ref());
    let layers = files.layers.as_ref();
    let platform = open(CertificateKind::Platform, layers.map(|[platform, _]| platform));
    let tsm = open(CertificateKind::Tsm, layers.map(|[_, tsm]| tsm));
    let steps = [
        (CertificateKind::Rot, rot.as_ref(), Issuer::root(root.as_ref())),
        (CertificateKind::Platform, platform.as_ref(), Issuer::layer(rot.as_ref())),
        (CertificateKind::Tsm, tsm.as_ref(), Issuer::layer(platform.as_ref())),
    ];
    for (kind, certificate, issuer) in steps {
        if let Some(certificate) = certificate {
            certificates::judge(verdict, kind, certificate, &issuer);
        }
    }
    judge_crl(verdict, bundle.crl.as_deref(), [root.as_ref(), rot.as_ref()], policy);
    Chain {
        rot_key: key(rot.as_ref()),
        has_layers: layers.is_some(),
        platform_key: key(platform.as_ref()),
        tsm_key: key(tsm.as_ref()),
        tsm,
    }
}

fn judge_root(verdict: &mut Verdict, root: Option<&Certificate<'_>>, policy: &Policy) {
    let Some(root) = root else { return };
    let signed = certificates::judge(verdict, CertificateKind::Root, root, &Issuer::root(Some(root)));
    let given = matches!(&policy.trust, TrustedRoot::Given(der) if der == root.encoding);
    let describe = || format!("SHA-256 of its public key {}", hex(&root.public_key.fingerprint()));
    if signed {
        // There is no vendor of CoVE platforms yet whose root could be known here.
        verdict.root = match (carries_marker(root), given) {
            (true, _) => Root::Synthetic,
            (false, true) => Root::Given,
            (false, false) => Root::Unknown,
        };
        verdict.root_given = given;
    }
    let result = match (&policy.trust, &verdict.root) {
        (_, Root::Unknown) if !signed => Err("does not sign itself".to_owned()),
        (TrustedRoot::Given(_), _) if !given => Err(format!("not the given root; {}", describe())),
        (TrustedRoot::Given(_), _) => Ok(verdict.root.to_string()),
        (TrustedRoot::Vendor, other) => Err(format!("{other}, where a vendor's is demanded")),
        (TrustedRoot::Recognised, Root::Unknown) => {
            Err(format!("not marked as synthetic; {}: to trust it, give it as the root", describe()))
        }
        (TrustedRoot::Recognised, known) => Ok(known.to_string()),
    };
    verdict.judge(CertificateKind::Root.name(), "root", result);
}

/// The root's list, and by it root and RoT.
fn judge_crl(
    verdict: &mut Verdict,
    der: Option<&[u8]>,
    [root, rot]: [Option<&Certificate<'_>>; 2],
    policy: &Policy,
) {
    let Some(der) = der else {
        let why = "none given: revocation cannot be judged";
        if policy.require_crl {
            verdict.judge(CRL, "list", Err::<&str, _>(why));
        } else {
            verdict.skip(CRL, "list", why);
        }
        return;
    };
    let Some(list) = open_list(verdict, CRL, der) else { return };
    for (kind, certificate) in [(CertificateKind::Root, root), (CertificateKind::Rot, rot)] {
        if let Some(certificate) = certificate {
            judge_revocation(verdict, (kind.name(), certificate), &list, CRL);
        }
    }
    judge_list(verdict, &list, root);
}

fn judge_list(verdict: &mut Verdict, list: &RevocationList<'_>, root: Option<&Certificate<'_>>) {
    let (by, scheme) = (CertificateKind::Root.name(), SignatureScheme::EcdsaSha256);
    let algorithm = scheme.check(list.inner_algorithm, list.outer_algorithm).map(|()| scheme.name());
    judge_list_fields(verdict, CRL, list, algorithm, (by, root));
    verdict.judge(CRL, "crlExtensions", check_list_extensions(list, (by, root)));
    let verify = |key: KnownKey| scheme.verify(&key, list.signed, list.signature);
    let signature = root.map(|root| KnownKey::of(&root.public_key).and_then(verify));
    judge_list_signature(verdict, CRL, list, by, signature);
}
