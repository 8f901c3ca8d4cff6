//! Making and judging evidence.

use divan::Bencher;
use tsmsim_abi::snp::{payload::KeySel, tcb::ProductLine};
use tsmsim_benches::{LINES, guest, platform};
use tsmsim_evidence::{
    Timestamp,
    snp::{Bundle, Policy, verify},
};
use tsmsim_keys::{
    Seed, SignatureMode,
    amd::{CertificateKind, ChipIdentity, Hierarchy},
};
use zerocopy::IntoBytes;

/// Within the validity of the default seed's certificates.
const MOMENT: Timestamp = Timestamp(1_750_000_000);

fn main() {
    divan::main();
}

/// A VCEK with its certificate, which costs an RSA-4096 signature; the hierarchy above it is there.
#[divan::bench(args = LINES, sample_count = 20)]
fn vcek_issue(bencher: Bencher<'_, '_>, line: ProductLine) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let tcb = platform(line, SignatureMode::Randomized).reported_tcb();
    bencher.bench_local(|| hierarchy.vcek(&ChipIdentity::new([0; 64]), tcb));
}

/// Judging a report with all its certificates and the revocation list.
#[divan::bench(args = LINES)]
fn judge(bencher: Bencher<'_, '_>, line: ProductLine) {
    let bundle = bundle(line);
    let policy = Policy::at(MOMENT);
    let verdict = verify(&bundle, &policy);
    assert!(verdict.accepted(), "{}", verdict.table());
    bencher.bench_local(|| verify(divan::black_box(&bundle), &policy));
}

fn bundle(line: ProductLine) -> Bundle {
    let platform = platform(line, SignatureMode::Randomized);
    let report = guest(platform.clone()).report(&[7; 64], 0, KeySel::Vcek).expect("the guest gets a report");
    let hierarchy = platform.hierarchy();
    let ask = hierarchy.issuer_of(CertificateKind::Vcek).expect("there is an ASK");
    Bundle {
        report: report.as_bytes().to_vec(),
        ark: Some(hierarchy.ark().expect("there is an ARK").der().to_vec()),
        ask: Some(ask.der().to_vec()),
        vcek: Some(platform.vcek().certificate().der().to_vec()),
        crl: Some(hierarchy.crl().expect("there is a list").der().to_vec()),
        ..Bundle::default()
    }
}
