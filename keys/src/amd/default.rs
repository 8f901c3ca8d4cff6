//! What [`Seed::DEFAULT`](crate::Seed::DEFAULT) gives, committed because RSA keys take long to generate.

use std::path::Path;

use tsmsim_abi::snp::tcb::ProductLine;

use super::{CertificateKind, Hierarchy};
use crate::{Certificate, KeysError};

/// Fingerprints of everything of AMD's shape committed for the default seed, one line each: file (below `keys/default`), SHA-256 of the
/// file, and for a certificate SHA-256 of its `SubjectPublicKeyInfo`. Whoever meets one of these has met worthless evidence.
pub const DEFAULT_FINGERPRINTS: &str = include_str!("../../default/FINGERPRINTS");

pub(super) struct CommittedAuthority {
    /// PKCS #8 DER.
    pub(super) key: &'static [u8],
    pub(super) certificate: &'static [u8],
}

macro_rules! committed {
    ($line:literal, $kind:literal) => {
        CommittedAuthority {
            key: include_bytes!(concat!("../../default/", $line, "/", $kind, ".key.der")),
            certificate: include_bytes!(concat!("../../default/", $line, "/", $kind, ".der")),
        }
    };
}

static MILAN: [CommittedAuthority; 3] =
    [committed!("milan", "ark"), committed!("milan", "ask"), committed!("milan", "asvk")];
static GENOA: [CommittedAuthority; 3] =
    [committed!("genoa", "ark"), committed!("genoa", "ask"), committed!("genoa", "asvk")];
static TURIN: [CommittedAuthority; 3] =
    [committed!("turin", "ark"), committed!("turin", "ask"), committed!("turin", "asvk")];

pub(super) fn authority(line: ProductLine, kind: CertificateKind) -> &'static CommittedAuthority {
    let [ark, ask, asvk] = match line {
        ProductLine::Milan => &MILAN,
        ProductLine::Genoa => &GENOA,
        ProductLine::Turin => &TURIN,
    };
    match kind {
        CertificateKind::Ark => ark,
        CertificateKind::Ask | CertificateKind::Vcek => ask,
        CertificateKind::Asvk | CertificateKind::Vlek => asvk,
    }
}

pub(super) fn crl(line: ProductLine) -> &'static [u8] {
    match line {
        ProductLine::Milan => include_bytes!("../../default/milan/crl.der"),
        ProductLine::Genoa => include_bytes!("../../default/genoa/crl.der"),
        ProductLine::Turin => include_bytes!("../../default/turin/crl.der"),
    }
}

/// A file of `keys/default`. The private keys among them are published, so nothing here needs wiping.
pub struct DefaultFile {
    /// Where below `keys/default`: `milan/ark.der`, for example.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Everything committed for the default seed, made anew from the seed: nine RSA keys, so some seconds.
///
/// # Errors
/// [`KeysError`] when a library fails.
pub fn regenerated_files() -> Result<Vec<DefaultFile>, KeysError> {
    let mut files = Vec::new();
    let mut fingerprints = String::new();
    for line in ProductLine::ALL {
        let hierarchy = Hierarchy::regenerated(line);
        let directory = line.name().to_lowercase();
        for kind in CertificateKind::AUTHORITIES {
            let certificate = match kind {
                CertificateKind::Ark => hierarchy.ark()?,
                CertificateKind::Asvk => hierarchy.asvk()?,
                _ => hierarchy.ask()?,
            };
            let key = hierarchy.key(kind)?.to_pkcs8_der()?;
            let path = format!("{directory}/{}", kind.name());
            fingerprints += &certificate_line(&path, certificate)?;
            files.push(DefaultFile { path: format!("{path}.der"), bytes: certificate.der().to_vec() });
            files.push(DefaultFile { path: format!("{path}.key.der"), bytes: key.as_bytes().to_vec() });
        }
        let crl = hierarchy.crl()?;
        fingerprints += &format!("{directory}/crl.der {}\n", crl.fingerprint());
        files.push(DefaultFile { path: format!("{directory}/crl.der"), bytes: crl.der().to_vec() });
    }
    files.push(DefaultFile { path: "FINGERPRINTS".to_owned(), bytes: fingerprints.into_bytes() });
    for (directory, fingerprints) in
        [("intel", crate::intel::fingerprints()?), ("cove", crate::cove::fingerprints()?)]
    {
        let path = format!("{directory}/FINGERPRINTS");
        files.push(DefaultFile { path, bytes: fingerprints.into_bytes() });
    }
    Ok(files)
}

/// A certificate's line in a list of fingerprints.
pub(crate) fn certificate_line(path: &str, certificate: &Certificate) -> Result<String, KeysError> {
    let (file, key) = (certificate.fingerprint(), certificate.public_key_fingerprint()?);
    Ok(format!("{path}.der {file} {key}\n"))
}

/// Writes [`regenerated_files`] below a directory, which for the repository is `keys/default`.
///
/// # Errors
/// [`KeysError::Io`] when a file cannot be written; [`KeysError`] when a library fails.
pub fn regenerate_default(directory: &Path) -> Result<(), KeysError> {
    let lines = ProductLine::ALL.map(|line| line.name().to_lowercase());
    for name in lines.iter().map(String::as_str).chain(["intel", "cove"]) {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).map_err(|source| KeysError::Io { path, source })?;
    }
    for file in regenerated_files()? {
        let path = directory.join(file.path);
        std::fs::write(&path, file.bytes).map_err(|source| KeysError::Io { path, source })?;
    }
    Ok(())
}
