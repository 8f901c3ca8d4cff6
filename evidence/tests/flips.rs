//! No bit is without meaning: evidence with any one bit changed is refused, and the reason names the object.

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use common::{
    debuggable, genuine,
    maker::{Maker, table},
    milan,
};
use tsmsim_abi::snp::{cert_table::CertGuid, tcb::ProductLine};
use tsmsim_evidence::snp::{self, Bundle, CertificateKind, Policy};

type Part = fn(&mut Bundle) -> &mut Vec<u8>;

/// Flips every bit of a part, one at a time; the reason must satisfy `named` (which byte, reason).
fn every_flip(bundle: &Bundle, policy: &Policy, part: Part, named: impl Fn(usize, &str) -> bool + Sync) {
    let bits: Vec<usize> = (0..part(&mut bundle.clone()).len() * 8).collect();
    flips(bundle, policy, part, &bits, named);
}

/// Flips these bits, one at a time.
fn flips(
    bundle: &Bundle,
    policy: &Policy,
    part: Part,
    bits: &[usize],
    named: impl Fn(usize, &str) -> bool + Sync,
) {
    assert_eq!(snp::verify(bundle, policy).reason(), None);
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut flipped = bundle.clone();
                while let Some(&bit) = bits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                    let reason = snp::verify(&flipped, policy).reason();
                    let reason = reason.unwrap_or_else(|| panic!("accepted with bit {bit} flipped"));
                    assert!(named(bit / 8, &reason), "bit {bit}: {reason}");
                    part(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                }
            });
        }
    });
}

/// Fields that something other than the signature tells wrong, whatever bit is flipped.
fn report_field(byte: usize) -> &'static str {
    match byte {
        // Version 2 with one bit flipped is version 3, which names the processor.
        0x00 => "",
        0x01..0x04 => "version",
        0x34..0x38 => "signature_algo",
        0x4c..0x50 | 0x188..0x1a0 | 0x1eb | 0x1ef | 0x1f8..0x2a0 | 0x2d0..0x2e8 | 0x318.. => "reserved",
        0x50..0x90 => "report_data",
        0x160..0x180 => "report_id_ma",
        0x180..0x188 => "reported_tcb",
        0x1a0..0x1e0 => "chip_id",
        _ => "",
    }
}

#[test]
fn every_bit_of_the_genuine_report() {
    let mut bundle = milan();
    bundle.inblob = Some(bundle.report[0x50..0x90].to_vec());
    every_flip(
        &bundle,
        &debuggable(),
        |bundle| &mut bundle.report,
        |byte, reason| reason.starts_with(&format!("report: {}", report_field(byte))),
    );
}

#[test]
fn every_bit_of_the_genuine_vcek() {
    let part: Part = |bundle| bundle.vcek.as_mut().unwrap();
    every_flip(&milan(), &debuggable(), part, |byte, reason| match byte {
        // hwID and the levels that the report repeats.
        707..771 => reason.starts_with("report: chip_id: differs from the VCEK's hwID at byte"),
        558 | 577 | 672 | 691 => {
            reason.contains("SPL: not an INTEGER") || reason.starts_with("report: reported_tcb")
        }
        _ => reason.starts_with("VCEK: "),
    });
}

#[test]
fn every_bit_of_the_genuine_ask() {
    // A changed name or key is told by the certificate below only if nothing in the ASK itself tells first.
    let part: Part = |bundle| bundle.ask.as_mut().unwrap();
    every_flip(&milan(), &debuggable(), part, |_, reason| reason.starts_with("ASK: "));
}

#[test]
fn every_bit_of_the_genuine_ark() {
    let part: Part = |bundle| bundle.ark.as_mut().unwrap();
    every_flip(&milan(), &debuggable(), part, |_, reason| reason.starts_with("ARK: "));
}

#[test]
fn every_bit_of_a_revocation_list() {
    let bundle = Maker::new(ProductLine::Milan, CertificateKind::Vcek, 3)
        .edit_crl(|draft| draft.revoked = vec![vec![0x42], vec![0x43]])
        .make();
    let part: Part = |bundle| bundle.crl.as_mut().unwrap();
    let policy = Policy::at(common::then());
    // A serial number changed to that of a certificate in the chain is named there.
    every_flip(&bundle, &policy, part, |_, reason| reason.starts_with("CRL: "));
}

/// The genuine certificates in a table with padding, and the bits of it to flip: all of the entries and of the padding, and of
/// the certificates (whose every bit the tests above flip) one in each byte.
fn in_a_table() -> (Vec<u8>, Vec<usize>) {
    let [ark, ask, vcek] = ["ark.der", "ask.der", "milan-vcek.der"].map(genuine);
    let table = table(&[(CertGuid::ARK, &ark), (CertGuid::ASK, &ask), (CertGuid::VCEK, &vcek)], 40);
    let inside = |bit: usize| (4 * 24..table.len() - 40).contains(&(bit / 8));
    let bits = (0..table.len() * 8).filter(|bit| !inside(*bit) || bit % 8 == bit / 8 % 8).collect();
    (table, bits)
}

#[test]
fn the_bits_of_a_certificate_table_beside_the_certificates() {
    let (table, bits) = in_a_table();
    let bundle = Bundle { table: Some(table), ..milan() };
    let part: Part = |bundle| bundle.table.as_mut().unwrap();
    flips(&bundle, &debuggable(), part, &bits, |_, reason| reason.starts_with("certificate table: "));
}

#[test]
fn the_bits_of_a_certificate_table_that_is_the_only_source() {
    let (table, bits) = in_a_table();
    let bundle = Bundle { report: milan().report, table: Some(table), ..Bundle::default() };
    let part: Part = |bundle| bundle.table.as_mut().unwrap();
    flips(&bundle, &debuggable(), part, &bits, |_, _| true);
}
