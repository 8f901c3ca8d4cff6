//! The signature over the report.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use tsmsim_abi::snp::report::{AttestationReport, SIGNED_SIZE};
use zerocopy::IntoBytes;

use super::{CertificateKind, report::OBJECT};
use crate::Verdict;

/// The order of P-384's base point (FIPS 186-4, appendix D.1.2.4), big-endian.
const ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a,
    0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// Judges the signature by the point in the VCEK or VLEK.
pub(super) fn judge(
    verdict: &mut Verdict,
    report: &AttestationReport,
    key: Option<(CertificateKind, Option<&[u8; 97]>)>,
) {
    let Some((r, s)) = report.signature.to_big_endian() else {
        // The reserved bytes have been named.
        verdict.judge(OBJECT, "signature", Err::<&str, _>("a scalar has more than 384 bits"));
        return;
    };
    for (field, scalar) in [("signature.r", &r), ("signature.s", &s)] {
        // The two are of equal length and big-endian, so they compare as numbers.
        let in_range = scalar.iter().any(|byte| *byte != 0) && *scalar < ORDER;
        let result = if in_range { Ok("in range") } else { Err("zero, or not below the order of P-384") };
        verdict.judge(OBJECT, field, result);
    }
    let result = match key {
        None => Err("there is no VCEK or VLEK to check it with".to_owned()),
        Some((kind, None)) => Err(format!("the {} has no usable key", kind.name())),
        Some((kind, Some(point))) => {
            let signed = report.as_bytes().get(..SIGNED_SIZE).unwrap_or_default();
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(signed, &[r, s].concat())
                .map(|()| format!("by the {} over bytes 0..2a0h", kind.name()))
                .map_err(|_| {
                    let kind = kind.name();
                    format!("does not verify over bytes 0..2a0h with the key in the {kind}: report or signature changed, or another key signed")
                })
        }
    };
    verdict.judge(OBJECT, "signature", result);
}
