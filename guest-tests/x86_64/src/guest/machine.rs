//! The guest once it is set up: a registered GHCB, pages for messages, a channel for each VMPCK.

use core::fmt;

use tsmsim_abi::snp::{
    ghcb::{ExitCode, ExitInfo1, HostRequestError},
    message::MessageType,
    status::FirmwareStatus,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{
    arch::memory::{GuestPage, Launched},
    exit::{Answer, Exit},
    message::{Channel, Message},
    protocol,
    tap::{Check, Why, ensure, equal},
};

/// The launched page at which the certificate buffer begins.
pub(super) const FIRST_CERTIFICATE_PAGE: u32 = 3;
/// Pages that the certificate buffer may take.
pub(super) const CERTIFICATE_PAGES: u32 = 8;

/// What SW_EXITINFO2 of a guest request says.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) struct RequestStatus {
    /// The hypervisor's half.
    pub(super) host: HostRequestError,
    /// The firmware's half.
    pub(super) firmware: FirmwareStatus,
}

impl fmt::Debug for RequestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HostRequestError::NONE {
            write!(f, "host {}, ", self.host)?;
        }
        write!(f, "firmware {}", self.firmware)
    }
}

impl RequestStatus {
    /// Neither complains.
    pub(super) const SUCCESS: Self = Self::firmware(FirmwareStatus::SUCCESS);

    /// The firmware's status alone.
    pub(super) const fn firmware(firmware: FirmwareStatus) -> Self {
        Self { host: HostRequestError::NONE, firmware }
    }
}

/// The machine.
pub(super) struct Machine {
    /// What the loader left.
    pub(super) launched: Launched,
    /// The registered GHCB.
    pub(super) ghcb: GuestPage,
    /// Shared page for requests.
    pub(super) request: GuestPage,
    /// Shared page for responses.
    pub(super) response: GuestPage,
    /// A launched page that stays private.
    pub(super) private: GuestPage,
    channels: [Channel; 4],
}

impl Machine {
    /// Negotiates, shares the pages, registers the GHCB.
    pub(super) fn start(launched: Launched) -> Check<Self> {
        let Some(secrets) = launched.secrets() else {
            return Err(Why::new(format_args!("there is no secrets page")));
        };
        protocol::negotiate()?;
        let page = GuestPage::launched;
        let ghcb = page(0);
        for index in 0..FIRST_CERTIFICATE_PAGE + CERTIFICATE_PAGES {
            protocol::share(page(index))?;
        }
        equal("registered GHCB", protocol::register_ghcb(ghcb.gfn())?, ghcb.gfn())?;
        let channels = [0, 1, 2, 3].map(|vmpck: u8| Channel::new(vmpck, secrets.vmpck[usize::from(vmpck)]));
        let private = page(FIRST_CERTIFICATE_PAGE + CERTIFICATE_PAGES);
        Ok(Self { launched, ghcb, request: page(1), response: page(2), private, channels })
    }

    /// The certificate buffer's pages, shared.
    pub(super) fn certificates() -> impl Iterator<Item = GuestPage> {
        (FIRST_CERTIFICATE_PAGE..).take(CERTIFICATE_PAGES as usize).map(GuestPage::launched)
    }

    /// The channel of a VMPCK.
    pub(super) fn channel(&mut self, vmpck: usize) -> &mut Channel {
        &mut self.channels[vmpck]
    }

    /// Makes an exit.
    pub(super) fn exit(&self, exit: Exit) -> Answer {
        exit.run(self.ghcb)
    }

    /// Sends the message through these pages; whatever lies in the response page is cleared before.
    pub(super) fn send(&self, message: &Message, exit: Exit) -> Check<(RequestStatus, Answer)> {
        self.response.write(0, &Message::new_zeroed());
        self.request.write(0, message);
        let answer = self.exit(exit);
        equal("SW_EXITINFO1", answer.info1(), ExitInfo1::NO_ACTION)?;
        let (host, firmware) = ((answer.info2() >> 32) as u32, (answer.info2() & 0xffff_ffff) as u32);
        Ok((RequestStatus { host: HostRequestError(host), firmware: FirmwareStatus(firmware) }, answer))
    }

    /// Sends a sealed message as a guest request.
    pub(super) fn guest_request(&self, message: &Message) -> Check<RequestStatus> {
        let exit = Exit::new(ExitCode::GUEST_REQUEST, self.request.gpa(), self.response.gpa());
        Ok(self.send(message, exit)?.0)
    }

    /// Opens the response to the channel's next request, and counts both.
    pub(super) fn response(&mut self, vmpck: usize, msg_type: MessageType) -> Check<Message> {
        let mut message = self.response.read::<Message>(0);
        let channel = &mut self.channels[vmpck];
        channel.open(&mut message, channel.count + 1, msg_type)?;
        channel.count += 2;
        Ok(message)
    }

    /// Seals what was drafted, sends it, opens the response.
    pub(super) fn exchange<R: FromBytes>(&mut self, vmpck: usize, mut message: Message) -> Check<R> {
        let Some(answer_type) = MessageType(message.header.msg_type).response() else {
            return Err(Why::new(format_args!("not a request: {}", MessageType(message.header.msg_type))));
        };
        self.channels[vmpck].seal(&mut message)?;
        equal("SW_EXITINFO2", self.guest_request(&message)?, RequestStatus::SUCCESS)?;
        payload(&self.response(vmpck, answer_type)?)
    }

    /// One message on VMPCK `vmpck`: draft, exchange, payload.
    pub(super) fn ask<Q: IntoBytes + Immutable, R: FromBytes>(
        &mut self,
        vmpck: usize,
        msg_type: MessageType,
        request: &Q,
    ) -> Check<R> {
        let message = self.channels[vmpck].draft(msg_type, request);
        self.exchange(vmpck, message)
    }

    /// A sealed message must be refused with this status, and must not be counted.
    pub(super) fn refused(&self, message: &Message, status: FirmwareStatus) -> Check {
        equal("SW_EXITINFO2", self.guest_request(message)?, RequestStatus::firmware(status))?;
        let left = self.response.read::<Message>(0);
        ensure!(left.as_bytes().iter().all(|byte| *byte == 0), "the response page was written");
        Ok(())
    }
}

/// The payload, which must have exactly the size of `R`.
pub(super) fn payload<R: FromBytes>(message: &Message) -> Check<R> {
    let size = usize::from(message.header.msg_size.get());
    equal("MSG_SIZE", size, size_of::<R>())?;
    R::read_from_bytes(&message.payload[..size]).map_err(|_| Why::new(format_args!("payload does not fit")))
}
