//! What Intel's certificates must be (Intel, *SGX PCK Certificate and Certificate Revocation List Profile Specification*).

use der::asn1::ObjectIdentifier;

use super::extension::is_sgx;
use crate::{
    Verdict,
    profile::{
        AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, CRL_DISTRIBUTION_POINTS, Expected, KEY_USAGE,
        SUBJECT_KEY_IDENTIFIER, authority_of, check_serial_number, check_validity, check_version,
        judge_extensions,
    },
    x509::{
        Certificate, Name, check_ecdsa_sha256,
        name::{COMMON_NAME, COUNTRY, LOCALITY, ORGANIZATION, STATE},
        p256_point, verify_ecdsa_p256,
    },
};

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

    /// What all have; a PCK certificate has the SGX extension besides.
    fn extensions(self, issuer: Option<&Certificate<'_>>) -> [Expected; 5] {
        let authority = issuer.and_then(authority_of);
        let constraints = self.basic_constraints().to_vec();
        [
            Expected::new("authorityKeyIdentifier", AUTHORITY_KEY_IDENTIFIER, false, authority),
            Expected::new("cRLDistributionPoints", CRL_DISTRIBUTION_POINTS, false, None),
            Expected::new("subjectKeyIdentifier", SUBJECT_KEY_IDENTIFIER, false, None),
            Expected::new("keyUsage", KEY_USAGE, true, Some(self.key_usage().to_vec())),
            Expected::new("basicConstraints", BASIC_CONSTRAINTS, true, Some(constraints)),
        ]
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
    verdict.judge(object, "version", check_version(certificate));
    verdict.judge(object, "serialNumber", check_serial_number(certificate.serial_number));
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
    let also = |oid| kind == CertificateKind::Pck && is_sgx(oid);
    judge_extensions(verdict, (object, certificate), "Intel's", &kind.extensions(issuer), also);
    let by = kind.issuer().name();
    let signature = match issuer {
        Some(issuer) => verify_ecdsa_p256(&issuer.public_key, certificate.signed, certificate.signature),
        None => Err(format!("there is no {by} to check it with")),
    };
    verdict.judge(object, "signature", signature.map(|()| format!("by the {by}")))
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
