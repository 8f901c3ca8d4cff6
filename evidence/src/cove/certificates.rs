//! What the certificates must be: `attestation.adoc`, "CoVE X.509 Attestation Certificate Fields", and the choices of
//! [`tsmsim_abi::cove::claims::CHOICES`] for those that the specification does not describe.

use super::{
    envelope::UCCS_EVIDENCE,
    key::{CdiId, cdi_id, scheme_of},
};
use crate::{
    Timestamp, Verdict,
    hex::{hex, short},
    profile::{
        AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, Expected, KEY_USAGE, SUBJECT_KEY_IDENTIFIER,
        authority_key_identifier, check_serial_number, check_validity, check_version, judge_extensions,
        subject_key_identifier,
    },
    x509::{Certificate, KnownKey, Name, SignatureScheme, name::SERIAL_NUMBER},
};

/// 9999-12-31 23:59:59 UTC, for "without end" (RFC 5280 section 4.1.2.5).
const NO_END: Timestamp = Timestamp(253_402_300_799);

/// A certificate's place in the hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CertificateKind {
    /// The manufacturer's root CA.
    Root,
    /// A root of trust.
    Rot,
    /// A platform.
    Platform,
    /// A TSM.
    Tsm,
    /// A TVM: evidence.
    Tvm,
}

impl CertificateKind {
    /// As checks name it: `root CA`, `RoT`, `platform certificate`, `TSM certificate`, `certificate`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root CA",
            Self::Rot => "RoT",
            Self::Platform => "platform certificate",
            Self::Tsm => "TSM certificate",
            Self::Tvm => "certificate",
        }
    }

    const fn issuer(self) -> &'static str {
        match self {
            Self::Root | Self::Rot => "root CA",
            Self::Platform => "RoT",
            Self::Tsm => "platform",
            Self::Tvm => "TSM",
        }
    }

    /// `keyCertSign`, for the root also `cRLSign`.
    const fn key_usage(self) -> &'static [u8] {
        match self {
            Self::Root => &[0x03, 0x02, 0x01, 0x06],
            _ => &[0x03, 0x02, 0x02, 0x04],
        }
    }

    /// An authority; the path is one shorter in each layer.
    const fn basic_constraints(self) -> &'static [u8] {
        match self {
            Self::Root => &[0x30, 0x03, 0x01, 0x01, 0xff],
            Self::Rot => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x03],
            Self::Platform => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x02],
            Self::Tsm => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x01],
            Self::Tvm => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
        }
    }
}

/// Who issues, as far as it is known.
#[derive(Default)]
pub(super) struct Issuer<'a> {
    /// Its name, DER; without a certificate of it, the name is compared with the identifier.
    subject: Option<&'a [u8]>,
    /// Its key identifier.
    identifier: Option<Vec<u8>>,
    /// Its key.
    key: Option<KnownKey>,
    /// How it signs.
    scheme: Option<SignatureScheme>,
}

impl<'a> Issuer<'a> {
    /// The root, for itself and for RoTs.
    pub(super) fn root(root: Option<&'a Certificate<'a>>) -> Self {
        let Some(root) = root else { return Self::default() };
        Self {
            subject: Some(root.subject.encoding),
            identifier: subject_key_identifier(root).map(<[u8]>::to_vec),
            key: KnownKey::of(&root.public_key).ok(),
            scheme: Some(SignatureScheme::EcdsaSha256),
        }
    }

    /// A layer, by its certificate.
    pub(super) fn layer(certificate: Option<&'a Certificate<'a>>) -> Self {
        let Some(certificate) = certificate else { return Self::default() };
        let key = KnownKey::of(&certificate.public_key).ok();
        Self { subject: Some(certificate.subject.encoding), ..Self::with_key(key) }
    }

    /// A layer, by its key only.
    pub(super) fn with_key(key: Option<KnownKey>) -> Self {
        Self {
            subject: None,
            identifier: key.as_ref().map(|key| cdi_id(key).to_vec()),
            scheme: key.as_ref().and_then(scheme_of),
            key,
        }
    }
}

/// All checks of a certificate. True if the signature verifies.
pub(super) fn judge(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: &Issuer<'_>,
) -> bool {
    let object = kind.name();
    verdict.judge(object, "version", check_version(certificate));
    let key = KnownKey::of(&certificate.public_key);
    let own = own_identifier(kind, certificate, key.as_ref().ok());
    let serial = match (kind, &own, &issuer.identifier) {
        (CertificateKind::Root, ..) => check_serial_number(certificate.serial_number).map_err(str::to_owned),
        (CertificateKind::Tvm, _, expected) => fits(certificate.serial_number, expected.as_deref(), "TSM's"),
        (_, expected, _) => fits(certificate.serial_number, expected.as_deref(), "key's"),
    };
    verdict.judge(object, "serialNumber", serial);
    judge_algorithm(verdict, kind, certificate, issuer.scheme);
    judge_names(verdict, kind, certificate, issuer, own.as_deref());
    let validity = check_validity(certificate.validity, verdict.at);
    let not_after = certificate.validity.not_after;
    let validity = match validity {
        Ok(_) if kind == CertificateKind::Tvm && not_after != NO_END => {
            Err(format!("to {not_after}, where {NO_END} is expected"))
        }
        other => other,
    };
    verdict.judge(object, "validity", validity);
    let key = key.and_then(|key| match (kind, &key) {
        (CertificateKind::Tvm, _)
        | (CertificateKind::Root, KnownKey::P256(_))
        | (
            CertificateKind::Rot | CertificateKind::Platform | CertificateKind::Tsm,
            KnownKey::Ed25519(_) | KnownKey::P256(_),
        ) => Ok(key.name()),
        _ => Err(format!("{} is not for a key that signs here", key.name())),
    });
    verdict.judge(object, "subjectPublicKeyInfo", key);
    judge_all_extensions(verdict, kind, certificate, issuer, own.as_deref());
    let signature = match (&issuer.key, issuer.scheme) {
        (Some(key), Some(scheme)) => scheme.verify(key, certificate.signed, certificate.signature),
        _ => Err(format!("there is no key of the {} to check it with", kind.issuer())),
    };
    verdict.judge(object, "signature", signature.map(|()| format!("by the {}", kind.issuer())))
}

/// The root's and the TVM's are taken from the certificate: the former can be any, the latter is of a key that the
/// certificate need not hold.
fn own_identifier(
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    key: Option<&KnownKey>,
) -> Option<Vec<u8>> {
    match kind {
        CertificateKind::Root | CertificateKind::Tvm => {
            subject_key_identifier(certificate).map(<[u8]>::to_vec)
        }
        _ => key.map(|key| cdi_id(key).to_vec()),
    }
}

fn fits(found: &[u8], expected: Option<&[u8]>, whose: &str) -> Result<String, String> {
    match expected {
        Some(expected) if expected == found => Ok(format!("the {whose} CDI_ID")),
        _ => Err(format!("{}, not the {whose} CDI_ID", short(found))),
    }
}

fn judge_algorithm(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    scheme: Option<SignatureScheme>,
) {
    let result = match scheme {
        Some(scheme) => {
            scheme.check(certificate.inner_algorithm, certificate.outer_algorithm).map(|()| scheme.name())
        }
        None => Err(format!("there is no key of the {} to tell by", kind.issuer())),
    };
    verdict.judge(kind.name(), "signatureAlgorithm", result);
}

fn judge_names(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: &Issuer<'_>,
    own: Option<&[u8]>,
) {
    let object = kind.name();
    let result = match issuer.subject {
        Some(subject) if subject == certificate.issuer.encoding => {
            Ok(format!("the {}'s name", kind.issuer()))
        }
        None if issuer.identifier.is_some() => {
            check_layer_name(&certificate.issuer, issuer.identifier.as_deref())
        }
        _ => Err(format!("not the subject of the {}: {}", kind.issuer(), certificate.issuer)),
    };
    verdict.judge(object, "issuer", result);
    let result = match kind {
        CertificateKind::Root if certificate.subject.common_name().is_none() => {
            Err("no common name".to_owned())
        }
        CertificateKind::Root => Ok(certificate.subject.to_string()),
        _ => check_layer_name(&certificate.subject, own),
    };
    verdict.judge(object, "subject", result);
}

/// One attribute `serialNumber`, a UTF8String: the identifier in lower-case hexadecimal.
fn check_layer_name(name: &Name<'_>, id: Option<&[u8]>) -> Result<String, String> {
    /// The tag of a UTF8String.
    const UTF8: u8 = 0x0c;
    match (name.attributes.as_slice(), id) {
        ([only], Some(id))
            if only.oid == SERIAL_NUMBER
                && only.encoding.first() == Some(&UTF8)
                && only.text.as_deref() == Some(hex(id).as_str()) =>
        {
            Ok(name.to_string())
        }
        (_, Some(id)) => Err(format!("serialNumber={} is expected: {name}", hex(id))),
        (_, None) => Err(format!("there is no CDI_ID to compare with: {name}")),
    }
}

fn judge_all_extensions(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: &Issuer<'_>,
    own: Option<&[u8]>,
) {
    let object = kind.name();
    // Where an identifier is not known, none is right.
    let authority = issuer.identifier.as_deref().and_then(authority_key_identifier).unwrap_or_default();
    let subject = own.filter(|id| id.len() == 20).map(|id| [&[0x04, 20], id].concat()).unwrap_or_default();
    let expected = [
        Expected::new("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER, false, Some(authority)),
        Expected::new("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER, false, Some(subject)),
        Expected::new("keyUsage", KEY_USAGE, true, Some(kind.key_usage().to_vec())),
        Expected::new("basicConstraints", BASIC_CONSTRAINTS, true, Some(kind.basic_constraints().to_vec())),
    ];
    let is_tvm = kind == CertificateKind::Tvm;
    if is_tvm {
        let result = match certificate.extension(UCCS_EVIDENCE) {
            Some(present) if present.critical => Ok("critical"),
            Some(_) => Err("not marked as critical"),
            None => Err("missing"),
        };
        verdict.judge(object, "UccsEvidence", result);
    }
    let elsewhere = |oid| is_tvm && oid == UCCS_EVIDENCE;
    judge_extensions(verdict, (object, certificate), "CoVE's", &expected, elsewhere);
}

/// A layer's identifier as text: 40 lower-case hexadecimal digits, the first bit zero, the eighth one.
pub(super) fn parse_id(text: &str) -> Option<CdiId> {
    let id: CdiId = crate::hex::unhex(text)?.try_into().ok()?;
    (hex(&id) == text && is_id(&id)).then_some(id)
}

/// Whether bytes are a positive INTEGER of exactly this length.
pub(super) fn is_id(id: &[u8]) -> bool {
    id.len() == size_of::<CdiId>() && id.first().is_some_and(|first| first & 0x81 == 1)
}
