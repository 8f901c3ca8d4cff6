//! Verifiers that others wrote take the chains, and refuse them once anything is changed.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{chip, tcb};
use rstest::rstest;
use sev::certs::snp::{Chain, Verifiable};
use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_keys::amd::{CertificateKind, Hierarchy};
use tsmsim_keys::{Certificate, Seed};

/// ARK, signing key, endorsement key.
fn chain(line: ProductLine, kind: CertificateKind) -> [Certificate; 3] {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let key = match kind {
        CertificateKind::Vcek => hierarchy.vcek(&chip(line), tcb(line)),
        _ => hierarchy.vlek("example", tcb(line)),
    };
    let key = key.unwrap().certificate().clone();
    [hierarchy.ark().unwrap().clone(), hierarchy.issuer_of(kind).unwrap().clone(), key]
}

fn sev_accepts(ders: &[Vec<u8>; 3]) -> bool {
    Chain::from_der(&ders[0], &ders[1], &ders[2]).is_ok_and(|chain| (&chain).verify().is_ok())
}

#[rstest]
fn sev_crate_accepts_the_chain_and_refuses_flipped_bits(
    #[values(ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin)] line: ProductLine,
    #[values(CertificateKind::Vcek, CertificateKind::Vlek)] kind: CertificateKind,
) {
    let genuine = chain(line, kind).map(|certificate| certificate.der().to_vec());
    assert!(sev_accepts(&genuine));
    for certificate in 0..3 {
        let length = genuine[certificate].len();
        // Both the signed part (from offset 4) and the signature (the last 512 bytes), in strides without a common factor.
        let positions = (4..length - 600).step_by(37).chain((length - 512..length).step_by(61));
        for position in positions {
            let mut flipped = genuine.clone();
            flipped[certificate][position] ^= 1 << (position % 8);
            assert!(!sev_accepts(&flipped), "{line:?} certificate {certificate} byte {position}");
        }
    }
}

#[test]
fn sev_crate_refuses_the_chain_of_another_line() {
    let milan = chain(ProductLine::Milan, CertificateKind::Vcek);
    let genoa = chain(ProductLine::Genoa, CertificateKind::Vcek);
    assert!(!sev_accepts(&[genoa[0].der().to_vec(), milan[1].der().to_vec(), milan[2].der().to_vec()]));
    assert!(!sev_accepts(&[milan[0].der().to_vec(), milan[1].der().to_vec(), genoa[2].der().to_vec()]));
}

/// The output of `openssl verify`, judged in 2025; nothing where openssl is not installed.
fn openssl_verify(directory: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(tsmsim_tests::need::program("openssl")?);
    command.current_dir(directory).args(["verify", "-attime", "1750000000"]).args(arguments);
    Some(command.output().unwrap())
}

fn assert_openssl(directory: &Path, arguments: &[&str], accepted: bool, says: &str) {
    let Some(output) = openssl_verify(directory, arguments) else { return };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.success(), accepted, "{arguments:?}: {text}");
    assert!(text.contains(says), "{arguments:?}: {text}");
}

#[rstest]
fn openssl_accepts_the_chain(
    #[values(ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin)] line: ProductLine,
    #[values(CertificateKind::Vcek, CertificateKind::Vlek)] kind: CertificateKind,
) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let [ark, signing, key] = chain(line, kind);
    std::fs::write(path.join("ark.pem"), ark.pem()).unwrap();
    std::fs::write(path.join("signing.pem"), signing.pem()).unwrap();
    std::fs::write(path.join("key.pem"), key.pem()).unwrap();
    assert_openssl(path, &["-x509_strict", "-CAfile", "ark.pem", "signing.pem"], true, "signing.pem: OK");
    assert_openssl(
        path,
        &["-CAfile", "ark.pem", "-untrusted", "signing.pem", "key.pem"],
        true,
        "key.pem: OK",
    );
    assert_openssl(path, &["-CAfile", "signing.pem", "key.pem"], false, "unable to get issuer certificate");
}

/// The chain comes from PEM as the key distribution service gives it, the list as DER turned PEM.
#[rstest]
fn openssl_checks_revocation(
    #[values(ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin)] line: ProductLine,
) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
    let [ask, asvk] = [hierarchy.ask().unwrap(), hierarchy.asvk().unwrap()];
    let ask_serial = ask.parse().unwrap().tbs_certificate().serial_number().as_bytes().to_vec();
    let revoked = hierarchy.crl_number(2, &[&ask_serial]).unwrap();
    let forged =
        Hierarchy::builder(&Seed::DEFAULT, line).edit_crl(|crl| crl.flip_signature_bits.push(4000)).build();
    std::fs::write(path.join("ark.pem"), hierarchy.ark().unwrap().pem()).unwrap();
    std::fs::write(path.join("ask.pem"), ask.pem()).unwrap();
    std::fs::write(path.join("asvk.pem"), asvk.pem()).unwrap();
    std::fs::write(path.join("crl.pem"), hierarchy.crl().unwrap().pem()).unwrap();
    std::fs::write(path.join("revoked.pem"), revoked.pem()).unwrap();
    std::fs::write(path.join("forged.pem"), forged.crl().unwrap().pem()).unwrap();
    let cases = [
        ("crl.pem", "ask.pem", true, "ask.pem: OK"),
        ("crl.pem", "asvk.pem", true, "asvk.pem: OK"),
        ("revoked.pem", "ask.pem", false, "certificate revoked"),
        ("revoked.pem", "asvk.pem", true, "asvk.pem: OK"),
        ("forged.pem", "ask.pem", false, "CRL signature failure"),
    ];
    for (crl, certificate, accepted, says) in cases {
        let arguments = ["-crl_check_all", "-CRLfile", crl, "-CAfile", "ark.pem", certificate];
        assert_openssl(path, &arguments, accepted, says);
    }
}

#[test]
fn cert_chain_is_signing_key_then_ark() {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT, ProductLine::Genoa);
    let (ark, ask, asvk) = (hierarchy.ark().unwrap(), hierarchy.ask().unwrap(), hierarchy.asvk().unwrap());
    assert_eq!(hierarchy.cert_chain(CertificateKind::Vcek).unwrap(), ask.pem() + &ark.pem());
    assert_eq!(hierarchy.cert_chain(CertificateKind::Vlek).unwrap(), asvk.pem() + &ark.pem());
    let chain = hierarchy.cert_chain(CertificateKind::Vcek).unwrap();
    let parsed = x509_cert::Certificate::load_pem_chain(chain.as_bytes()).unwrap();
    assert_eq!(parsed, [ask.parse().unwrap(), ark.parse().unwrap()]);
}
