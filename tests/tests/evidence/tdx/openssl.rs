//! Certificates, revocation lists and signed JSON that the program writes, judged by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use der::{
    Encode as _,
    asn1::UintRef,
    pem::{LineEnding, encode_string},
};
use serde_json::Value;
use tsmsim_abi::tdx::quote::Quote;
use tsmsim_tests::need;

use crate::program::{Said, Tsmsim, run};

const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CRL"];

fn pem(label: &str, der: &[u8]) -> String {
    encode_string(label, LineEnding::LF, der).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// Files in PEM, and openssl beside them.
struct Desk<'a> {
    openssl: PathBuf,
    directory: &'a Path,
}

impl Desk<'_> {
    fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), contents).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Said {
        run(Command::new(&self.openssl).current_dir(self.directory).args(arguments))
    }

    /// Whether a certificate is accepted with every certificate of its chain looked up in the lists.
    fn verify(&self, ca: &str, lists: &str, certificate: &str) -> Said {
        let strict = ["verify", "-attime", "1750000000", "-x509_strict", "-crl_check_all"];
        let files = ["-CAfile", "root.pem", "-CRLfile", lists, "-untrusted", ca, certificate];
        self.run(&[&strict[..], &files].concat())
    }

    fn accepts(&self, ca: &str, lists: &str, certificate: &str) {
        let said = self.verify(ca, lists, certificate).with_status(0);
        assert!(said.out.contains(": OK"), "{}", said.out);
    }

    fn refuses(&self, ca: &str, lists: &str, certificate: &str, says: &str) {
        let said = self.verify(ca, lists, certificate);
        assert!(said.status != 0 && said.err.contains(says), "{}{}", said.out, said.err);
    }

    /// Whether the signature of a document of the collateral is over exactly this text.
    fn signed(&self, text: &str, signature: &[u8]) -> bool {
        let halves = [&signature[..32], &signature[32..]].map(|half| UintRef::new(half).unwrap());
        let sequence = Vec::from(halves);
        self.put("signature.der", sequence.to_der().unwrap());
        self.put("text.json", text);
        let key = self.run(&["x509", "-in", "signing.pem", "-pubkey", "-noout"]).with_status(0);
        self.put("key.pem", key.out);
        let words = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature.der", "text.json"];
        self.run(&words).status == 0
    }
}

/// What `tsmsim keys export --scenario` writes, in PEM.
fn exported<'a>(tsmsim: &Tsmsim, openssl: &Path, directory: &'a Path, scenario: &str) -> Desk<'a> {
    let desk = Desk { openssl: openssl.to_owned(), directory };
    let words = format!("keys export --scenario {scenario}");
    tsmsim.say(&words, &[("--out", directory)]).with_status(0);
    let read = |name: &str| fs::read(directory.join("intel").join(format!("{name}.der"))).unwrap();
    for name in ["root", "platform-ca", "processor-ca", "tcb-signing", "pck"] {
        desk.put(&format!("{name}.pem"), pem(LABELS[0], &read(name)));
    }
    let root = pem(LABELS[1], &read("root-crl"));
    for name in ["platform-crl", "processor-crl"] {
        desk.put(&format!("{name}.pem"), root.clone() + &pem(LABELS[1], &read(name)));
    }
    desk.put("root-crl.pem", root);
    desk
}

#[test]
fn exported_certificates_and_lists() {
    let (Some(tsmsim), Some(openssl)) = (Tsmsim::find(), need::program("openssl")) else { return };
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let desk = exported(&tsmsim, &openssl, directories[0].path(), "up-to-date");
    desk.accepts("platform-ca.pem", "platform-crl.pem", "pck.pem");
    for certificate in ["platform-ca.pem", "processor-ca.pem", "tcb-signing.pem"] {
        desk.accepts("root.pem", "root-crl.pem", certificate);
    }
    // The processor CA's list is one of the processor CA's, so it does not speak for what the platform CA issued.
    desk.refuses("platform-ca.pem", "processor-crl.pem", "pck.pem", "unable to get certificate CRL");
    desk.refuses("processor-ca.pem", "platform-crl.pem", "pck.pem", "unable to get local issuer certificate");

    let desk = exported(&tsmsim, &openssl, directories[1].path(), "revoked-pck");
    desk.refuses("platform-ca.pem", "platform-crl.pem", "pck.pem", "certificate revoked");
    desk.accepts("root.pem", "root-crl.pem", "platform-ca.pem");
}

#[test]
fn a_damaged_certificate_or_list() {
    let (Some(tsmsim), Some(openssl)) = (Tsmsim::find(), need::program("openssl")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let desk = exported(&tsmsim, &openssl, directory.path(), "up-to-date");
    for (name, label, says) in [
        ("pck", LABELS[0], "certificate signature failure"),
        ("platform-ca", LABELS[0], "certificate signature failure"),
        ("platform-crl", LABELS[1], "CRL signature failure"),
    ] {
        let path = directory.path().join("intel").join(format!("{name}.der"));
        let mut der = fs::read(path).unwrap();
        let last = der.len() - 1;
        der[last] ^= 1;
        let usual = fs::read(directory.path().join(format!("{name}.pem"))).unwrap();
        let root = fs::read_to_string(directory.path().join("root-crl.pem")).unwrap();
        let beside = if label == LABELS[1] { root } else { String::new() };
        desk.put(&format!("{name}.pem"), beside + &pem(label, &der));
        desk.refuses("platform-ca.pem", "platform-crl.pem", "pck.pem", says);
        desk.put(&format!("{name}.pem"), usual);
    }
    desk.accepts("platform-ca.pem", "platform-crl.pem", "pck.pem");
}

/// What lies beside a quote, and in it: chain, lists, and the documents over their raw bytes.
#[test]
fn the_evidence_of_a_report() {
    let (Some(tsmsim), Some(openssl)) = (Tsmsim::find(), need::program("openssl")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, desk) = (directory.path().join("out"), Desk { openssl, directory: directory.path() });
    tsmsim.say("report --tee tdx", &[("--out", &out)]).with_status(0);
    let quote = fs::read(out.join("quote.bin")).unwrap();
    let signature = Quote::read(&quote).unwrap().signature().unwrap();
    let chain = signature.qe.certification.pem_chain().unwrap();
    let parts: Vec<&str> = chain.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let [pck, ca, root] = parts[..] else { panic!("{chain}") };
    assert_eq!(root, fs::read_to_string(out.join("root.pem")).unwrap());
    let collateral: Value = serde_json::from_slice(&fs::read(out.join("collateral.json")).unwrap()).unwrap();
    let text = |name: &str| collateral[name].as_str().unwrap();
    let list = |name: &str| pem(LABELS[1], &unhex(text(name)));
    desk.put("root.pem", root);
    desk.put("ca.pem", ca);
    desk.put("pck.pem", pck);
    desk.put("signing.pem", text("tcb_info_issuer_chain"));
    desk.put("lists.pem", list("root_ca_crl") + &list("pck_crl"));
    desk.accepts("ca.pem", "lists.pem", "pck.pem");
    desk.accepts("root.pem", "lists.pem", "signing.pem");
    for document in ["tcb_info", "qe_identity"] {
        let signature = unhex(text(&format!("{document}_signature")));
        assert!(desk.signed(text(document), &signature), "{document}");
        assert!(!desk.signed(&format!("{} ", text(document)), &signature), "{document} and a blank");
        let other = text(document).replacen("UpToDate", "OutOfDate", 1);
        assert!(other != text(document) && !desk.signed(&other, &signature), "{document}, edited");
    }
}
