//! Sealing requests and opening responses, with another AES-GCM than the firmware model's.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    message::{
        AAD_OFFSET, Aead, HEADER_SIZE, HEADER_VERSION, MAX_PAYLOAD, MessageHeader, MessageType, TAG_SIZE,
        message_iv,
    },
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::GuestError;

const PAYLOAD: usize = PAGE_SIZE - MAX_PAYLOAD;

/// Why a response cannot be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResponseError {
    /// It is not the answer to this request.
    #[error("response has sequence number {found}, not {expected}")]
    SequenceNumber {
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// It answers another type of request.
    #[error("response has type {found}, not {expected}")]
    Type {
        /// What it should be.
        expected: MessageType,
        /// What it is.
        found: MessageType,
    },
    /// It has another version than the request.
    #[error("response has version {found}, not {expected}")]
    Version {
        /// What it should be.
        expected: u8,
        /// What it is.
        found: u8,
    },
    /// It is larger than a page, or smaller than its type.
    #[error("response has {0} bytes")]
    Size(usize),
    /// It was not made with this guest's key, or was changed on its way.
    #[error("response does not authenticate")]
    Tag,
}

/// Encrypts a request into a page, as [`InProcessGuest`](super::InProcessGuest) does; for programs that send messages of
/// their own. `vmpck` is the number that the header states.
///
/// # Errors
/// [`GuestError::PayloadTooLarge`].
pub fn seal(
    key: &[u8; 32],
    vmpck: u8,
    seqno: u64,
    (msg_type, version): (MessageType, u8),
    payload: &[u8],
) -> Result<Box<[u8; PAGE_SIZE]>, GuestError> {
    let mut page = Box::new([0; PAGE_SIZE]);
    let size = u16::try_from(payload.len()).map_err(|_| GuestError::PayloadTooLarge(payload.len()))?;
    let body = page.get_mut(PAYLOAD..PAYLOAD + payload.len());
    let body = body.ok_or(GuestError::PayloadTooLarge(payload.len()))?;
    body.copy_from_slice(payload);
    let mut header = MessageHeader::new_zeroed();
    header.msg_seqno.set(seqno);
    header.algo = Aead::AES_256_GCM.0;
    header.hdr_version = HEADER_VERSION;
    header.hdr_size.set(HEADER_SIZE);
    header.msg_type = msg_type.0;
    header.msg_version = version;
    header.msg_size.set(size);
    header.msg_vmpck = vmpck;
    let nonce = Nonce::from(message_iv(seqno));
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&nonce, &header.as_bytes()[AAD_OFFSET..], body.into())
        .map_err(|_| GuestError::PayloadTooLarge(payload.len()))?;
    header.authtag[..TAG_SIZE].copy_from_slice(&tag);
    page[..PAYLOAD].copy_from_slice(header.as_bytes());
    Ok(page)
}

/// Checks and decrypts the response to the request in `request`.
///
/// # Errors
/// What is wrong with it.
pub fn open(
    key: &[u8; 32],
    request: &[u8; PAGE_SIZE],
    response: &[u8; PAGE_SIZE],
) -> Result<Vec<u8>, ResponseError> {
    let [asked, header] = [request, response].map(header);
    let (expected, found) = (asked.msg_seqno.get().wrapping_add(1), header.msg_seqno.get());
    if expected != found {
        return Err(ResponseError::SequenceNumber { expected, found });
    }
    let (expected, found) = (MessageType(asked.msg_type.wrapping_add(1)), MessageType(header.msg_type));
    if expected != found {
        return Err(ResponseError::Type { expected, found });
    }
    let (expected, found) = (asked.msg_version, header.msg_version);
    if expected != found {
        return Err(ResponseError::Version { expected, found });
    }
    let size = usize::from(header.msg_size.get());
    let mut payload = response.get(PAYLOAD..PAYLOAD + size).ok_or(ResponseError::Size(size))?.to_vec();
    let nonce = Nonce::from(message_iv(header.msg_seqno.get()));
    let mut tag = Tag::default();
    tag.copy_from_slice(&header.authtag[..TAG_SIZE]);
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(&nonce, &header.as_bytes()[AAD_OFFSET..], payload.as_mut_slice().into(), &tag)
        .map_err(|_| ResponseError::Tag)?;
    Ok(payload)
}

fn header(page: &[u8; PAGE_SIZE]) -> MessageHeader {
    MessageHeader::read_from_prefix(page).map_or_else(|_| MessageHeader::new_zeroed(), |(header, _)| header)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pair() -> (Box<[u8; PAGE_SIZE]>, Box<[u8; PAGE_SIZE]>) {
        let request = seal(&KEY, 0, 1, (MessageType::KEY_REQ, 1), b"question 16 byte").unwrap();
        let response = seal(&KEY, 0, 2, (MessageType::KEY_RSP, 1), b"answer").unwrap();
        (request, response)
    }

    #[test]
    fn a_response_opens() {
        let (request, response) = pair();
        assert_eq!(open(&KEY, &request, &response), Ok(b"answer".to_vec()));
        assert_eq!(open(&[8; 32], &request, &response), Err(ResponseError::Tag));
    }

    #[rstest]
    #[case::seqno(0x20, ResponseError::SequenceNumber { expected: 2, found: 3 })]
    #[case::msg_type(0x34, ResponseError::Type { expected: MessageType::KEY_RSP, found: MessageType(5) })]
    #[case::version(0x35, ResponseError::Version { expected: 1, found: 0 })]
    #[case::size(0x37, ResponseError::Tag)]
    #[case::tag(0x00, ResponseError::Tag)]
    #[case::additional_data(0x5f, ResponseError::Tag)]
    #[case::payload(0x60, ResponseError::Tag)]
    fn a_changed_bit_is_noticed(#[case] offset: usize, #[case] error: ResponseError) {
        let (request, mut response) = pair();
        response[offset] ^= 1;
        assert_eq!(open(&KEY, &request, &response), Err(error));
    }

    #[test]
    fn a_size_beyond_the_page_is_noticed() {
        let (request, mut response) = pair();
        response[0x37] = 0x10;
        assert_eq!(open(&KEY, &request, &response), Err(ResponseError::Size(0x1006)));
    }

    #[test]
    fn too_much_to_say() {
        let seal = |len| seal(&KEY, 0, 1, (MessageType::KEY_REQ, 1), &vec![0; len]);
        assert!(seal(MAX_PAYLOAD).is_ok());
        assert_eq!(seal(MAX_PAYLOAD + 1), Err(GuestError::PayloadTooLarge(MAX_PAYLOAD + 1)));
        assert_eq!(seal(1 << 16), Err(GuestError::PayloadTooLarge(1 << 16)));
    }
}
