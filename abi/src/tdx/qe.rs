//! What certifies a quote: the quoting enclave's report, its authentication data and certification data (Intel TDX DCAP
//! Quoting Library API, appendix A, and the headers `sgx_quote_3.h`, `sgx_quote_4.h` of the DCAP sources).

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64};

use super::codec::{ReadError, Reader, WriteError, Writer, size_u32};

wire! {
    /// `sgx_report_body_t`: what an enclave is (Intel SDM volume 3D, section "REPORT", and the SGX SDK).
    pub struct EnclaveReportBody {
        /// Security version number of the processor.
        pub cpu_svn: [u8; 16],
        /// Which fields the state save area has.
        pub misc_select: U32,
        /// Reserved, zero.
        pub reserved_0x14: [u8; 12],
        /// Extended product identifier.
        pub isv_ext_prod_id: [u8; 16],
        /// The bits of [`EnclaveFlags`].
        pub attributes_flags: U64,
        /// Extended features, as `XCR0`.
        pub attributes_xfrm: U64,
        /// Measurement of the enclave: SHA-256.
        pub mr_enclave: [u8; 32],
        /// Reserved, zero.
        pub reserved_0x60: [u8; 32],
        /// SHA-256 of the signer's key.
        pub mr_signer: [u8; 32],
        /// Reserved, zero.
        pub reserved_0xa0: [u8; 32],
        /// Configuration identifier.
        pub config_id: [u8; 64],
        /// Product identifier.
        pub isv_prod_id: U16,
        /// Security version number of the enclave.
        pub isv_svn: U16,
        /// Security version number of the configuration.
        pub config_svn: U16,
        /// Reserved, zero.
        pub reserved_0x106: [u8; 42],
        /// Product family.
        pub isv_family_id: [u8; 16],
        /// Given by the enclave. A quoting enclave's: SHA-256 of attestation key and authentication data, then zero.
        pub report_data: [u8; 64],
    }
}
assert_layout!(EnclaveReportBody, 0x180, {
    cpu_svn: 0x0, misc_select: 0x10, reserved_0x14: 0x14, isv_ext_prod_id: 0x20, attributes_flags: 0x30,
    attributes_xfrm: 0x38, mr_enclave: 0x40, reserved_0x60: 0x60, mr_signer: 0x80, reserved_0xa0: 0xa0,
    config_id: 0xc0, isv_prod_id: 0x100, isv_svn: 0x102, config_svn: 0x104, reserved_0x106: 0x106,
    isv_family_id: 0x130, report_data: 0x140,
});

/// `ATTRIBUTES.FLAGS` of an enclave.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EnclaveFlags {
    /// Initialised.
    pub init: bool,
    /// May be debugged.
    pub debug: bool,
    /// Runs in 64-bit mode.
    pub mode64bit: bool,
    /// Reserved, zero.
    pub reserved_3: bool,
    /// May use the provisioning key.
    pub provision_key: bool,
    /// May use the launch token key.
    pub einittoken_key: bool,
    /// Uses control-flow enforcement.
    pub cet: bool,
    /// Uses key separation and sharing.
    pub kss: bool,
    /// Reserved, zero.
    #[bits(2)]
    pub reserved_8: u8,
    /// Is told of asynchronous exits.
    pub aex_notify: bool,
    /// Reserved, zero.
    #[bits(53)]
    pub reserved_11: u64,
}

wire! {
    /// ECDSA P-256 signature: R and S, big-endian.
    pub struct EcdsaP256Signature {
        /// R.
        pub r: [u8; 32],
        /// S.
        pub s: [u8; 32],
    }
}
assert_layout!(EcdsaP256Signature, 64, { r: 0x0, s: 0x20 });

wire! {
    /// ECDSA P-256 public key: X and Y, big-endian.
    pub struct EcdsaP256PublicKey {
        /// X.
        pub x: [u8; 32],
        /// Y.
        pub y: [u8; 32],
    }
}
assert_layout!(EcdsaP256PublicKey, 64, { x: 0x0, y: 0x20 });

open_codes! {
    /// Type of [`CertificationData`].
    pub struct CertificationDataType(u16);
    /// A [`PpidCleartext`].
    PPID_CLEARTEXT = 1;
    /// A [`PpidRsa2048Encrypted`].
    PPID_RSA2048_ENCRYPTED = 2;
    /// A [`PpidRsa3072Encrypted`].
    PPID_RSA3072_ENCRYPTED = 3;
    /// The PCK certificate.
    PCK_CLEARTEXT = 4;
    /// The PCK certificate, the intermediate CA's and the root's, PEM, in this order; a zero byte may follow.
    PCK_CERT_CHAIN = 5;
    /// A [`QeReportCertificationData`].
    QE_REPORT = 6;
    /// A platform manifest.
    PLATFORM_MANIFEST = 7;
}

wire! {
    /// Certification data of type 1: names the PCK certificate.
    pub struct PpidCleartext {
        /// Identifier of the platform.
        pub ppid: [u8; 16],
        /// Which TCB the PCK is of.
        pub tcb: PckTcb,
    }
}
assert_layout!(PpidCleartext, 36, { ppid: 0x0, tcb: 0x10 });

wire! {
    /// Certification data of type 2.
    pub struct PpidRsa2048Encrypted {
        /// Identifier of the platform, RSA-OAEP.
        pub ppid: [u8; 256],
        /// Which TCB the PCK is of.
        pub tcb: PckTcb,
    }
}
assert_layout!(PpidRsa2048Encrypted, 276, { ppid: 0x0, tcb: 0x100 });

wire! {
    /// Certification data of type 3.
    pub struct PpidRsa3072Encrypted {
        /// Identifier of the platform, RSA-OAEP.
        pub ppid: [u8; 384],
        /// Which TCB the PCK is of.
        pub tcb: PckTcb,
    }
}
assert_layout!(PpidRsa3072Encrypted, 404, { ppid: 0x0, tcb: 0x180 });

wire! {
    /// The TCB of a PCK.
    pub struct PckTcb {
        /// `CPUSVN`.
        pub cpu_svn: [u8; 16],
        /// Security version number of the provisioning certification enclave.
        pub pce_svn: U16,
        /// Identifier of the provisioning certification enclave.
        pub pce_id: U16,
    }
}
assert_layout!(PckTcb, 20, { cpu_svn: 0x0, pce_svn: 0x10, pce_id: 0x12 });

wire! {
    /// Head of certification data; data follow.
    pub struct CertificationDataHeader {
        /// A [`CertificationDataType`].
        pub data_type: U16,
        /// Size of the data.
        pub size: U32,
    }
}
assert_layout!(CertificationDataHeader, 6, { data_type: 0x0, size: 0x2 });

/// Certification data: head and data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificationData<'a> {
    /// What the data are.
    pub data_type: CertificationDataType,
    /// The data.
    pub data: &'a [u8],
}

impl<'a> CertificationData<'a> {
    pub(crate) fn read_from(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let header: &CertificationDataHeader = reader.part("certification data header")?;
        let data = reader.sized(header.size.get(), "certification data")?;
        Ok(Self { data_type: header.data_type.get().into(), data })
    }

    /// Bytes that [`CertificationDataHeader`] and data take.
    #[must_use]
    pub const fn size(&self) -> usize {
        size_of::<CertificationDataHeader>() + self.data.len()
    }

    pub(crate) fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        let size = size_u32(self.data.len(), "certification data")?;
        writer.part(&CertificationDataHeader { data_type: self.data_type.0.into(), size: size.into() })?;
        writer.bytes(self.data)
    }

    /// The text of a certificate chain (type 5), without the zero bytes behind it.
    ///
    /// # Errors
    /// The data are of another type or not UTF-8.
    pub fn pem_chain(&self) -> Result<&'a str, ReadError> {
        if self.data_type != CertificationDataType::PCK_CERT_CHAIN {
            let value = self.data_type.0.into();
            return Err(ReadError::Unsupported { what: "type of the certification data", value });
        }
        let end = self.data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = self.data.get(..end).unwrap_or_default();
        core::str::from_utf8(text).map_err(|_| ReadError::Text { what: "PCK certificate chain" })
    }
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM chain, each from its first to its last line, in the order of the text. Only white space
/// may stand around them; ends after the first error.
pub fn pem_certificates(chain: &str) -> impl Iterator<Item = Result<&str, ReadError>> {
    let mut rest = chain.trim_start();
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.starts_with(PEM_BEGIN).then(|| rest.find(PEM_END)).flatten();
        let Some(end) = end.map(|end| end + PEM_END.len()) else {
            rest = "";
            return Some(Err(ReadError::Text { what: "PEM certificate" }));
        };
        let (certificate, behind) = rest.split_at(end);
        rest = behind.trim_start();
        Some(Ok(certificate))
    })
}

/// QE report certification data: certification data of type 6 (versions 4 and 5), or a part of the signature data
/// (version 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QeReportCertificationData<'a> {
    /// Report of the quoting enclave.
    pub qe_report: EnclaveReportBody,
    /// Signature of that report by the PCK.
    pub qe_report_signature: EcdsaP256Signature,
    /// Authentication data: hashed with the attestation key into the report; at most 65535 bytes.
    pub auth_data: &'a [u8],
    /// What certifies the PCK.
    pub certification: CertificationData<'a>,
}

impl<'a> QeReportCertificationData<'a> {
    /// Reads exactly `bytes`.
    ///
    /// # Errors
    /// A part is cut off, or bytes are left.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let data = Self::read_from(&mut reader)?;
        reader.end("QE report certification data")?;
        Ok(data)
    }

    pub(crate) fn read_from(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let qe_report = *reader.part("QE report")?;
        let qe_report_signature = *reader.part("QE report signature")?;
        let auth_size: &U16 = reader.part("size of the QE authentication data")?;
        let auth_data = reader.sized(auth_size.get().into(), "QE authentication data")?;
        let certification = CertificationData::read_from(reader)?;
        Ok(Self { qe_report, qe_report_signature, auth_data, certification })
    }

    /// Bytes that it takes.
    #[must_use]
    pub const fn size(&self) -> usize {
        size_of::<EnclaveReportBody>()
            + size_of::<EcdsaP256Signature>()
            + size_of::<U16>()
            + self.auth_data.len()
            + self.certification.size()
    }

    pub(crate) fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        let size = self.auth_data.len();
        let auth_size =
            u16::try_from(size).map_err(|_| WriteError::TooLong { what: "QE authentication data", size })?;
        writer.part(&self.qe_report)?;
        writer.part(&self.qe_report_signature)?;
        writer.part(&U16::new(auth_size))?;
        writer.bytes(self.auth_data)?;
        self.certification.write_to(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", 0, true)]
    #[case("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", 1, true)]
    #[case(
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        2,
        true
    )]
    #[case("-----BEGIN CERTIFICATE-----\nAA\n", 1, false)]
    #[case("rubbish\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", 1, false)]
    fn pem_blocks(#[case] text: &str, #[case] items: usize, #[case] sound: bool) {
        let blocks: Vec<_> = pem_certificates(text).collect();
        assert_eq!((blocks.len(), blocks.iter().all(Result::is_ok)), (items, sound));
    }

    #[test]
    fn a_chain_is_text_of_type_5() {
        let chain = |data_type, data| CertificationData { data_type, data }.pem_chain();
        assert_eq!(chain(CertificationDataType::PCK_CERT_CHAIN, b"abc\0\0"), Ok("abc"));
        assert!(chain(CertificationDataType::PCK_CLEARTEXT, b"abc").is_err());
        assert!(chain(CertificationDataType::PCK_CERT_CHAIN, b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            if let Ok(data) = QeReportCertificationData::read(&bytes) {
                let mut out = vec![0; data.size()];
                data.write_to(&mut Writer::new(&mut out, data.size()).unwrap()).unwrap();
                prop_assert_eq!(out, bytes);
            }
        }

        #[test]
        fn parts_round_trip(auth: Vec<u8>, certification: Vec<u8>, data_type: u16, fill: [u8; 32]) {
            let data = QeReportCertificationData {
                qe_report: zerocopy::transmute!([fill; 12]),
                qe_report_signature: EcdsaP256Signature { r: fill, s: fill },
                auth_data: &auth,
                certification: CertificationData { data_type: data_type.into(), data: &certification },
            };
            let mut out = vec![0; data.size()];
            data.write_to(&mut Writer::new(&mut out, data.size()).unwrap()).unwrap();
            prop_assert_eq!(QeReportCertificationData::read(&out), Ok(data));
            prop_assert!(QeReportCertificationData::read(&out[..out.len() - 1]).is_err());
            out.push(0);
            prop_assert!(QeReportCertificationData::read(&out).is_err());
        }
    }
}
