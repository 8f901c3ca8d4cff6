//! The five kinds of certificate and how AMD names their holders.

use tsmsim_abi::snp::{policy::SigningKey, tcb::ProductLine};

use crate::x509::Name;

/// A certificate's place in the chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CertificateKind {
    /// AMD root key.
    Ark,
    /// AMD signing key of VCEKs.
    Ask,
    /// AMD signing key of VLEKs.
    Asvk,
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
}

impl CertificateKind {
    /// `ARK`, `ASK`, `ASVK`, `VCEK`, `VLEK`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Asvk => "ASVK",
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// Who signs it.
    #[must_use]
    pub const fn issuer(self) -> Self {
        match self {
            Self::Ark | Self::Ask | Self::Asvk => Self::Ark,
            Self::Vcek => Self::Ask,
            Self::Vlek => Self::Asvk,
        }
    }

    /// The encoding of this key in a report's `KEY_INFO`.
    pub(super) const fn signing_key(self) -> SigningKey {
        match self {
            Self::Vcek => SigningKey::Vcek,
            Self::Vlek => SigningKey::Vlek,
            _ => SigningKey::None,
        }
    }

    /// The common name of its holder.
    pub(super) fn common_name(self, line: ProductLine) -> String {
        let line = line.name();
        match self {
            Self::Ark => format!("ARK-{line}"),
            Self::Ask => format!("SEV-{line}"),
            Self::Asvk => format!("SEV-VLEK-{line}"),
            Self::Vcek => "SEV-VCEK".to_owned(),
            Self::Vlek => "SEV-VLEK".to_owned(),
        }
    }

    /// The kind and the line that a common name stands for. VCEK and VLEK name no line.
    pub(super) fn from_common_name(name: &str) -> Option<(Self, Option<ProductLine>)> {
        match name {
            "SEV-VCEK" => return Some((Self::Vcek, None)),
            "SEV-VLEK" => return Some((Self::Vlek, None)),
            _ => {}
        }
        [Self::Ark, Self::Ask, Self::Asvk].into_iter().find_map(|kind| {
            let line = ProductLine::ALL.into_iter().find(|line| kind.common_name(*line) == name)?;
            Some((kind, Some(line)))
        })
    }
}

/// The attributes of AMD's names, all but the common name, in order.
const AMD: [(&str, der::asn1::ObjectIdentifier, &str); 5] = {
    use crate::x509::name::{COUNTRY, LOCALITY, ORGANIZATION, ORGANIZATIONAL_UNIT, STATE};
    [
        ("OU", ORGANIZATIONAL_UNIT, "Engineering"),
        ("C", COUNTRY, "US"),
        ("L", LOCALITY, "Santa Clara"),
        ("ST", STATE, "CA"),
        ("O", ORGANIZATION, "Advanced Micro Devices"),
    ]
};

/// Checks that a name is AMD's with this common name: these attributes, in this order, nothing else.
pub(super) fn check_name(name: &Name<'_>, common_name: &str) -> Result<String, String> {
    let common = [("CN", crate::x509::name::COMMON_NAME, common_name)];
    let expected = AMD.iter().chain(&common);
    if name.attributes.len() != AMD.len() + 1 {
        return Err(format!(
            "{} attributes, where {} are expected: {name}",
            name.attributes.len(),
            AMD.len() + 1
        ));
    }
    for (attribute, (short, oid, text)) in name.attributes.iter().zip(expected) {
        if attribute.oid != *oid || attribute.joined || attribute.text.as_deref() != Some(*text) {
            return Err(format!("{short}={text} is expected in its place: {name}"));
        }
    }
    Ok(format!("CN={common_name}, AMD's name"))
}
