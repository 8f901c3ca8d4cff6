//! Messages of the quote generation service, QGS, version 1.1 (DCAP sources, `qgs_msg_lib.h` and `qgs_msg_lib.cpp`).
//!
//! A message is a [`MessageHeader`], sizes, and the parts that the sizes tell. Over a stream (vsock), a big-endian
//! `u32`, the message's size, goes before it; inside a GetQuote buffer, see [`super::get_quote`], it does as well.

use zerocopy::{
    big_endian,
    little_endian::{U16, U32},
};

use super::codec::{ReadError, Reader, WriteError, Writer, size_u32};

/// Major version: another one is refused.
pub const MAJOR_VERSION: u16 = 1;
/// Minor version: another one is taken as compatible.
pub const MINOR_VERSION: u16 = 1;

wire! {
    /// What goes before a message on a stream.
    pub struct FrameHeader {
        /// Size of the message, big-endian.
        pub size: big_endian::U32,
    }
}
assert_layout!(FrameHeader, 4, { size: 0x0 });

wire! {
    /// `qgs_msg_header_t`.
    pub struct MessageHeader {
        /// [`MAJOR_VERSION`].
        pub major_version: U16,
        /// [`MINOR_VERSION`].
        pub minor_version: U16,
        /// A [`MessageType`].
        pub message_type: U32,
        /// Size of the whole message.
        pub size: U32,
        /// A [`QgsError`]; zero in requests.
        pub error_code: U32,
    }
}
assert_layout!(MessageHeader, 16, {
    major_version: 0x0, minor_version: 0x2, message_type: 0x4, size: 0x8, error_code: 0xc,
});

open_codes! {
    /// Type of a message.
    pub struct MessageType(u32);
    /// Asks for a quote.
    GET_QUOTE_REQ = 0;
    /// Answers it.
    GET_QUOTE_RESP = 1;
    /// Asks for collateral.
    GET_COLLATERAL_REQ = 2;
    /// Answers it.
    GET_COLLATERAL_RESP = 3;
    /// Asks for what the platform is.
    GET_PLATFORM_INFO_REQ = 4;
    /// Answers it.
    GET_PLATFORM_INFO_RESP = 5;
}

open_codes! {
    /// Error codes: of the protocol, and what is wrong with a message.
    pub struct QgsError(u32);
    /// No error.
    SUCCESS = 0;
    /// Unexpected; what a service answers to almost every failure.
    UNEXPECTED = 0x1_2001;
    /// Out of memory.
    OUT_OF_MEMORY = 0x1_2002;
    /// A message is too small for its type.
    INVALID_PARAMETER = 0x1_2003;
    /// The major version is another one.
    INVALID_VERSION = 0x1_2004;
    /// The type is another one.
    INVALID_TYPE = 0x1_2005;
    /// Sizes do not add up, or are zero where something is needed.
    INVALID_SIZE = 0x1_2006;
    /// The error code is not what it should be.
    INVALID_CODE = 0x1_2007;
}

impl core::error::Error for QgsError {}

impl From<ReadError> for QgsError {
    fn from(_: ReadError) -> Self {
        Self::INVALID_SIZE
    }
}

wire! {
    /// Sizes of `GET_QUOTE_REQ` (report, list of key identifiers) and of `GET_QUOTE_RESP` (selected identifier,
    /// quote), and of `GET_COLLATERAL_REQ` (FMSPC, CA).
    pub struct TwoSizes {
        /// Size of the first part.
        pub first: U32,
        /// Size of the second part.
        pub second: U32,
    }
}
assert_layout!(TwoSizes, 8, { first: 0x0, second: 0x4 });

wire! {
    /// Versions and sizes of `GET_COLLATERAL_RESP`.
    pub struct CollateralSizes {
        /// Major version of the collateral.
        pub major_version: U16,
        /// Minor version of the collateral.
        pub minor_version: U16,
        /// Sizes, in the order of [`Collateral::parts`].
        pub sizes: [U32; 7],
    }
}
assert_layout!(CollateralSizes, 32, { major_version: 0x0, minor_version: 0x2, sizes: 0x4 });

wire! {
    /// Versions and sizes of `GET_PLATFORM_INFO_RESP`.
    pub struct PlatformInfoSizes {
        /// Security version number of the TD quoting enclave.
        pub tdqe_isv_svn: U16,
        /// Security version number of the provisioning certification enclave.
        pub pce_isv_svn: U16,
        /// Size of the platform identifier.
        pub platform_id: U32,
        /// Size of the CPUSVN.
        pub cpu_svn: U32,
    }
}
assert_layout!(PlatformInfoSizes, 12, { tdqe_isv_svn: 0x0, pce_isv_svn: 0x2, platform_id: 0x4, cpu_svn: 0x8 });

wire! {
    /// `sgx_att_key_id_ext_t`: an entry of the list of key identifiers.
    pub struct AttestationKeyId {
        /// Structure identifier: 0.
        pub id: U16,
        /// Structure version: 0.
        pub version: U16,
        /// Bytes of `mr_signer` that count: 32.
        pub mr_signer_length: U16,
        /// Signer of the quoting enclave.
        pub mr_signer: [u8; 48],
        /// Product identifier of the quoting enclave: 2 for TDs.
        pub prod_id: U32,
        /// Extended product identifier.
        pub extended_prod_id: [u8; 16],
        /// Configuration identifier.
        pub config_id: [u8; 64],
        /// Product family.
        pub family_id: [u8; 16],
        /// An [`super::quote::AttestationKeyType`].
        pub algorithm_id: U32,
        /// Service provider; zero for ECDSA.
        pub spid: [u8; 16],
        /// Zero for ECDSA.
        pub att_key_type: U16,
        /// Zero.
        pub reserved: [u8; 80],
    }
}
assert_layout!(AttestationKeyId, 256, {
    id: 0, version: 2, mr_signer_length: 4, mr_signer: 6, prod_id: 54, extended_prod_id: 58, config_id: 74,
    family_id: 138, algorithm_id: 154, spid: 158, att_key_type: 174, reserved: 176,
});

/// The collateral of a quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collateral<'a> {
    /// Version of the collateral, major and minor.
    pub version: (u16, u16),
    /// In the order of the message: issuer chain of the PCK CRL, root CA CRL, PCK CRL, issuer chain of TCB info, TCB
    /// info, issuer chain of QE identity, QE identity.
    pub parts: [&'a [u8]; 7],
    /// Four zero bytes follow: the answer to a request of minor version 0.
    pub padded: bool,
}

/// Zero bytes that follow `GET_PLATFORM_INFO_RESP`, and `GET_COLLATERAL_RESP` to a client of minor version 0.
pub const PADDING: usize = 4;

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// `GET_QUOTE_REQ`.
    GetQuoteReq {
        /// TDREPORT; not empty.
        report: &'a [u8],
        /// [`AttestationKeyId`]s, or nothing.
        id_list: &'a [u8],
    },
    /// `GET_QUOTE_RESP` without an error.
    GetQuoteResp {
        /// The [`AttestationKeyId`] taken, or nothing.
        selected_id: &'a [u8],
        /// The quote; not empty.
        quote: &'a [u8],
    },
    /// `GET_COLLATERAL_REQ`.
    GetCollateralReq {
        /// FMSPC; not empty.
        fmspc: &'a [u8],
        /// `platform` or `processor`; not empty.
        pck_ca: &'a [u8],
    },
    /// `GET_COLLATERAL_RESP` without an error.
    GetCollateralResp(Collateral<'a>),
    /// `GET_PLATFORM_INFO_REQ`.
    GetPlatformInfoReq,
    /// `GET_PLATFORM_INFO_RESP` without an error.
    GetPlatformInfoResp {
        /// Security version number of the TD quoting enclave.
        tdqe_isv_svn: u16,
        /// Security version number of the provisioning certification enclave.
        pce_isv_svn: u16,
        /// Identifier of the platform; not empty.
        platform_id: &'a [u8],
        /// CPUSVN; not empty.
        cpu_svn: &'a [u8],
    },
    /// A response with an error: everything behind the head is zero.
    Error {
        /// Which response.
        response: MessageType,
        /// Why; not zero.
        code: QgsError,
    },
}

impl<'a> Message<'a> {
    /// Reads exactly `bytes`, as the message library does. (Its client cannot read the error responses that its
    /// service gives to `GET_PLATFORM_INFO_REQ`, for want of padding; this one can.)
    ///
    /// # Errors
    /// What the library would return.
    pub fn read(bytes: &'a [u8]) -> Result<Self, QgsError> {
        let mut reader = Reader::new(bytes);
        let header: &MessageHeader = reader.part("header").map_err(|_| QgsError::INVALID_PARAMETER)?;
        let message_type = MessageType(header.message_type.get());
        let fixed = fixed_size(message_type).ok_or(QgsError::INVALID_TYPE)?;
        if bytes.len() < fixed {
            return Err(QgsError::INVALID_PARAMETER);
        }
        if header.major_version.get() != MAJOR_VERSION {
            return Err(QgsError::INVALID_VERSION);
        }
        if usize::try_from(header.size.get()) != Ok(bytes.len()) {
            return Err(QgsError::INVALID_SIZE);
        }
        match QgsError(header.error_code.get()) {
            QgsError::SUCCESS => Self::read_body(&mut reader, message_type),
            code if is_response(message_type) && code.0 <= QgsError::INVALID_CODE.0 => {
                let zero = reader.rest().iter().all(|byte| *byte == 0) && bytes.len() == fixed;
                if !zero {
                    Err(QgsError::INVALID_SIZE)
                } else {
                    Ok(Self::Error { response: message_type, code })
                }
            }
            _ => Err(QgsError::INVALID_CODE),
        }
    }

    fn read_body(reader: &mut Reader<'a>, message_type: MessageType) -> Result<Self, QgsError> {
        let message = match message_type {
            MessageType::GET_QUOTE_REQ => {
                let (report, id_list) = read_two(reader)?;
                if report.is_empty() {
                    return Err(QgsError::INVALID_CODE);
                }
                Self::GetQuoteReq { report, id_list }
            }
            MessageType::GET_QUOTE_RESP => {
                let (selected_id, quote) = read_two(reader)?;
                given(quote)?;
                Self::GetQuoteResp { selected_id, quote }
            }
            MessageType::GET_COLLATERAL_REQ => {
                let (fmspc, pck_ca) = read_two(reader)?;
                given(fmspc)?;
                given(pck_ca)?;
                Self::GetCollateralReq { fmspc, pck_ca }
            }
            MessageType::GET_COLLATERAL_RESP => Self::GetCollateralResp(read_collateral(reader)?),
            MessageType::GET_PLATFORM_INFO_REQ => Self::GetPlatformInfoReq,
            MessageType::GET_PLATFORM_INFO_RESP => read_platform_info(reader)?,
            _ => return Err(QgsError::INVALID_TYPE),
        };
        reader.end("message")?;
        Ok(message)
    }

    /// Its type.
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::GetQuoteReq { .. } => MessageType::GET_QUOTE_REQ,
            Self::GetQuoteResp { .. } => MessageType::GET_QUOTE_RESP,
            Self::GetCollateralReq { .. } => MessageType::GET_COLLATERAL_REQ,
            Self::GetCollateralResp(_) => MessageType::GET_COLLATERAL_RESP,
            Self::GetPlatformInfoReq => MessageType::GET_PLATFORM_INFO_REQ,
            Self::GetPlatformInfoResp { .. } => MessageType::GET_PLATFORM_INFO_RESP,
            Self::Error { response, .. } => *response,
        }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let fixed = fixed_size(self.message_type()).unwrap_or(size_of::<MessageHeader>());
        fixed
            + match self {
                Self::GetQuoteReq { report: first, id_list: second }
                | Self::GetQuoteResp { selected_id: first, quote: second }
                | Self::GetCollateralReq { fmspc: first, pck_ca: second } => first.len() + second.len(),
                Self::GetCollateralResp(collateral) => {
                    let parts: usize = collateral.parts.iter().map(|part| part.len()).sum();
                    parts + if collateral.padded { PADDING } else { 0 }
                }
                Self::GetPlatformInfoResp { platform_id, cpu_svn, .. } => {
                    platform_id.len() + cpu_svn.len() + PADDING
                }
                Self::GetPlatformInfoReq | Self::Error { .. } => 0,
            }
    }

    /// Writes it to the front of `out`. Returns its size.
    ///
    /// # Errors
    /// The buffer is too small, a part is too long, or an error is none of a response.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, WriteError> {
        let code = match self {
            Self::Error { response, code } if is_response(*response) && !matches!(code.0, 0 | 0x1_2008..) => {
                *code
            }
            Self::Error { .. } => return Err(WriteError::Inconsistent { what: "error response" }),
            _ => QgsError::SUCCESS,
        };
        let size = self.size();
        let mut writer = Writer::new(out, size)?;
        writer.part(&MessageHeader {
            major_version: MAJOR_VERSION.into(),
            minor_version: MINOR_VERSION.into(),
            message_type: self.message_type().0.into(),
            size: size_u32(size, "message")?.into(),
            error_code: code.0.into(),
        })?;
        self.write_body(&mut writer)?;
        Ok(writer.written())
    }

    fn write_body(&self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        match self {
            Self::GetQuoteReq { report: first, id_list: second }
            | Self::GetQuoteResp { selected_id: first, quote: second }
            | Self::GetCollateralReq { fmspc: first, pck_ca: second } => {
                let sizes = TwoSizes { first: sized(first)?, second: sized(second)? };
                writer.part(&sizes)?;
                writer.bytes(first)?;
                writer.bytes(second)
            }
            Self::GetCollateralResp(collateral) => write_collateral(collateral, writer),
            Self::GetPlatformInfoReq => Ok(()),
            Self::GetPlatformInfoResp { tdqe_isv_svn, pce_isv_svn, platform_id, cpu_svn } => {
                writer.part(&PlatformInfoSizes {
                    tdqe_isv_svn: (*tdqe_isv_svn).into(),
                    pce_isv_svn: (*pce_isv_svn).into(),
                    platform_id: sized(platform_id)?,
                    cpu_svn: sized(cpu_svn)?,
                })?;
                writer.bytes(platform_id)?;
                writer.bytes(cpu_svn)?;
                writer.bytes(&[0; PADDING])
            }
            Self::Error { response, .. } => {
                let zero = [0; size_of::<CollateralSizes>()];
                let size =
                    fixed_size(*response).unwrap_or_default().saturating_sub(size_of::<MessageHeader>());
                writer.bytes(zero.get(..size).unwrap_or_default())
            }
        }
    }
}

fn sized(part: &[u8]) -> Result<U32, WriteError> {
    Ok(size_u32(part.len(), "part of a message")?.into())
}

const fn is_response(message_type: MessageType) -> bool {
    matches!(
        message_type,
        MessageType::GET_QUOTE_RESP | MessageType::GET_COLLATERAL_RESP | MessageType::GET_PLATFORM_INFO_RESP
    )
}

/// Bytes before the first part; `None` for a type that does not exist.
#[must_use]
pub const fn fixed_size(message_type: MessageType) -> Option<usize> {
    let sizes = match message_type {
        MessageType::GET_QUOTE_REQ | MessageType::GET_QUOTE_RESP | MessageType::GET_COLLATERAL_REQ => {
            size_of::<TwoSizes>()
        }
        MessageType::GET_COLLATERAL_RESP => size_of::<CollateralSizes>(),
        MessageType::GET_PLATFORM_INFO_REQ => 0,
        MessageType::GET_PLATFORM_INFO_RESP => size_of::<PlatformInfoSizes>(),
        _ => return None,
    };
    Some(size_of::<MessageHeader>() + sizes)
}

const fn given(part: &[u8]) -> Result<(), QgsError> {
    if part.is_empty() { Err(QgsError::INVALID_SIZE) } else { Ok(()) }
}

fn read_two<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), QgsError> {
    let sizes: &TwoSizes = reader.part("sizes")?;
    Ok((reader.sized(sizes.first.get(), "first part")?, reader.sized(sizes.second.get(), "second part")?))
}

fn read_collateral<'a>(reader: &mut Reader<'a>) -> Result<Collateral<'a>, QgsError> {
    let sizes: &CollateralSizes = reader.part("sizes")?;
    let mut parts: [&[u8]; 7] = [&[]; 7];
    for (part, size) in parts.iter_mut().zip(&sizes.sizes) {
        *part = reader.sized(size.get(), "collateral")?;
        given(part)?;
    }
    let padded = !reader.rest().is_empty();
    if padded {
        read_padding(reader)?;
    }
    Ok(Collateral { version: (sizes.major_version.get(), sizes.minor_version.get()), parts, padded })
}

fn read_platform_info<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, QgsError> {
    let sizes: &PlatformInfoSizes = reader.part("sizes")?;
    let platform_id = reader.sized(sizes.platform_id.get(), "platform identifier")?;
    let cpu_svn = reader.sized(sizes.cpu_svn.get(), "CPUSVN")?;
    given(platform_id)?;
    given(cpu_svn)?;
    read_padding(reader)?;
    Ok(Message::GetPlatformInfoResp {
        tdqe_isv_svn: sizes.tdqe_isv_svn.get(),
        pce_isv_svn: sizes.pce_isv_svn.get(),
        platform_id,
        cpu_svn,
    })
}

fn read_padding(reader: &mut Reader<'_>) -> Result<(), QgsError> {
    let padding = reader.bytes(PADDING, "padding")?;
    if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(QgsError::INVALID_SIZE) }
}

fn write_collateral(collateral: &Collateral<'_>, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    let mut sizes = [U32::new(0); 7];
    for (size, part) in sizes.iter_mut().zip(&collateral.parts) {
        *size = sized(part)?;
    }
    let (major, minor) = collateral.version;
    writer.part(&CollateralSizes { major_version: major.into(), minor_version: minor.into(), sizes })?;
    for part in collateral.parts {
        writer.bytes(part)?;
    }
    writer.bytes(if collateral.padded { &[0; PADDING] } else { &[] })
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const COLLATERAL: Collateral<'_> =
        Collateral { version: (3, 1), parts: [b"a", b"bb", b"c", b"d", b"eee", b"f", b"g"], padded: false };

    fn written(message: &Message<'_>) -> Vec<u8> {
        let mut out = vec![0xee; message.size()];
        assert_eq!(message.write(&mut out), Ok(out.len()));
        out
    }

    #[rstest]
    #[case(Message::GetQuoteReq { report: &[7; 1024], id_list: b"" }, 1048)]
    #[case(Message::GetQuoteResp { selected_id: &[0; 256], quote: b"quote" }, 285)]
    #[case(Message::GetCollateralReq { fmspc: &[1; 6], pck_ca: b"platform" }, 38)]
    #[case(Message::GetCollateralResp(COLLATERAL), 58)]
    #[case(Message::GetCollateralResp(Collateral { padded: true, ..COLLATERAL }), 62)]
    #[case(Message::GetPlatformInfoReq, 16)]
    #[case(Message::GetPlatformInfoResp { tdqe_isv_svn: 4, pce_isv_svn: 13, platform_id: &[1; 16], cpu_svn: &[2; 16] }, 64)]
    #[case(Message::Error { response: MessageType::GET_QUOTE_RESP, code: QgsError::UNEXPECTED }, 24)]
    #[case(Message::Error { response: MessageType::GET_COLLATERAL_RESP, code: QgsError::UNEXPECTED }, 48)]
    #[case(Message::Error { response: MessageType::GET_PLATFORM_INFO_RESP, code: QgsError::UNEXPECTED }, 28)]
    fn messages_round_trip(#[case] message: Message<'_>, #[case] size: usize) {
        let bytes = written(&message);
        assert_eq!(bytes.len(), size);
        assert_eq!(Message::read(&bytes), Ok(message));
        for len in 0..bytes.len() {
            assert!(Message::read(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[rstest]
    #[case::major_version(0, 2, QgsError::INVALID_VERSION)]
    #[case::kind(4, 9, QgsError::INVALID_TYPE)]
    #[case::size(8, 0, QgsError::INVALID_SIZE)]
    #[case::error_code(12, 1, QgsError::INVALID_CODE)]
    #[case::report_size(16, 11, QgsError::INVALID_SIZE)]
    #[case::list_size(20, 1, QgsError::INVALID_SIZE)]
    fn bad_requests_are_refused(#[case] at: usize, #[case] value: u8, #[case] error: QgsError) {
        let mut bytes = written(&Message::GetQuoteReq { report: &[7; 10], id_list: b"" });
        bytes[at] = value;
        assert_eq!(Message::read(&bytes), Err(error));
    }

    #[test]
    fn empty_parts_and_requests_as_errors_are_refused() {
        let empty = written(&Message::GetQuoteReq { report: b"", id_list: b"x" });
        assert_eq!(Message::read(&empty), Err(QgsError::INVALID_CODE));
        let no_quote = written(&Message::GetQuoteResp { selected_id: b"x", quote: b"" });
        assert_eq!(Message::read(&no_quote), Err(QgsError::INVALID_SIZE));
        let mut beyond =
            written(&Message::Error { response: MessageType::GET_QUOTE_RESP, code: QgsError::UNEXPECTED });
        beyond[12] = 8;
        assert_eq!(Message::read(&beyond), Err(QgsError::INVALID_CODE));
        let wrong = Message::Error { response: MessageType::GET_QUOTE_REQ, code: QgsError::UNEXPECTED };
        assert!(wrong.write(&mut [0; 64]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0_u8..8) {
            let size = u8::try_from(bytes.len()).unwrap();
            if let Some(header) = bytes.get_mut(..16) {
                header.copy_from_slice(&[1, 0, 1, 0, kind, 0, 0, 0, size, 0, 0, 0, 0, 0, 0, 0]);
            }
            if let Ok(message) = Message::read(&bytes) {
                prop_assert_eq!(written(&message), bytes);
            }
        }

        #[test]
        fn requests_round_trip(report in prop::collection::vec(any::<u8>(), 1..2000), id_list: Vec<u8>) {
            let message = Message::GetQuoteReq { report: &report, id_list: &id_list };
            let bytes = written(&message);
            prop_assert_eq!(Message::read(&bytes), Ok(message));
        }
    }
}
