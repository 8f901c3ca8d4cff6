//! The quote generation service: its messages as a function from request to response (DCAP sources, `qgs_ql_logic.cpp`,
//! `qgs_server.cpp`).

use tsmsim_abi::tdx::{
    qgs::{Collateral, FrameHeader, Message, MessageHeader, MessageType, QgsError, fixed_size},
    report::TdReport,
};
use tsmsim_keys::{
    KeysError,
    intel::{PckCa, TcbInfoSpec},
};
use zerocopy::{FromBytes, IntoBytes};

use super::quoting::{QuoteError, QuotingEnclave};

/// Version of collateral whose revocation lists are DER.
const COLLATERAL_VERSION: (u16, u16) = (3, 1);

/// The service: a quoting enclave, and the collateral of its platform.
#[derive(Clone)]
pub struct QuoteService {
    enclave: QuotingEnclave,
    tcb_info: TcbInfoSpec,
}

impl QuoteService {
    /// The service of an enclave; its collateral says that the platform is up to date.
    #[must_use]
    pub fn new(enclave: QuotingEnclave) -> Self {
        let tcb_info = enclave.platform().tcb_info_spec();
        Self { enclave, tcb_info }
    }

    /// The same with other TCB info as collateral.
    #[must_use]
    pub fn with_tcb_info(self, tcb_info: TcbInfoSpec) -> Self {
        Self { tcb_info, ..self }
    }

    /// The quoting enclave.
    #[must_use]
    pub const fn enclave(&self) -> &QuotingEnclave {
        &self.enclave
    }

    /// What the service answers to a message. `None`: it closes the connection, as it does when it cannot tell what is
    /// asked, or is sent a response.
    #[must_use]
    pub fn respond(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (header, _) = MessageHeader::read_from_prefix(request).ok()?;
        let requested = MessageType(header.message_type.get());
        fixed_size(requested)?;
        let response = match requested {
            MessageType::GET_QUOTE_REQ => MessageType::GET_QUOTE_RESP,
            MessageType::GET_COLLATERAL_REQ => MessageType::GET_COLLATERAL_RESP,
            MessageType::GET_PLATFORM_INFO_REQ => MessageType::GET_PLATFORM_INFO_RESP,
            _ => return None,
        };
        let padded = header.minor_version.get() == 0;
        let answer = Message::read(request).ok().and_then(|message| self.answer(&message, padded));
        answer.or_else(|| write(&Message::Error { response, code: QgsError::UNEXPECTED }))
    }

    /// What the service puts into a GetQuote buffer: for a TDREPORT the quote; for a message with its frame the response
    /// with its frame.
    ///
    /// # Errors
    /// The report was not quoted. A framed message always gets a framed answer, unless it cannot be understood at all:
    /// [`QuoteError::Size`].
    pub fn respond_raw(&self, request: &[u8]) -> Result<Vec<u8>, QuoteError> {
        if request.len() == size_of::<TdReport>() {
            return self.enclave.quote(request);
        }
        let (frame, message) =
            FrameHeader::read_from_prefix(request).map_err(|_| QuoteError::Size(request.len()))?;
        let size = usize::try_from(frame.size.get()).unwrap_or(usize::MAX);
        let message = message.get(..size).ok_or(QuoteError::Size(request.len()))?;
        let response = self.respond(message).ok_or(QuoteError::Size(request.len()))?;
        let size = u32::try_from(response.len()).map_err(|_| QuoteError::Size(response.len()))?;
        Ok([FrameHeader { size: size.into() }.as_bytes(), &response].concat())
    }

    fn answer(&self, request: &Message<'_>, padded: bool) -> Option<Vec<u8>> {
        match request {
            // The service ignores which key the client would like.
            Message::GetQuoteReq { report, .. } => {
                let quote = self.enclave.quote(report).ok()?;
                write(&Message::GetQuoteResp { selected_id: &[], quote: &quote })
            }
            Message::GetCollateralReq { fmspc, pck_ca } => self.collateral(fmspc, pck_ca, padded),
            Message::GetPlatformInfoReq => {
                let platform = self.enclave.platform();
                let tcb = platform.identity().tcb;
                write(&Message::GetPlatformInfoResp {
                    tdqe_isv_svn: platform.config().qe.isvsvn,
                    pce_isv_svn: tcb.pcesvn,
                    platform_id: platform.qe_id(),
                    cpu_svn: &tcb.cpusvn,
                })
            }
            _ => None,
        }
    }

    fn collateral(&self, fmspc: &[u8], pck_ca: &[u8], padded: bool) -> Option<Vec<u8>> {
        let name = pck_ca.strip_suffix(&[0]).unwrap_or(pck_ca);
        let ca = [PckCa::Platform, PckCa::Processor].into_iter().find(|ca| ca.name().as_bytes() == name)?;
        if fmspc != self.enclave.platform().identity().fmspc {
            return None;
        }
        let parts = self.collateral_parts(ca).ok()?;
        let parts = parts.each_ref().map(Vec::as_slice);
        write(&Message::GetCollateralResp(Collateral { version: COLLATERAL_VERSION, parts, padded }))
    }

    /// The parts in the order of the message; texts end with a zero byte.
    fn collateral_parts(&self, ca: PckCa) -> Result<[Vec<u8>; 7], KeysError> {
        let platform = self.enclave.platform();
        let hierarchy = platform.hierarchy();
        let tcb_info = hierarchy.tcb_info(&self.tcb_info)?;
        let qe_identity = hierarchy.qe_identity(&platform.config().qe)?;
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        Ok([
            text(&hierarchy.pck_crl_issuer_chain(ca)?),
            hierarchy.root_crl()?.der().to_vec(),
            hierarchy.pck_crl(ca)?.der().to_vec(),
            text(tcb_info.issuer_chain()),
            text(&tcb_info.response()),
            text(qe_identity.issuer_chain()),
            text(&qe_identity.response()),
        ])
    }
}

fn write(message: &Message<'_>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; message.size()];
    message.write(&mut bytes).ok()?;
    Some(bytes)
}
