//! What Intel's certificates must be (Intel, *SGX PCK Certificate and Certificate Revocation List Profile Specification*).

use der::asn1::ObjectIdentifier;

use super::extension::is_sgx;
use crate::{
    Timestamp, Verdict,
    hex::short,
    x509::{
        Certificate, Name, Validity, check_ecdsa_sha256,
        name::{COMMON_NAME, COUNTRY, LOCALITY, ORGANIZATION, STATE},
        p256_point, verify_ecdsa_p256,
    },
};

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(super) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
pub(super) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// A certificate's place in the hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CertificateKind {
    /// The root CA.
    Root,
    /// The platform CA or the processor CA.
    PckCa,
    /// The platform's provisioning certification key.
    Pck,
    /// What signs TCB info and enclave identities.
    TcbSigning,
}

impl CertificateKind {
    /// `root CA`, `PCK CA`, `PCK`, `TCB signing`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root CA",
            Self::PckCa => "PCK CA",
            Self::Pck => "PCK",
            Self::TcbSigning => "TCB signing",
        }
    }

    /// Who signs it.
    #[must_use]
    pub const fn issuer(self) -> Self {
        match self {
            Self::Pck => Self::PckCa,
            _ => Self::Root,
        }
    }

    /// The common names that its holder may have.
    const fn common_names(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["Intel SGX Root CA"],
            Self::PckCa => &["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"],
            Self::Pck => &["Intel SGX PCK Certificate"],
            Self::TcbSigning => &["Intel SGX TCB Signing"],
        }
    }

    /// `keyCertSign` and `cRLSign`, or `digitalSignature` and `nonRepudiation`.
    const fn key_usage(self) -> &'static [u8] {
        match self {
            Self::Root | Self::PckCa => &[0x03, 0x02, 0x01, 0x06],
            Self::Pck | Self::TcbSigning => &[0x03, 0x02, 0x06, 0xc0],
        }
    }

    /// An authority with a path length of one or none, or no authority.
    const fn basic_constraints(self) -> &'static [u8] {
        match self {
            Self::Root => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x01],
            Self::PckCa => &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
            Self::Pck | Self::TcbSigning => &[0x30, 0x00],
        }
    }
}

/// Reads a certificate, or says which part is malformed or that there is none.
pub(super) fn open<'a>(
    verdict: &mut Verdict,
    kind: CertificateKind,
    der: Option<&'a [u8]>,
) -> Option<Certificate<'a>> {
    let Some(der) = der else {
        verdict.judge(kind.name(), "certificate", Err::<&str, _>("none given"));
        return None;
    };
    match Certificate::read(der) {
        Ok(certificate) => Some(certificate),
        Err(malformed) => {
            verdict.judge(kind.name(), malformed.part, Err::<&str, _>(malformed.why));
            None
        }
    }
}

/// All checks but those of what the SGX extension says. True if the signature verifies.
pub(super) fn judge(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) -> bool {
    let object = kind.name();
    let version = match certificate.version {
        3 => Ok("3"),
        _ => Err("not 3"),
    };
    verdict.judge(object, "version", version);
    let serial = match certificate.serial_number {
        [first, ..] if first & 0x80 != 0 => Err("negative"),
        // Twenty octets, and the zero before a first bit that is set.
        long if long.len() > 21 => Err("longer than 20 octets"),
        number => Ok(short(number)),
    };
    verdict.judge(object, "serialNumber", serial);
    let algorithms = check_ecdsa_sha256(certificate.inner_algorithm, certificate.outer_algorithm);
    verdict.judge(object, "signatureAlgorithm", algorithms.map(|()| "ecdsa-with-SHA256"));
    let issuer_name = match issuer {
        Some(issuer) if issuer.subject.encoding != certificate.issuer.encoding => {
            Err(format!("not the subject of the {}: {}", kind.issuer().name(), certificate.issuer))
        }
        _ => check_name(&certificate.issuer, kind.issuer()),
    };
    verdict.judge(object, "issuer", issuer_name);
    verdict.judge(object, "subject", check_name(&certificate.subject, kind));
    verdict.judge(object, "validity", check_validity(certificate.validity, verdict.at));
    let key = p256_point(&certificate.public_key);
    verdict.judge(object, "subjectPublicKeyInfo", key.map(|_| "P-256"));
    judge_extensions(verdict, kind, certificate, issuer);
    let by = kind.issuer().name();
    let signature = match issuer {
        Some(issuer) => verify_ecdsa_p256(&issuer.public_key, certificate.signed, certificate.signature),
        None => Err(format!("there is no {by} to check it with")),
    };
    verdict.judge(object, "signature", signature.map(|()| format!("by the {by}")))
}

fn judge_extensions(
    verdict: &mut Verdict,
    kind: CertificateKind,
    certificate: &Certificate<'_>,
    issuer: Option<&Certificate<'_>>,
) {
    let object = kind.name();
    let authority = issuer.and_then(authority_key_identifier);
    let expected = [
        ("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER, false, authority.as_deref()),
        ("cRLDistributionPoints", CRL_DISTRIBUTION_POINTS, false, None),
        ("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER, false, None),
        ("keyUsage", KEY_USAGE, true, Some(kind.key_usage())),
        ("basicConstraints", BASIC_CONSTRAINTS, true, Some(kind.basic_constraints())),
    ];
    for (field, oid, critical, value) in &expected {
        let result = match certificate.extension(*oid) {
            None => Err("missing"),
            Some(present) if present.critical != *critical && *critical => Err("not marked as critical"),
            Some(present) if present.critical != *critical => Err("marked as critical"),
            Some(present) if value.is_some_and(|value| value != present.value) => {
                Err("not what Intel's certificates have")
            }
            Some(_) if *oid == SUBJECT_KEY_IDENTIFIER && subject_key_identifier(certificate).is_none() => {
                Err("not an octet string of 20 bytes")
            }
            Some(_) => Ok("as Intel's"),
        };
        verdict.judge(object, *field, result);
    }
    let known = |oid: ObjectIdentifier| {
        expected.iter().any(|(_, known, ..)| *known == oid) || (kind == CertificateKind::Pck && is_sgx(oid))
    };
    let result = match certificate.extensions.iter().find(|extension| !known(extension.oid)) {
        Some(other) => Err(format!("{} does not belong into a {object} certificate", other.oid)),
        None => Ok(format!("{}, no others", certificate.extensions.len())),
    };
    verdict.judge(object, "extensions", result);
}

fn check_validity(Validity { not_before, not_after }: Validity, at: Timestamp) -> Result<String, String> {
    if at < not_before {
        Err(format!("not valid before {not_before}; judged as of {at}"))
    } else if at > not_after {
        Err(format!("expired at {not_after}; judged as of {at}"))
    } else {
        Ok(format!("{not_before} to {not_after}"))
    }
}

/// Intel's name with one of the kind's common names: these attributes, in this order, nothing else.
fn check_name(name: &Name<'_>, kind: CertificateKind) -> Result<String, String> {
    const INTEL: [(ObjectIdentifier, &str); 4] =
        [(ORGANIZATION, "Intel Corporation"), (LOCALITY, "Santa Clara"), (STATE, "CA"), (COUNTRY, "US")];
    let wanted =
        || format!("Intel's name with CN={} is expected: {name}", kind.common_names().join(" or CN="));
    let [common, rest @ ..] = name.attributes.as_slice() else { return Err(wanted()) };
    let text = common.text.as_deref().unwrap_or_default();
    let fits = common.oid == COMMON_NAME
        && kind.common_names().contains(&text)
        && rest.len() == INTEL.len()
        && rest.iter().zip(INTEL).all(|(attribute, (oid, text))| {
            attribute.oid == oid && !attribute.joined && attribute.text.as_deref() == Some(text)
        });
    if fits { Ok(format!("CN={text}, Intel's name")) } else { Err(wanted()) }
}

/// The 20 bytes in a certificate's `subjectKeyIdentifier`.
fn subject_key_identifier<'a>(certificate: &Certificate<'a>) -> Option<&'a [u8]> {
    let value = certificate.extension(SUBJECT_KEY_IDENTIFIER)?.value;
    value.strip_prefix(&[0x04, 20]).filter(|identifier| identifier.len() == 20)
}

/// The `authorityKeyIdentifier` of whatever this certificate's key signs: the key's identifier and nothing else.
pub(super) fn authority_key_identifier(issuer: &Certificate<'_>) -> Option<Vec<u8>> {
    subject_key_identifier(issuer).map(|identifier| [&[0x30, 0x16, 0x80, 20], identifier].concat())
}
