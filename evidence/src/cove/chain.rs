//! From the root down to the TSM.

use super::{
    Bundle, CertificateKind, Policy,
    certificates::{
        self, AUTHORITY_KEY_IDENTIFIER, Issuer, authority_key_identifier, subject_key_identifier,
    },
};
use crate::{
    Root, Verdict,
    hex::{hex, short},
    snp::{TrustedRoot, carries_marker},
    x509::{Certificate, KnownKey, RevocationList, SignatureScheme, pem_blocks},
};

const CRL: &str = "CRL";
const CRL_NUMBER: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("2.5.29.20");

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
    let root = certificates::open(verdict, CertificateKind::Root, files.root.as_deref());
    judge_root(verdict, root.as_ref(), policy);
    let mut open = |kind, der: Option<&'a Vec<u8>>| {
        der.and_then(|der| certificates::open(verdict, kind, Some(der.as_slice())))
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
    let list = match RevocationList::read(der) {
        Ok(list) => list,
        Err(malformed) => {
            verdict.judge(CRL, malformed.part, Err::<&str, _>(malformed.why));
            return;
        }
    };
    for (kind, certificate) in [(CertificateKind::Root, root), (CertificateKind::Rot, rot)] {
        let Some(certificate) = certificate else { continue };
        let entry = list.revoked.iter().find(|entry| entry.serial_number == certificate.serial_number);
        let result = match entry {
            Some(entry) => {
                Err(format!("serial number {} was revoked at {}", short(entry.serial_number), entry.date))
            }
            None => Ok("not in the CRL"),
        };
        verdict.judge(kind.name(), "revocation", result);
    }
    judge_list(verdict, &list, root);
}

fn judge_list(verdict: &mut Verdict, list: &RevocationList<'_>, root: Option<&Certificate<'_>>) {
    let version = if list.version == 2 { Ok("2") } else { Err("1, where 2 is expected") };
    verdict.judge(CRL, "version", version);
    let scheme = SignatureScheme::EcdsaSha256;
    let algorithms = scheme.check(list.inner_algorithm, list.outer_algorithm);
    verdict.judge(CRL, "signatureAlgorithm", algorithms.map(|()| scheme.name()));
    let name = match root {
        Some(root) if root.subject.encoding == list.issuer.encoding => Ok("the root CA's name".to_owned()),
        _ => Err(format!("not the subject of the root CA: {}", list.issuer)),
    };
    verdict.judge(CRL, "issuer", name);
    let (made, at) = (list.this_update, verdict.at);
    let result = if made > at {
        Err(format!("{made}, after the time of judging, {at}"))
    } else {
        Ok(made.to_string())
    };
    verdict.judge(CRL, "thisUpdate", result);
    let result = match list.next_update {
        None => Err("missing: it cannot be told whether the list is out of date".to_owned()),
        Some(next) if next < at => Err(format!("out of date since {next}; judged as of {at}")),
        Some(next) => Ok(next.to_string()),
    };
    verdict.judge(CRL, "nextUpdate", result);
    let authority = root.and_then(subject_key_identifier).and_then(authority_key_identifier);
    let found = list.extension(AUTHORITY_KEY_IDENTIFIER).map(|present| present.value);
    let known = [AUTHORITY_KEY_IDENTIFIER, CRL_NUMBER];
    let result = match list.extensions.iter().find(|extension| !known.contains(&extension.oid)) {
        Some(other) => Err(format!("{} does not belong into the list", other.oid)),
        None if found.is_none() || found != authority.as_deref() => {
            Err("authorityKeyIdentifier does not name the root CA's key".to_owned())
        }
        None if list.extension(CRL_NUMBER).is_none() => Err("cRLNumber is missing".to_owned()),
        None => Ok("as they must be"),
    };
    verdict.judge(CRL, "crlExtensions", result);
    // Whatever an entry's extensions say, the entry is taken as revoked.
    verdict.judge(CRL, "revokedCertificates", Ok::<_, &str>(format!("{} entries", list.revoked.len())));
    let signature = match root {
        Some(root) => {
            KnownKey::of(&root.public_key).and_then(|key| scheme.verify(&key, list.signed, list.signature))
        }
        None => Err("there is no root CA to check it with".to_owned()),
    };
    verdict.judge(CRL, "signature", signature.map(|()| "by the root CA"));
}
