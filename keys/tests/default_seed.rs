//! What is committed for the default seed is what the default seed gives.
#![expect(clippy::unwrap_used, reason = "helpers and rstest cases are tests, which clippy does not see")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tsmsim_abi::snp::tcb::ProductLine;
use tsmsim_keys::Seed;
use tsmsim_keys::amd::{CertificateKind, DEFAULT_FINGERPRINTS, Hierarchy, regenerate_default};

fn files_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_path_buf();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Nine RSA keys are generated here. The files written are also the whole of what is committed, but for the README.
#[test]
fn regenerated_files_equal_the_committed() {
    let directory = tempfile::tempdir().unwrap();
    regenerate_default(directory.path()).unwrap();
    let written = files_below(directory.path());
    let mut committed = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("default"));
    let readme = committed.remove(Path::new("README.md")).unwrap();
    assert!(String::from_utf8(readme).unwrap().contains("Worthless"));
    assert_eq!(written.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (name, bytes) in &written {
        assert!(*bytes == committed[name], "{} differs", name.display());
    }
    assert_eq!(written.len(), 3 * 7 + 3);
}

#[test]
fn writing_where_one_cannot_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = regenerate_default(&file).unwrap_err();
    assert!(error.to_string().contains("milan"), "{error}");
}

/// The Intel-shaped certificates are made when asked for; only how to recognise them is committed.
#[test]
fn fingerprints_of_intel_shape_are_those_of_the_hierarchy_in_use() {
    use tsmsim_keys::intel::{CertificateKind, DEFAULT_FINGERPRINTS, Hierarchy};
    let hierarchy = Hierarchy::new(&Seed::DEFAULT);
    let certificates =
        [hierarchy.root(), hierarchy.platform_ca(), hierarchy.processor_ca(), hierarchy.tcb_signing()];
    assert_eq!(DEFAULT_FINGERPRINTS.lines().count(), certificates.len());
    for (kind, certificate) in CertificateKind::AUTHORITIES.into_iter().zip(certificates) {
        let certificate = certificate.unwrap();
        let key = certificate.public_key_fingerprint().unwrap();
        let line = format!("intel/{}.der {} {key}", kind.name(), certificate.fingerprint());
        assert!(DEFAULT_FINGERPRINTS.lines().any(|listed| listed == line), "{line}");
    }
}

#[test]
fn fingerprints_of_coves_root_are_those_of_the_hierarchy_in_use() {
    use tsmsim_keys::cove::{DEFAULT_FINGERPRINTS, Hierarchy};
    let line = |seed: &Seed| {
        let hierarchy = Hierarchy::new(seed);
        let root = hierarchy.root().unwrap();
        let key = root.public_key_fingerprint().unwrap();
        format!("cove/root.der {} {key}\n", root.fingerprint())
    };
    assert_eq!(DEFAULT_FINGERPRINTS, line(&Seed::DEFAULT));
    assert_ne!(DEFAULT_FINGERPRINTS, line(&Seed::from_bytes([1; 32])));
}

#[test]
fn fingerprints_are_those_of_the_hierarchy_in_use() {
    for line in ProductLine::ALL {
        let hierarchy = Hierarchy::new(&Seed::DEFAULT, line);
        let directory = line.name().to_lowercase();
        let certificates = [
            (CertificateKind::Ark, hierarchy.ark()),
            (CertificateKind::Ask, hierarchy.ask()),
            (CertificateKind::Asvk, hierarchy.asvk()),
        ];
        for (kind, certificate) in certificates {
            let certificate = certificate.unwrap();
            let key = certificate.public_key_fingerprint().unwrap();
            let line = format!("{directory}/{}.der {} {key}", kind.name(), certificate.fingerprint());
            assert!(DEFAULT_FINGERPRINTS.lines().any(|listed| listed == line), "{line}");
        }
        let crl = format!("{directory}/crl.der {}", hierarchy.crl().unwrap().fingerprint());
        assert!(DEFAULT_FINGERPRINTS.lines().any(|listed| listed == crl), "{crl}");
    }
}
