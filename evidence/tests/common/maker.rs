//! Synthetic evidence, made by hand from RSA keys that are published in this repository, each field open to change.

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RsaEncoding, RsaKeyPair,
    },
};
use tsmsim_abi::snp::{
    cert_table::{CertGuid, CertTableEntry},
    policy::{GuestPolicy, KeyInfo, PlatformInfo, SigningKey},
    report::{AttestationReport, FirmwareVersion, SIGNED_SIZE, Signature},
    tcb::{ProductLine, TcbParts},
};
use tsmsim_evidence::snp::{Bundle, CertificateKind};
use zerocopy::{FromZeros, IntoBytes, little_endian::U32};

use super::der::{SHA256, SHA384, bits, name, oid, pss, sequence, small, tlv, utc_time};

const EC_P384: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// How a certificate or list is signed.
#[derive(Clone, Copy)]
pub(crate) enum Scheme {
    PssSha384,
    PssSha256,
}

pub(crate) struct Extension {
    pub(crate) oid: String,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

/// A certificate before it is signed; every field DER.
pub(crate) struct Draft {
    pub(crate) version: u8,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) outer_algorithm: Option<Vec<u8>>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) scheme: Scheme,
}

impl Draft {
    pub(crate) fn extension(&mut self, oid: &str) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap()
    }

    pub(crate) fn remove(&mut self, oid: &str) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    pub(crate) fn add(&mut self, oid: &str, value: Vec<u8>) {
        self.extensions.push(Extension { oid: oid.to_owned(), critical: false, value });
    }

    fn sign(self, issuer: &RsaKeyPair) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> = self.extensions.iter().map(Extension::encode).collect();
        let extensions = if extensions.is_empty() { vec![] } else { tlv(0xa3, &sequence(&extensions)) };
        let version = if self.version == 1 { vec![] } else { tlv(0xa0, &small(self.version - 1)) };
        let fields = sequence(&[
            version,
            tlv(0x02, &self.serial),
            self.algorithm.clone(),
            self.issuer,
            sequence(&[self.not_before, self.not_after]),
            self.subject,
            self.key,
            extensions,
        ]);
        seal(fields, self.outer_algorithm.unwrap_or(self.algorithm), self.scheme, issuer)
    }
}

impl Extension {
    fn encode(&self) -> Vec<u8> {
        let critical = if self.critical { vec![0x01, 0x01, 0xff] } else { vec![] };
        sequence(&[oid(&self.oid), critical, tlv(0x04, &self.value)])
    }
}

/// A revocation list before it is signed.
pub(crate) struct CrlDraft {
    pub(crate) version: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) this_update: Vec<u8>,
    pub(crate) next_update: Vec<u8>,
    pub(crate) revoked: Vec<Vec<u8>>,
    pub(crate) extensions: Vec<Extension>,
}

fn seal(fields: Vec<u8>, algorithm: Vec<u8>, scheme: Scheme, key: &RsaKeyPair) -> Vec<u8> {
    let scheme: &'static dyn RsaEncoding = match scheme {
        Scheme::PssSha384 => &RSA_PSS_SHA384,
        Scheme::PssSha256 => &RSA_PSS_SHA256,
    };
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(scheme, &SystemRandom::new(), &fields, &mut signature).unwrap();
    sequence(&[fields, algorithm, bits(&signature)])
}

type Edit<T> = Box<dyn Fn(&mut T)>;

/// Makes a whole bundle, with changes.
pub(crate) struct Maker {
    pub(crate) line: ProductLine,
    pub(crate) leaf: CertificateKind,
    pub(crate) version: u32,
    pub(crate) tcb: TcbParts,
    pub(crate) with_crl: bool,
    certificate_edits: Vec<(CertificateKind, Edit<Draft>)>,
    crl_edit: Edit<CrlDraft>,
    report_edit: Edit<AttestationReport>,
}

impl Maker {
    pub(crate) fn new(line: ProductLine, leaf: CertificateKind, version: u32) -> Self {
        let fmc = (line == ProductLine::Turin).then_some(1);
        Self {
            line,
            leaf,
            version,
            tcb: TcbParts { fmc, boot_loader: 4, tee: 1, snp: 22, microcode: 213 },
            with_crl: true,
            certificate_edits: Vec::new(),
            crl_edit: Box::new(|_| ()),
            report_edit: Box::new(|_| ()),
        }
    }

    pub(crate) fn edit(mut self, kind: CertificateKind, edit: impl Fn(&mut Draft) + 'static) -> Self {
        self.certificate_edits.push((kind, Box::new(edit)));
        self
    }

    pub(crate) fn edit_crl(mut self, edit: impl Fn(&mut CrlDraft) + 'static) -> Self {
        self.crl_edit = Box::new(edit);
        self
    }

    pub(crate) fn edit_report(mut self, edit: impl Fn(&mut AttestationReport) + 'static) -> Self {
        self.report_edit = Box::new(edit);
        self
    }

    pub(crate) fn make(&self) -> Bundle {
        let (ark, ark_identifier) = self.rsa(CertificateKind::Ark);
        let signer_kind = self.leaf.issuer();
        let (signer, signer_identifier) = self.rsa(signer_kind);
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let ark_draft = self.authority(CertificateKind::Ark, &ark, &ark_identifier, None);
        let signer_draft = self.authority(signer_kind, &signer, &signer_identifier, Some(&ark_identifier));
        let point = sequence(&[sequence(&[EC_P384.to_vec()]), bits(key.public_key().as_ref())]);
        let leaf = Some(self.edited(self.leaf, self.leaf(point)).sign(&signer));
        let (vcek, vlek) = if self.leaf == CertificateKind::Vlek { (None, leaf) } else { (leaf, None) };
        Bundle {
            report: self.report(&key),
            ark: Some(ark_draft.sign(&ark)),
            ask: Some(signer_draft.sign(&ark)),
            vcek,
            vlek,
            crl: self.with_crl.then(|| self.crl(&ark, &ark_identifier)),
            table: None,
            inblob: Some(vec![7; 64]),
        }
    }

    /// A published key, and the identifier of its public half.
    fn rsa(&self, kind: CertificateKind) -> (RsaKeyPair, Vec<u8>) {
        let (line, kind) = (self.line.name().to_lowercase(), kind.name().to_lowercase());
        let path = super::repository().join(format!("keys/default/{line}/{kind}.key.der"));
        let key = RsaKeyPair::from_pkcs8(&std::fs::read(path).unwrap()).unwrap();
        let identifier = digest(&SHA1_FOR_LEGACY_USE_ONLY, key.public_key().as_ref()).as_ref().to_vec();
        (key, identifier)
    }

    fn edited(&self, kind: CertificateKind, mut draft: Draft) -> Draft {
        self.certificate_edits
            .iter()
            .filter(|(edited, _)| *edited == kind)
            .for_each(|(_, edit)| edit(&mut draft));
        draft
    }

    fn common_name(&self, kind: CertificateKind) -> String {
        let line = self.line.name();
        match kind {
            CertificateKind::Ark => format!("ARK-{line}"),
            CertificateKind::Ask => format!("SEV-{line}"),
            CertificateKind::Asvk => format!("SEV-VLEK-{line}"),
            CertificateKind::Vcek => "SEV-VCEK".to_owned(),
            CertificateKind::Vlek => "SEV-VLEK".to_owned(),
        }
    }

    fn draft(&self, kind: CertificateKind, key: Vec<u8>, extensions: Vec<(&str, bool, Vec<u8>)>) -> Draft {
        let extension = |(oid, critical, value): (&str, bool, Vec<u8>)| Extension {
            oid: oid.to_owned(),
            critical,
            value,
        };
        Draft {
            version: 3,
            serial: [b"tsmsim".as_slice(), &[1]].concat(),
            algorithm: pss(SHA384, 48),
            outer_algorithm: None,
            issuer: name(&self.common_name(kind.issuer())),
            not_before: utc_time("230101000000Z"),
            not_after: utc_time("471231235959Z"),
            subject: name(&self.common_name(kind)),
            key,
            extensions: extensions.into_iter().map(extension).collect(),
            scheme: Scheme::PssSha384,
        }
    }

    fn authority(&self, kind: CertificateKind, key: &RsaKeyPair, own: &[u8], issuer: Option<&[u8]>) -> Draft {
        let algorithm = sequence(&[oid("1.2.840.113549.1.1.1"), vec![5, 0]]);
        let public = sequence(&[algorithm, bits(key.public_key().as_ref())]);
        let service = if kind == CertificateKind::Asvk { "vlek" } else { "vcek" };
        let url = format!("https://kdsintf.amd.com/{service}/v1/{}/crl", self.line.name());
        let points =
            [0x86, 0xa0, 0xa0, 0x30, 0x30].into_iter().fold(url.into_bytes(), |inner, tag| tlv(tag, &inner));
        let mut extensions = vec![("2.5.29.14", false, tlv(0x04, own)), ("2.5.29.31", false, points)];
        match issuer {
            None => {
                extensions.push(("2.5.29.15", true, vec![3, 2, 1, 6]));
                extensions.push(("2.5.29.19", true, vec![0x30, 3, 1, 1, 0xff]));
            }
            Some(issuer) => {
                extensions.push(("2.5.29.15", true, vec![3, 2, 2, 4]));
                extensions.push(("2.5.29.19", true, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0]));
                extensions.push(("2.5.29.35", false, tlv(0x30, &tlv(0x80, issuer))));
            }
        }
        self.edited(kind, self.draft(kind, public, extensions))
    }

    fn leaf(&self, key: Vec<u8>) -> Draft {
        let product = match self.leaf {
            CertificateKind::Vlek => self.line.name().to_owned(),
            _ => format!("{}-B0", self.line.name()),
        };
        let mut levels = vec![(1, self.tcb.boot_loader), (2, self.tcb.tee), (3, self.tcb.snp)];
        levels.extend(if self.line == ProductLine::Turin { [(9, 1)] } else { [(4, 0)] });
        levels.extend([(5, 0), (6, 0), (7, 0), (8, self.tcb.microcode)]);
        let mut draft = self.draft(self.leaf, key, vec![]);
        draft.serial = vec![0];
        draft.add("1.3.6.1.4.1.3704.1.1", small(0));
        draft.add("1.3.6.1.4.1.3704.1.2", tlv(0x16, product.as_bytes()));
        for (number, level) in levels {
            draft.add(&format!("1.3.6.1.4.1.3704.1.3.{number}"), small(level));
        }
        match self.leaf {
            CertificateKind::Vlek => draft.add("1.3.6.1.4.1.3704.1.5", tlv(0x16, b"a provider")),
            _ => draft.add("1.3.6.1.4.1.3704.1.4", vec![0xc5; self.line.hwid_len()]),
        }
        draft
    }

    fn crl(&self, ark: &RsaKeyPair, identifier: &[u8]) -> Vec<u8> {
        let mut draft = CrlDraft {
            version: small(1),
            algorithm: pss(SHA384, 48),
            issuer: name(&self.common_name(CertificateKind::Ark)),
            this_update: utc_time("230101000000Z"),
            next_update: utc_time("471231235959Z"),
            revoked: vec![],
            extensions: vec![
                Extension {
                    oid: "2.5.29.35".to_owned(),
                    critical: false,
                    value: tlv(0x30, &tlv(0x80, identifier)),
                },
                Extension { oid: "2.5.29.20".to_owned(), critical: false, value: small(1) },
            ],
        };
        (self.crl_edit)(&mut draft);
        let revoked =
            draft.revoked.iter().map(|serial| sequence(&[tlv(0x02, serial), utc_time("240101000000Z")]));
        let revoked: Vec<Vec<u8>> = revoked.collect();
        let extensions: Vec<Vec<u8>> = draft.extensions.iter().map(Extension::encode).collect();
        let fields = sequence(&[
            draft.version,
            draft.algorithm.clone(),
            draft.issuer,
            draft.this_update,
            draft.next_update,
            if revoked.is_empty() { vec![] } else { sequence(&revoked) },
            if extensions.is_empty() { vec![] } else { tlv(0xa0, &sequence(&extensions)) },
        ]);
        seal(fields, draft.algorithm, Scheme::PssSha384, ark)
    }

    fn report(&self, key: &EcdsaKeyPair) -> Vec<u8> {
        let tcb = self.tcb.pack(self.line.tcb_layout());
        let mut report = AttestationReport::new_zeroed();
        report.version = self.version.into();
        report.policy = u64::from(GuestPolicy::DEFAULT).into();
        report.signature_algo = 1.into();
        report.platform_info = u64::from(PlatformInfo::new().with_smt_en(true)).into();
        let signing_key =
            if self.leaf == CertificateKind::Vlek { SigningKey::Vlek } else { SigningKey::Vcek };
        report.key_info = u32::from(KeyInfo::new().with_signing_key(signing_key)).into();
        report.report_data = [7; 64];
        report.measurement = [0x3e; 48];
        report.report_id = [0x1d; 32];
        report.report_id_ma = [0xff; 32];
        (report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb) =
            (tcb, tcb, tcb, tcb);
        (report.current_version, report.committed_version) =
            (FirmwareVersion::new(1, 58, 3), FirmwareVersion::new(1, 58, 3));
        if self.version >= 3 {
            (report.cpuid_fam_id, report.cpuid_mod_id) = match self.line {
                ProductLine::Milan => (0x19, 0x01),
                ProductLine::Genoa => (0x19, 0x11),
                ProductLine::Turin => (0x1a, 0x02),
            };
        }
        if self.leaf == CertificateKind::Vcek {
            report.chip_id[..self.line.hwid_len()].fill(0xc5);
        }
        (self.report_edit)(&mut report);
        let signature = key.sign(&SystemRandom::new(), &report.as_bytes()[..SIGNED_SIZE]).unwrap();
        let (r, s) = signature.as_ref().split_at(48);
        let high_bytes = report.signature;
        report.signature = Signature::from_big_endian(r.try_into().unwrap(), s.try_into().unwrap());
        report.signature.reserved_0x90 = high_bytes.reserved_0x90;
        report.as_bytes().to_vec()
    }
}

/// The algorithm identifier of PSS with SHA-256.
pub(crate) fn pss_sha256() -> Vec<u8> {
    pss(SHA256, 32)
}

/// A certificate table with these entries, and `padding` zero bytes at the end.
pub(crate) fn table(entries: &[(CertGuid, &[u8])], padding: usize) -> Vec<u8> {
    let mut offset = (entries.len() + 1) * size_of::<CertTableEntry>();
    let mut head = Vec::new();
    let mut data = Vec::new();
    for (guid, certificate) in entries {
        let number = |value: usize| U32::new(u32::try_from(value).unwrap());
        let entry = CertTableEntry { guid: *guid, offset: number(offset), length: number(certificate.len()) };
        head.extend_from_slice(entry.as_bytes());
        data.extend_from_slice(certificate);
        offset += certificate.len();
    }
    head.extend([0; size_of::<CertTableEntry>()]);
    [head, data, vec![0; padding]].concat()
}
