//! No bit of our own evidence is without meaning: whatever is flipped is refused for a reason that names the part.

use rstest::rstest;
use tsmsim_abi::tdx::quote::Quote;
use tsmsim_evidence::{
    Timestamp,
    tdx::{Bundle, Policy, verify},
};
use tsmsim_simulator::tdx::platform::{QuoteFormat, TdxPlatformConfig};

use crate::{made, verify::for_each};

fn policy() -> Policy {
    Policy::at(Timestamp(1_767_225_600))
}

/// Flips bits of a part, one at a time; each time the reason must satisfy `named` (which byte, reason).
fn flip(
    bundle: &Bundle,
    part: fn(&mut Bundle) -> &mut Vec<u8>,
    bits: &[usize],
    named: impl Fn(usize, &str) -> bool + Sync,
) {
    assert_eq!(verify(bundle, &policy()).reason(), None);
    for_each(bits.len(), |index| {
        let (byte, bit) = (bits[index] / 8, bits[index] % 8);
        let mut flipped = bundle.clone();
        part(&mut flipped)[byte] ^= 1 << bit;
        let reason = verify(&flipped, &policy()).reason();
        let reason = reason.unwrap_or_else(|| panic!("accepted with bit {bit} of byte {byte:#x} flipped"));
        assert!(named(byte, &reason), "byte {byte:#x}, bit {bit}: {reason}");
    });
}

fn begins(reason: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| reason.starts_with(part))
}

/// Header and body come first; then size, signature, key; type and size, QE report, its signature; authentication data, type
/// and size; the PCK chain.
#[rstest]
#[case::v4_td_1_0(TdxPlatformConfig::tdx_1_0(), QuoteFormat::V4, 48 + 584)]
#[case::v4_td_1_5(TdxPlatformConfig::tdx_1_5(), QuoteFormat::V4, 48 + 584)]
#[case::v5_body_2(TdxPlatformConfig::tdx_1_0(), QuoteFormat::V5Td10, 48 + 6 + 584)]
#[case::v5_body_3(TdxPlatformConfig::tdx_1_5(), QuoteFormat::V5Td15, 48 + 6 + 648)]
fn of_the_quote(#[case] config: TdxPlatformConfig, #[case] quote_format: QuoteFormat, #[case] body: usize) {
    let bundle = made::tdx_bundle(TdxPlatformConfig { quote_format, ..config });
    let (key, enclave) = (body + 4 + 64, body + 4 + 64 + 64 + 6);
    let chain = enclave + 384 + 64 + 2 + 32 + 6;
    assert!(Quote::read(&bundle.quote).unwrap().trailing.is_empty());
    assert_eq!(bundle.quote[chain..].first_chunk(), Some(b"-----BEGIN CERTIFICATE-----"));
    // Of the quote of the largest body: every bit, and a bit in every other byte of the chain, which all quotes share. Of the
    // others, a bit in each byte before the chain.
    let bits: Vec<usize> = if quote_format == QuoteFormat::V5Td15 {
        let chain_bytes = (chain..bundle.quote.len()).rev().step_by(2);
        (0..chain * 8).chain(chain_bytes.map(|byte| byte * 8 + byte % 8)).collect()
    } else {
        (0..chain).map(|byte| byte * 8 + byte % 8).collect()
    };
    flip(
        &bundle,
        |bundle| &mut bundle.quote,
        &bits,
        |byte, reason| match byte {
            byte if byte < key => begins(reason, &["quote: ", "TCB info: ", "TCB: ", "TD report: "]),
            // The attestation key is what the QE report is about.
            byte if byte < enclave - 6 => begins(reason, &["QE report: report_data: "]),
            byte if byte < enclave || (enclave + 448..chain).contains(&byte) => begins(
                reason,
                &["quote: signature data: ", "PCK: certification data: ", "QE report: report_data: "],
            ),
            byte if byte < enclave + 384 => begins(reason, &["QE report: ", "QE identity: "]),
            byte if byte < chain => begins(reason, &["QE report: signature: "]),
            _ => begins(reason, &["PCK: ", "PCK CA: ", "root CA: "]),
        },
    );
}

/// A closing zero that becomes a blank is text behind the chain: there, too, no bit is free.
#[test]
fn of_the_end_of_the_chain() {
    let bundle = made::tdx_bundle(TdxPlatformConfig::tdx_1_5());
    let end = bundle.quote.len();
    let bits: Vec<usize> = ((end - 30) * 8..end * 8).collect();
    flip(
        &bundle,
        |bundle| &mut bundle.quote,
        &bits,
        |_, reason| begins(reason, &["PCK: certification data: ", "root CA: "]),
    );
}

/// All but the JSON's own white space and the case of hexadecimal digits, which carry no meaning.
#[test]
fn of_the_collateral() {
    let bundle = made::tdx_bundle(TdxPlatformConfig::tdx_1_5());
    let collateral = bundle.collateral.clone().unwrap();
    let harmless = |bit: &usize| {
        let (byte, mask) = (collateral[bit / 8], 1 << (bit % 8));
        // A line end between certificates that becomes a form feed: `\n` to `\f`.
        (byte ^ mask == b'f' && collateral[bit / 8 - 1] == b'\\')
            || byte.is_ascii_whitespace()
            || (byte ^ mask).is_ascii_whitespace()
            || byte.is_ascii_hexdigit() && mask == 0x20
    };
    let bits = (0..collateral.len()).step_by(5).map(|byte| byte * 8 + byte % 5);
    let bits: Vec<usize> = bits.filter(|bit| !harmless(bit)).collect();
    flip(&bundle, |bundle| bundle.collateral.as_mut().unwrap(), &bits, |_, _| true);
}

/// Every byte of the TDREPORT but CPUSVN and MAC, of which the quote says nothing: those the platform alone can check.
#[test]
fn of_the_report() {
    let bundle = made::tdx_bundle(TdxPlatformConfig::tdx_1_5());
    let hidden = |byte: &usize| (0x10..0x20).contains(byte) || (0xe0..0x100).contains(byte);
    let bytes = (0..0x400).filter(|byte| !hidden(byte));
    let bits: Vec<usize> = bytes.map(|byte| byte * 8 + byte % 8).collect();
    flip(
        &bundle,
        |bundle| bundle.td_report.as_mut().unwrap(),
        &bits,
        |_, reason| begins(reason, &["TD report: "]),
    );
}
