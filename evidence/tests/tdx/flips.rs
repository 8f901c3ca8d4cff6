//! No bit is without meaning: a quote or collateral with any one bit changed is refused, and the reason names the part.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tsmsim_abi::tdx::quote::Quote;
use tsmsim_evidence::tdx::{Bundle, verify};

use super::{policy, sample};

type Part = fn(&mut Bundle) -> &mut Vec<u8>;

/// Flips these bits, one at a time; the reason must satisfy `named` (which byte, reason).
fn flips(part: Part, bits: &[usize], named: impl Fn(usize, &str) -> bool + Sync) {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut flipped = sample();
                while let Some(&bit) = bits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                    let reason = verify(&flipped, &policy()).reason();
                    let reason = reason.unwrap_or_else(|| panic!("accepted with bit {bit} flipped"));
                    assert!(named(bit / 8, &reason), "byte {}, bit {}: {reason}", bit / 8, bit % 8);
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                }
            });
        }
    });
}

/// Where the PCK chain begins: behind header, body, size, signature, key, type and size, QE report and its signature,
/// authentication data and its size, type and size.
const CHAIN: usize = 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32 + 6;

#[test]
fn every_bit_of_header_body_and_signature_data() {
    let bits: Vec<usize> = (0..CHAIN * 8).collect();
    flips(
        |bundle| &mut bundle.quote,
        &bits,
        |byte, reason| match byte {
            0..700 => reason.starts_with("quote: ") || reason.starts_with("TCB info: "),
            // The attestation key is what the QE report is about.
            700..764 => reason.starts_with("QE report: report_data: "),
            764..770 | 1218.. => {
                ["quote: signature data: ", "PCK: certification data: ", "QE report: report_data: "]
                    .iter()
                    .any(|part| reason.starts_with(part))
            }
            770..1154 => reason.starts_with("QE report: ") || reason.starts_with("QE identity: "),
            1154..1218 => {
                reason.starts_with("QE report: signature: ") || reason.starts_with("quote: signature data: ")
            }
        },
    );
}

#[test]
fn a_bit_in_each_byte_of_the_chain_and_of_what_follows() {
    let quote = sample().quote;
    let read = Quote::read(&quote).unwrap();
    let end = quote.len() - read.trailing.len();
    let bits: Vec<usize> = (CHAIN..quote.len()).map(|byte| byte * 8 + byte % 8).collect();
    flips(
        |bundle| &mut bundle.quote,
        &bits,
        |byte, reason| match byte {
            byte if byte >= end => reason.starts_with("quote: trailing bytes: "),
            _ => ["PCK: ", "PCK CA: ", "root CA: "].iter().any(|part| reason.starts_with(part)),
        },
    );
}

#[test]
fn a_bit_in_each_byte_of_the_collateral() {
    let collateral = sample().collateral.unwrap();
    // Where nothing but the JSON's own white space and the case of hexadecimal digits may change unseen.
    let bits = (0..collateral.len()).map(|byte| byte * 8 + byte % 5);
    let harmless = |bit: &usize| {
        let (byte, mask) = (collateral[bit / 8], 1 << (bit % 8));
        // A line end between certificates that becomes a form feed: `\n` to `\f`.
        (byte ^ mask == b'f' && collateral[bit / 8 - 1] == b'\\')
            || byte.is_ascii_whitespace()
            || (byte ^ mask).is_ascii_whitespace()
            || byte.is_ascii_hexdigit() && mask == 0x20
    };
    let bits: Vec<usize> = bits.filter(|bit| !harmless(bit)).collect();
    flips(|bundle| bundle.collateral.as_mut().unwrap(), &bits, |_, _| true);
}
