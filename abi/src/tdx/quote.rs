//! Quotes, versions 3, 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A, and the headers `sgx_quote_3.h`,
//! `sgx_quote_4.h`, `sgx_quote_5.h` of the DCAP sources).
//!
//! | version | layout |
//! |---|---|
//! | 3 | [`QuoteHeader`], [`EnclaveReportBody`], size, signature data |
//! | 4 | [`QuoteHeader`], [`TdReportBody10`] (or [`EnclaveReportBody`] where `tee_type` is 0), size, signature data |
//! | 5 | [`QuoteHeader`], [`BodyDescriptor`], body, size, signature data |
//!
//! The signature covers everything before the size. The size of the signature data is a little-endian `u32`.

use zerocopy::little_endian::{U16, U32, U64};

use super::{
    codec::{ReadError, Reader, WriteError, Writer, size_u32},
    qe::{
        CertificationData, CertificationDataType, EcdsaP256PublicKey, EcdsaP256Signature, EnclaveReportBody,
        QeReportCertificationData,
    },
    report::{Measurement, NUM_RTMRS, TdReport, TeeTcbSvn},
    td_params::{TdAttributes, Xfam},
};

wire! {
    /// Quote header, of every version.
    pub struct QuoteHeader {
        /// A [`QuoteVersion`].
        pub version: U16,
        /// An [`AttestationKeyType`].
        pub attestation_key_type: U16,
        /// A [`QuoteTeeType`]; reserved, zero in version 3.
        pub tee_type: U32,
        /// Security version number of the quoting enclave in version 3; reserved in 4 and 5.
        pub qe_svn: U16,
        /// Security version number of the provisioning certification enclave in version 3; reserved in 4 and 5.
        pub pce_svn: U16,
        /// Vendor of the quoting enclave.
        pub qe_vendor_id: [u8; 16],
        /// Of the quoting enclave's owner; Intel's puts a platform identifier into the first 16 bytes.
        pub user_data: [u8; 20],
    }
}
assert_layout!(QuoteHeader, 48, {
    version: 0x0, attestation_key_type: 0x2, tee_type: 0x4, qe_svn: 0x8, pce_svn: 0xa, qe_vendor_id: 0xc,
    user_data: 0x1c,
});

/// Intel's quoting enclaves, 939a7233-f79c-4ca9-940a-0db3957f0607, big-endian.
pub const INTEL_QE_VENDOR_ID: [u8; 16] = 0x939a_7233_f79c_4ca9_940a_0db3_957f_0607_u128.to_be_bytes();

open_codes! {
    /// Version of a quote.
    pub struct QuoteVersion(u16);
    /// SGX.
    V3 = 3;
    /// SGX and TDX 1.0.
    V4 = 4;
    /// SGX, TDX 1.0 and 1.5.
    V5 = 5;
}

open_codes! {
    /// Which key signs a quote.
    pub struct AttestationKeyType(u16);
    /// ECDSA P-256 with SHA-256.
    ECDSA_P256 = 2;
    /// ECDSA P-384 with SHA-384; not in use.
    ECDSA_P384 = 3;
}

open_codes! {
    /// What is quoted.
    pub struct QuoteTeeType(u32);
    /// An SGX enclave.
    SGX = 0x00;
    /// A trust domain.
    TDX = 0x81;
}

open_codes! {
    /// Type of a version 5 body.
    pub struct BodyType(u16);
    /// [`EnclaveReportBody`].
    SGX_ENCLAVE_REPORT = 1;
    /// [`TdReportBody10`].
    TD_REPORT_10 = 2;
    /// [`TdReportBody15`].
    TD_REPORT_15 = 3;
}

wire! {
    /// Says what the body of a version 5 quote is.
    pub struct BodyDescriptor {
        /// A [`BodyType`].
        pub body_type: U16,
        /// Size of the body.
        pub size: U32,
    }
}
assert_layout!(BodyDescriptor, 6, { body_type: 0x0, size: 0x2 });

wire! {
    /// `sgx_report2_body_t`: the TD, TDX 1.0.
    pub struct TdReportBody10 {
        /// Security versions of the SEAM components.
        pub tee_tcb_svn: TeeTcbSvn,
        /// Measurement of the module.
        pub mr_seam: Measurement,
        /// Signer of the module; zero for Intel's.
        pub mr_signer_seam: Measurement,
        /// Attributes of the module; zero.
        pub seam_attributes: U64,
        /// The bits of [`TdAttributes`].
        pub td_attributes: U64,
        /// The bits of [`Xfam`].
        pub xfam: U64,
        /// Measurement of the TD's initial contents.
        pub mr_td: Measurement,
        /// Configuration that the owner does not define.
        pub mr_config_id: Measurement,
        /// The owner.
        pub mr_owner: Measurement,
        /// Configuration that the owner defines.
        pub mr_owner_config: Measurement,
        /// Run-time measurement registers.
        pub rtmr: [Measurement; NUM_RTMRS],
        /// Given by the guest.
        pub report_data: [u8; 64],
    }
}
assert_layout!(TdReportBody10, 584, {
    tee_tcb_svn: 0, mr_seam: 16, mr_signer_seam: 64, seam_attributes: 112, td_attributes: 120, xfam: 128, mr_td: 136,
    mr_config_id: 184, mr_owner: 232, mr_owner_config: 280, rtmr: 328, report_data: 520,
});

impl TdReportBody10 {
    /// The attributes' bits.
    #[must_use]
    pub fn attribute_bits(&self) -> TdAttributes {
        self.td_attributes.get().into()
    }

    /// The extended features' bits.
    #[must_use]
    pub fn xfam_bits(&self) -> Xfam {
        self.xfam.get().into()
    }
}

impl From<&TdReport> for TdReportBody10 {
    fn from(report: &TdReport) -> Self {
        let (tcb, td) = (&report.tee_tcb_info, &report.td_info);
        Self {
            tee_tcb_svn: tcb.tee_tcb_svn,
            mr_seam: tcb.mr_seam,
            mr_signer_seam: tcb.mr_signer_seam,
            seam_attributes: tcb.attributes,
            td_attributes: td.attributes,
            xfam: td.xfam,
            mr_td: td.mr_td,
            mr_config_id: td.mr_config_id,
            mr_owner: td.mr_owner,
            mr_owner_config: td.mr_owner_config,
            rtmr: td.rtmr,
            report_data: report.report_mac_struct.report_data,
        }
    }
}

wire! {
    /// `sgx_report2_body_v1_5_t`: the TD, TDX 1.5.
    pub struct TdReportBody15 {
        /// What version 1.0 has.
        pub base: TdReportBody10,
        /// Security versions of the module that runs now.
        pub tee_tcb_svn2: TeeTcbSvn,
        /// SHA-384 of the bound service TDs; zero if there is none.
        pub mr_service_td: Measurement,
    }
}
assert_layout!(TdReportBody15, 648, { base: 0, tee_tcb_svn2: 584, mr_service_td: 600 });

impl From<&TdReport> for TdReportBody15 {
    fn from(report: &TdReport) -> Self {
        Self {
            base: report.into(),
            tee_tcb_svn2: report.tee_tcb_info.tee_tcb_svn2,
            mr_service_td: report.td_info.servtd_hash,
        }
    }
}

/// The body of a quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuoteBody {
    /// An enclave.
    Enclave(EnclaveReportBody),
    /// A TD, TDX 1.0.
    Td10(TdReportBody10),
    /// A TD, TDX 1.5.
    Td15(TdReportBody15),
}

impl QuoteBody {
    /// Its type in a version 5 quote.
    #[must_use]
    pub const fn body_type(&self) -> BodyType {
        match self {
            Self::Enclave(_) => BodyType::SGX_ENCLAVE_REPORT,
            Self::Td10(_) => BodyType::TD_REPORT_10,
            Self::Td15(_) => BodyType::TD_REPORT_15,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Enclave(body) => zerocopy::IntoBytes::as_bytes(body),
            Self::Td10(body) => zerocopy::IntoBytes::as_bytes(body),
            Self::Td15(body) => zerocopy::IntoBytes::as_bytes(body),
        }
    }

    /// The TD's part that both versions have.
    #[must_use]
    pub const fn td(&self) -> Option<&TdReportBody10> {
        match self {
            Self::Enclave(_) => None,
            Self::Td10(body) => Some(body),
            Self::Td15(body) => Some(&body.base),
        }
    }

    /// Report data, of every body.
    #[must_use]
    pub const fn report_data(&self) -> &[u8; 64] {
        match self {
            Self::Enclave(body) => &body.report_data,
            Self::Td10(body) => &body.report_data,
            Self::Td15(body) => &body.base.report_data,
        }
    }

    fn read_from(reader: &mut Reader<'_>, body_type: BodyType) -> Result<Self, ReadError> {
        Ok(match body_type {
            BodyType::SGX_ENCLAVE_REPORT => Self::Enclave(*reader.part("enclave report")?),
            BodyType::TD_REPORT_10 => Self::Td10(*reader.part("TD report, TDX 1.0")?),
            BodyType::TD_REPORT_15 => Self::Td15(*reader.part("TD report, TDX 1.5")?),
            BodyType(other) => {
                return Err(ReadError::Unsupported { what: "quote body type", value: other.into() });
            }
        })
    }
}

/// What the signature of a quote covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedPart {
    /// Header.
    pub header: QuoteHeader,
    /// Body.
    pub body: QuoteBody,
}

impl SignedPart {
    fn read_from(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let header: QuoteHeader = *reader.part("quote header")?;
        let body_type = match (QuoteVersion(header.version.get()), QuoteTeeType(header.tee_type.get())) {
            (QuoteVersion::V5, _) => {
                let descriptor: &BodyDescriptor = reader.part("quote body descriptor")?;
                return Self::read_described(reader, header, descriptor);
            }
            (QuoteVersion::V3, _) | (QuoteVersion::V4, QuoteTeeType::SGX) => BodyType::SGX_ENCLAVE_REPORT,
            (QuoteVersion::V4, QuoteTeeType::TDX) => BodyType::TD_REPORT_10,
            (QuoteVersion::V4, other) => {
                return Err(ReadError::Unsupported { what: "TEE type of the quote", value: other.0.into() });
            }
            (other, _) => {
                return Err(ReadError::Unsupported { what: "quote version", value: other.0.into() });
            }
        };
        Ok(Self { header, body: QuoteBody::read_from(reader, body_type)? })
    }

    fn read_described(
        reader: &mut Reader<'_>,
        header: QuoteHeader,
        descriptor: &BodyDescriptor,
    ) -> Result<Self, ReadError> {
        let body = QuoteBody::read_from(reader, descriptor.body_type.get().into())?;
        let (stated, expected) = (descriptor.size.get().into(), body.as_bytes().len() as u64);
        if stated != expected {
            return Err(ReadError::Size { what: "quote body", stated, expected });
        }
        Ok(Self { header, body })
    }

    fn descriptor(&self) -> Result<Option<BodyDescriptor>, WriteError> {
        let body_type = self.body.body_type();
        let tee_type = QuoteTeeType(self.header.tee_type.get());
        match (QuoteVersion(self.header.version.get()), body_type, tee_type) {
            (QuoteVersion::V5, _, _) => {
                let size = size_u32(self.body.as_bytes().len(), "quote body")?;
                Ok(Some(BodyDescriptor { body_type: body_type.0.into(), size: size.into() }))
            }
            (QuoteVersion::V3, BodyType::SGX_ENCLAVE_REPORT, _)
            | (QuoteVersion::V4, BodyType::SGX_ENCLAVE_REPORT, QuoteTeeType::SGX)
            | (QuoteVersion::V4, BodyType::TD_REPORT_10, QuoteTeeType::TDX) => Ok(None),
            _ => Err(WriteError::Inconsistent { what: "quote body" }),
        }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let descriptor = match QuoteVersion(self.header.version.get()) {
            QuoteVersion::V5 => size_of::<BodyDescriptor>(),
            _ => 0,
        };
        size_of::<QuoteHeader>() + descriptor + self.body.as_bytes().len()
    }

    /// Writes it to the front of `out`: what is to be signed. Returns its size.
    ///
    /// # Errors
    /// The buffer is too small; or the version cannot have this body.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WriteError> {
        let mut writer = Writer::new(out, self.size())?;
        self.write_to(&mut writer)?;
        Ok(writer.written())
    }

    fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        let descriptor = self.descriptor()?;
        writer.part(&self.header)?;
        if let Some(descriptor) = descriptor {
            writer.part(&descriptor)?;
        }
        writer.bytes(self.body.as_bytes())
    }
}

/// A quote, with what lies behind it in its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote<'a> {
    /// Header and body.
    pub signed: SignedPart,
    /// Signature data; see [`EcdsaSignatureData`].
    pub signature_data: &'a [u8],
    /// Behind the quote: what else was in the buffer. Nothing protects it.
    pub trailing: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads a quote of version 3, 4 or 5. The signature data are not looked into, and bytes behind them are kept.
    ///
    /// # Errors
    /// A part is cut off; the version, TEE type or body type is unknown; the stated body size is not the body's.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let signed = SignedPart::read_from(&mut reader)?;
        let size: &U32 = reader.part("size of the signature data")?;
        let signature_data = reader.sized(size.get(), "signature data")?;
        Ok(Self { signed, signature_data, trailing: reader.rest() })
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> QuoteVersion {
        QuoteVersion(self.signed.header.version.get())
    }

    /// The signature data.
    ///
    /// # Errors
    /// The attestation key is not a P-256 key, or the data are malformed.
    pub fn signature(&self) -> Result<EcdsaSignatureData<'a>, ReadError> {
        let key_type = AttestationKeyType(self.signed.header.attestation_key_type.get());
        if key_type != AttestationKeyType::ECDSA_P256 {
            return Err(ReadError::Unsupported { what: "attestation key type", value: key_type.0.into() });
        }
        EcdsaSignatureData::read(self.version(), self.signature_data)
    }

    /// Bytes that it takes, with what lies behind it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.signed.size() + size_of::<U32>() + self.signature_data.len() + self.trailing.len()
    }

    /// Writes it to the front of `out`. Returns its size.
    ///
    /// # Errors
    /// The buffer is too small; the signature data are too long; or the version cannot have this body.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WriteError> {
        let size = size_u32(self.signature_data.len(), "signature data")?;
        let mut writer = Writer::new(out, self.size())?;
        self.signed.write_to(&mut writer)?;
        writer.part(&U32::new(size))?;
        writer.bytes(self.signature_data)?;
        writer.bytes(self.trailing)?;
        Ok(writer.written())
    }
}

/// ECDSA P-256 signature data of a quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EcdsaSignatureData<'a> {
    /// Signature of the [`SignedPart`] by the attestation key.
    pub signature: EcdsaP256Signature,
    /// The attestation key.
    pub attestation_key: EcdsaP256PublicKey,
    /// What certifies the attestation key. Versions 4 and 5 wrap it into certification data of type 6.
    pub qe: QeReportCertificationData<'a>,
}

impl<'a> EcdsaSignatureData<'a> {
    /// Reads exactly `bytes`, as a quote of that version has them.
    ///
    /// # Errors
    /// A part is cut off; bytes are left inside or behind; the certification data are not of type 6 (versions 4, 5).
    pub fn read(version: QuoteVersion, bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let signature = *reader.part("quote signature")?;
        let attestation_key = *reader.part("attestation key")?;
        let qe = match version {
            QuoteVersion::V3 => QeReportCertificationData::read_from(&mut reader)?,
            _ => {
                let outer = CertificationData::read_from(&mut reader)?;
                if outer.data_type != CertificationDataType::QE_REPORT {
                    let value = outer.data_type.0.into();
                    return Err(ReadError::Unsupported {
                        what: "type of the quote's certification data",
                        value,
                    });
                }
                QeReportCertificationData::read(outer.data)?
            }
        };
        reader.end("signature data")?;
        Ok(Self { signature, attestation_key, qe })
    }

    /// Bytes that it takes in a quote of that version.
    #[must_use]
    pub const fn size(&self, version: QuoteVersion) -> usize {
        let wrapping = match version {
            QuoteVersion::V3 => 0,
            _ => size_of::<super::qe::CertificationDataHeader>(),
        };
        size_of::<EcdsaP256Signature>() + size_of::<EcdsaP256PublicKey>() + wrapping + self.qe.size()
    }

    /// Writes it to the front of `out`, as a quote of that version has it. Returns its size.
    ///
    /// # Errors
    /// The buffer is too small, or a part is too long for its size field.
    pub fn write(&self, version: QuoteVersion, out: &mut [u8]) -> Result<usize, WriteError> {
        let mut writer = Writer::new(out, self.size(version))?;
        writer.part(&self.signature)?;
        writer.part(&self.attestation_key)?;
        if version != QuoteVersion::V3 {
            let size = size_u32(self.qe.size(), "certification data")?;
            writer.part(&super::qe::CertificationDataHeader {
                data_type: CertificationDataType::QE_REPORT.0.into(),
                size: size.into(),
            })?;
        }
        self.qe.write_to(&mut writer)?;
        Ok(writer.written())
    }
}

#[cfg(test)]
mod tests;
