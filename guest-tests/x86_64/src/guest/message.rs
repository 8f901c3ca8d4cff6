//! Guest messages (56860, section 8.26): sealed and opened with the guest's own AES-256-GCM.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use tsmsim_abi::snp::message::{
    AAD_OFFSET, Aead, HEADER_SIZE, HEADER_VERSION, MAX_PAYLOAD, MessageHeader, MessageType, TAG_SIZE,
    message_iv,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, little_endian::U16};

use super::{
    tap::{Check, Why, ensure, equal},
    to_u16,
};

/// A message as it lies in its page.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Message {
    /// The header.
    pub(super) header: MessageHeader,
    /// The payload, encrypted or not, and what follows it.
    pub(super) payload: [u8; MAX_PAYLOAD],
}

const _: () = assert!(size_of::<Message>() == tsmsim_abi::snp::PAGE_SIZE);

/// One of the four ways to talk to the firmware: a VMPCK and the count of messages under it.
pub(super) struct Channel {
    /// Which VMPCK: 0 to 3.
    pub(super) vmpck: u8,
    /// Messages so far, requests and responses.
    pub(super) count: u64,
    cipher: Aes256Gcm,
}

impl Channel {
    /// A channel that was not used yet.
    pub(super) fn new(vmpck: u8, key: [u8; 32]) -> Self {
        Self { vmpck, count: 0, cipher: Aes256Gcm::new(&key.into()) }
    }

    /// The request that is next, not encrypted yet.
    pub(super) fn draft<T: IntoBytes + Immutable>(&self, msg_type: MessageType, payload: &T) -> Message {
        let mut message = Message::new_zeroed();
        message.payload[..size_of::<T>()].copy_from_slice(payload.as_bytes());
        let header = &mut message.header;
        header.msg_seqno.set(self.count + 1);
        header.algo = Aead::AES_256_GCM.0;
        header.hdr_version = HEADER_VERSION;
        header.hdr_size.set(HEADER_SIZE);
        header.msg_type = msg_type.0;
        header.msg_version = 1;
        header.msg_size = U16::new(to_u16(size_of::<T>()));
        header.msg_vmpck = self.vmpck;
        message
    }

    /// Encrypts a message in place, under what its header says.
    pub(super) fn seal(&self, message: &mut Message) -> Check {
        let (nonce, size) = envelope(message)?;
        let Message { header, payload } = message;
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &header.as_bytes()[AAD_OFFSET..], (&mut payload[..size]).into())
            .map_err(|_| Why::new(format_args!("AES-GCM cannot encrypt")))?;
        header.authtag[..TAG_SIZE].copy_from_slice(&tag);
        Ok(())
    }

    /// Checks the header of the response to the request `seqno`, and decrypts it in place.
    pub(super) fn open(&self, message: &mut Message, seqno: u64, msg_type: MessageType) -> Check {
        let header = &message.header;
        equal("MSG_SEQNO", header.msg_seqno.get(), seqno + 1)?;
        equal("ALGO", Aead(header.algo), Aead::AES_256_GCM)?;
        equal("HDR_VERSION", header.hdr_version, HEADER_VERSION)?;
        equal("HDR_SIZE", header.hdr_size.get(), HEADER_SIZE)?;
        equal("MSG_TYPE", MessageType(header.msg_type), msg_type)?;
        equal("MSG_VMPCK", header.msg_vmpck, self.vmpck)?;
        equal("AUTHTAG, second half", &header.authtag[TAG_SIZE..], &[0; 16])?;
        let (nonce, size) = envelope(message)?;
        let Message { header, payload } = message;
        let mut tag = Tag::default();
        tag.copy_from_slice(&header.authtag[..TAG_SIZE]);
        self.cipher
            .decrypt_inout_detached(
                &nonce,
                &header.as_bytes()[AAD_OFFSET..],
                (&mut payload[..size]).into(),
                &tag,
            )
            .map_err(|_| Why::new(format_args!("AUTHTAG does not verify")))
    }
}

fn envelope(message: &Message) -> Check<(Nonce<aes_gcm::aead::consts::U12>, usize)> {
    let size = usize::from(message.header.msg_size.get());
    ensure!(size <= MAX_PAYLOAD, "MSG_SIZE {size:#x} exceeds the page");
    Ok((message_iv(message.header.msg_seqno.get()).into(), size))
}
