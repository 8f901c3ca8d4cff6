//! openssl takes the chains and lists, and refuses them once anything is changed.

use std::path::Path;
use std::process::Command;

use tsmsim_keys::Seed;
use tsmsim_keys::intel::{CertificateKind, CrlKind, Hierarchy, PckCa};

use crate::{platform, single_package};

/// `openssl verify`, judging in 2025; nothing where openssl is not installed.
fn assert_openssl(directory: &Path, arguments: &[&str], accepted: bool, says: &str) {
    let Some(openssl) = tsmsim_tests::need::program("openssl") else { return };
    let mut command = Command::new(openssl);
    command.current_dir(directory).args(["verify", "-attime", "1750000000", "-CAfile", "root.pem"]);
    let output = command.args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.success(), accepted, "{arguments:?}: {text}");
    assert!(text.contains(says), "{arguments:?}: {text}");
}

fn serial(certificate: &tsmsim_keys::Certificate) -> Vec<u8> {
    certificate.parse().unwrap().tbs_certificate().serial_number().as_bytes().to_vec()
}

/// Certificates and lists of both branches, in files.
fn write(path: &Path) {
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let put = |name: &str, text: String| std::fs::write(path.join(name), text).unwrap();
    let pck = hierarchy.pck(&platform()).unwrap();
    put("root.pem", hierarchy.root().unwrap().pem());
    put("signing.pem", hierarchy.tcb_signing().unwrap().pem());
    put("platform-ca.pem", hierarchy.platform_ca().unwrap().pem());
    put("processor-ca.pem", hierarchy.processor_ca().unwrap().pem());
    put("platform.pem", pck.certificate().pem());
    put("processor.pem", hierarchy.pck(&single_package()).unwrap().certificate().pem());
    let root_crl = hierarchy.root_crl().unwrap().pem();
    let pck_crl = |ca| hierarchy.pck_crl(ca).unwrap().pem();
    put("root-crl.pem", root_crl.clone());
    put("platform-crl.pem", root_crl.clone() + &pck_crl(PckCa::Platform));
    put("processor-crl.pem", root_crl.clone() + &pck_crl(PckCa::Processor));

    let kind = CrlKind::Pck(PckCa::Platform);
    let revoked = hierarchy.crl(kind, 2, &[&serial(pck.certificate())]).unwrap();
    put("pck-revoked.pem", root_crl.clone() + &revoked.pem());
    let serials = [hierarchy.platform_ca().unwrap(), hierarchy.tcb_signing().unwrap()].map(serial);
    let revoked = hierarchy.crl(CrlKind::Root, 2, &[&serials[0], &serials[1]]).unwrap();
    put("ca-revoked.pem", revoked.pem() + &pck_crl(PckCa::Platform));
    let forged = Hierarchy::builder(&Seed::DEFAULT)
        .edit_crl(kind, |crl| crl.flip_signature_bits.push(300))
        .edit(CertificateKind::Pck, |pck| pck.flip_signature_bits.push(300))
        .build();
    put("crl-forged.pem", root_crl + &forged.pck_crl(PckCa::Platform).unwrap().pem());
    put("pck-forged.pem", forged.pck(&platform()).unwrap().certificate().pem());
}

#[test]
fn openssl_checks_chains_and_revocation() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    let cases = [
        ("platform-crl.pem", "platform-ca.pem", "platform.pem", true, "platform.pem: OK"),
        ("processor-crl.pem", "processor-ca.pem", "processor.pem", true, "processor.pem: OK"),
        ("root-crl.pem", "root.pem", "signing.pem", true, "signing.pem: OK"),
        ("platform-crl.pem", "platform-ca.pem", "processor.pem", false, "unable to get local issuer"),
        ("root-crl.pem", "platform-ca.pem", "platform.pem", false, "unable to get certificate CRL"),
        ("pck-revoked.pem", "platform-ca.pem", "platform.pem", false, "certificate revoked"),
        ("ca-revoked.pem", "platform-ca.pem", "platform.pem", false, "certificate revoked"),
        ("ca-revoked.pem", "root.pem", "signing.pem", false, "certificate revoked"),
        ("crl-forged.pem", "platform-ca.pem", "platform.pem", false, "CRL signature failure"),
        ("platform-crl.pem", "platform-ca.pem", "pck-forged.pem", false, "certificate signature failure"),
    ];
    for (crl, ca, certificate, accepted, says) in cases {
        let strict: &[&str] = if accepted { &["-x509_strict"] } else { &[] };
        let arguments = ["-crl_check_all", "-CRLfile", crl, "-untrusted", ca, certificate];
        assert_openssl(directory.path(), &[strict, &arguments].concat(), accepted, says);
    }
}
