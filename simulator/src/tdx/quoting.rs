//! The quoting enclave for TDs: turns a TDREPORT of its own platform into a quote (Intel TDX DCAP Quoting Library API,
//! appendix A).
//!
//! The attestation key is certified once, when the enclave is made, as by the provisioning certification enclave: the PCK
//! signs the enclave's report, which names the attestation key. Each quote costs one signature.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use tsmsim_abi::tdx::{
    codec::WriteError,
    qe::{
        CertificationData, CertificationDataType, EcdsaP256PublicKey, EcdsaP256Signature, EnclaveFlags,
        EnclaveReportBody, QeReportCertificationData,
    },
    quote::{
        AttestationKeyType, EcdsaSignatureData, INTEL_QE_VENDOR_ID, Quote, QuoteBody, QuoteHeader,
        QuoteTeeType, QuoteVersion, SignedPart,
    },
    report::{ReportVersion, TdReport},
};
use tsmsim_keys::{EcdsaP256Key, KeysError, SignatureMode};
use zerocopy::{FromZeros, IntoBytes, TryFromBytes};

use super::{
    mrtd::sha384,
    platform::{MacError, QuoteFormat, TdxPlatform},
};

/// Authentication data of Intel's quoting enclave: 32 bytes that count up.
const AUTH_DATA: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31,
];
/// Extended features of the enclave: x87, SSE, AVX, AVX-512, as on processors with TDX.
const QE_XFRM: u64 = 0xe7;

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// Not 1024 bytes.
    #[error("a TDREPORT has 1024 bytes, not {0}")]
    Size(usize),
    /// Type, sub-type or version is not that of a TD's report, or reserved bytes are set.
    #[error("not the report of a TD")]
    ReportType,
    /// The report was made elsewhere or was changed.
    #[error(transparent)]
    Mac(#[from] MacError),
    /// What the MAC covers the hash of was changed.
    #[error("{0} is not what its hash in the report is of")]
    Hash(&'static str),
    /// A key failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The quote cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A quoting enclave with its attestation key, certified.
#[derive(Clone)]
pub struct QuotingEnclave {
    platform: TdxPlatform,
    attestation_key: Arc<EcdsaP256Key>,
    public_key: EcdsaP256PublicKey,
    qe_report: EnclaveReportBody,
    qe_report_signature: EcdsaP256Signature,
    /// The PCK certificate and those above it, PEM, with a zero byte.
    chain: Arc<[u8]>,
}

impl QuotingEnclave {
    /// The enclave of a platform.
    ///
    /// # Errors
    /// [`KeysError`] if a key or certificate cannot be made.
    pub fn new(platform: &TdxPlatform) -> Result<Self, KeysError> {
        let (hierarchy, identity) = (platform.hierarchy(), platform.identity());
        let attestation_key = hierarchy.attestation_key(identity)?;
        let pck = hierarchy.pck(identity)?;
        let point = attestation_key.public_point();
        let public_key = EcdsaP256PublicKey::try_read_from_bytes(point.get(1..).unwrap_or_default())
            .map_err(|_| KeysError::KeyEncoding("P-256 public point"))?;
        let qe_report = qe_report(platform, &public_key);
        let signature = pck.sign(platform.config().signature_mode, qe_report.as_bytes())?;
        Ok(Self {
            attestation_key,
            public_key,
            qe_report,
            qe_report_signature: EcdsaP256Signature { r: signature.r, s: signature.s },
            chain: [pck.chain().as_bytes(), &[0]].concat().into(),
            platform: platform.clone(),
        })
    }

    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> &TdxPlatform {
        &self.platform
    }

    /// The quote of a report, in the platform's format.
    ///
    /// # Errors
    /// [`QuoteError`]: the bytes are not a report that this platform made.
    pub fn quote(&self, report: &[u8]) -> Result<Vec<u8>, QuoteError> {
        let report = TdReport::try_read_from_bytes(report).map_err(|_| QuoteError::Size(report.len()))?;
        self.quote_as(&report, self.platform.config().quote_format)
    }

    /// The quote of a report, in a format.
    ///
    /// # Errors
    /// [`QuoteError`]: the report was not made by this platform.
    pub fn quote_as(&self, report: &TdReport, format: QuoteFormat) -> Result<Vec<u8>, QuoteError> {
        self.verify(report)?;
        let (version, body) = match format {
            QuoteFormat::V4 => (QuoteVersion::V4, QuoteBody::Td10(report.into())),
            QuoteFormat::V5Td10 => (QuoteVersion::V5, QuoteBody::Td10(report.into())),
            QuoteFormat::V5Td15 => (QuoteVersion::V5, QuoteBody::Td15(report.into())),
        };
        let signed = SignedPart { header: self.header(version), body };
        let mut message = vec![0; signed.size()];
        signed.write(&mut message)?;
        let signature = self.attestation_key.sign(self.signature_mode(), &message)?;
        let data = EcdsaSignatureData {
            signature: EcdsaP256Signature { r: signature.r, s: signature.s },
            attestation_key: self.public_key,
            qe: QeReportCertificationData {
                qe_report: self.qe_report,
                qe_report_signature: self.qe_report_signature,
                auth_data: &AUTH_DATA,
                certification: CertificationData {
                    data_type: CertificationDataType::PCK_CERT_CHAIN,
                    data: &self.chain,
                },
            },
        };
        let mut signature_data = vec![0; data.size(version)];
        data.write(version, &mut signature_data)?;
        let quote = Quote { signed, signature_data: &signature_data, trailing: &[] };
        let mut bytes = vec![0; quote.size()];
        quote.write(&mut bytes)?;
        Ok(bytes)
    }

    const fn signature_mode(&self) -> SignatureMode {
        self.platform.config().signature_mode
    }

    fn header(&self, version: QuoteVersion) -> QuoteHeader {
        let mut user_data = [0; 20];
        user_data[..16].copy_from_slice(self.platform.qe_id());
        QuoteHeader {
            version: version.0.into(),
            attestation_key_type: AttestationKeyType::ECDSA_P256.0.into(),
            tee_type: QuoteTeeType::TDX.0.into(),
            qe_svn: 0.into(),
            pce_svn: 0.into(),
            qe_vendor_id: INTEL_QE_VENDOR_ID,
            user_data,
        }
    }

    fn verify(&self, report: &TdReport) -> Result<(), QuoteError> {
        let mac = &report.report_mac_struct;
        let known = matches!(
            ReportVersion(mac.report_type.version),
            ReportVersion::NO_SERVICE_TD | ReportVersion::WITH_SERVICE_TD
        );
        let reserved = mac.report_type.reserved == 0
            && mac.reserved_0x4 == [0; 12]
            && mac.reserved_0xc0 == [0; 32]
            && report.reserved == [0; 17];
        if !known || mac.report_type.subtype != 0 || !reserved {
            return Err(QuoteError::ReportType);
        }
        self.platform.verify_report(mac)?;
        if sha384(&[report.tee_tcb_info.as_bytes()]) != mac.tee_tcb_info_hash {
            return Err(QuoteError::Hash("TEE_TCB_INFO"));
        }
        if sha384(&[report.td_info.as_bytes()]) != mac.tee_info_hash {
            return Err(QuoteError::Hash("TDINFO"));
        }
        Ok(())
    }
}

/// The enclave's report: SHA-256 of attestation key and authentication data is its report data.
fn qe_report(platform: &TdxPlatform, key: &EcdsaP256PublicKey) -> EnclaveReportBody {
    let spec = &platform.config().qe;
    let (flags, _) = spec.attributes.split_at(8);
    let flags = flags.iter().rev().fold(0, |flags, byte| flags << 8 | u64::from(*byte));
    let mut report_data = [0; 64];
    let hash = digest(&SHA256, &[key.as_bytes(), &AUTH_DATA].concat());
    report_data[..32].copy_from_slice(hash.as_ref());
    let mut mr_enclave = [0; 32];
    mr_enclave.copy_from_slice(digest(&SHA256, b"tsmsim quoting enclave for TDX").as_ref());
    EnclaveReportBody {
        cpu_svn: platform.identity().tcb.cpusvn,
        misc_select: u32::from_le_bytes(spec.miscselect).into(),
        attributes_flags: EnclaveFlags::from(flags).with_mode64bit(true).into_bits().into(),
        attributes_xfrm: QE_XFRM.into(),
        mr_enclave,
        mr_signer: spec.mrsigner,
        isv_prod_id: spec.isvprodid.into(),
        isv_svn: spec.isvsvn.into(),
        report_data,
        ..EnclaveReportBody::new_zeroed()
    }
}
