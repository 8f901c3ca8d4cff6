//! Writing DER.

use der::{Encode, asn1::ObjectIdentifier};

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap()),
        medium @ 0x80..=0xff => out.extend([0x81, u8::try_from(medium).unwrap()]),
        long => {
            out.push(0x82);
            out.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    ObjectIdentifier::new(dotted).unwrap().to_der().unwrap()
}

pub(crate) fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content].concat())
}

/// INTEGER, 0 to 255.
pub(crate) fn small(number: u8) -> Vec<u8> {
    if number < 0x80 { vec![0x02, 1, number] } else { vec![0x02, 2, 0, number] }
}

/// `230101000000Z`.
pub(crate) fn utc_time(text: &str) -> Vec<u8> {
    tlv(0x17, text.as_bytes())
}

/// AMD's name.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let attributes = [
        ("2.5.4.11", 0x0c, "Engineering"),
        ("2.5.4.6", 0x13, "US"),
        ("2.5.4.7", 0x0c, "Santa Clara"),
        ("2.5.4.8", 0x0c, "CA"),
        ("2.5.4.10", 0x0c, "Advanced Micro Devices"),
        ("2.5.4.3", 0x0c, common_name),
    ];
    sequence(
        &attributes.map(|(kind, tag, text)| tlv(0x31, &sequence(&[oid(kind), tlv(tag, text.as_bytes())]))),
    )
}

/// RSASSA-PSS with one hash for both, and a salt length.
pub(crate) fn pss(hash: &str, salt: u8) -> Vec<u8> {
    let hash = sequence(&[oid(hash), vec![5, 0]]);
    let mask = sequence(&[oid("1.2.840.113549.1.1.8"), hash.clone()]);
    let parameters =
        sequence(&[tlv(0xa0, &hash), tlv(0xa1, &mask), tlv(0xa2, &small(salt)), tlv(0xa3, &small(1))]);
    sequence(&[oid("1.2.840.113549.1.1.10"), parameters])
}

pub(crate) const SHA256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const SHA384: &str = "2.16.840.1.101.3.4.2.2";
