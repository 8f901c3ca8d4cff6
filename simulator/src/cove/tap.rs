//! Local attestation: the TVM attestation payload, whose secret is for one TVM on one TSM ([`tsmsim_abi::cove::tap`]).

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use tsmsim_abi::cove::{
    covg::MAX_SECRET_SIZE,
    tap::{TAP_MAGIC, TAP_TAG_SIZE, TAP_VERSION, TapHeader},
};
use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroizing;

use super::{PAGE_SIZE, platform::CovePlatform, regions};
use crate::env::{GuestMemory, OutOfRange};

/// A TAP, read from guest memory.
pub(super) struct Tap {
    header: TapHeader,
    sealed: Vec<u8>,
    range: Range<u64>,
}

impl Tap {
    /// Reads the TAP at an address; `None` if there is none.
    pub(super) fn read(gpa: u64, memory: &dyn GuestMemory) -> Option<Self> {
        let mut header = TapHeader::new_zeroed();
        memory.read(gpa, header.as_mut_bytes()).ok()?;
        let size = usize::try_from(header.secret_size.get()).ok().filter(|size| *size <= MAX_SECRET_SIZE)?;
        if header.magic != TAP_MAGIC || header.version.get() != TAP_VERSION || header.reserved != 0 {
            return None;
        }
        let mut sealed = vec![0; size + TAP_TAG_SIZE];
        let start = gpa.checked_add(size_of::<TapHeader>() as u64)?;
        memory.read(start, &mut sealed).ok()?;
        let range = regions::range(gpa, (size_of::<TapHeader>() + sealed.len()) as u64)?;
        Some(Self { header, sealed, range })
    }

    /// Where it lies.
    pub(super) const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Makes zeros of what a page has of it, because it names the measurement.
    pub(super) fn leave_out(&self, gpa: u64, contents: &mut [u8; PAGE_SIZE]) {
        let page = PAGE_SIZE as u64;
        let offset = |place: u64| usize::try_from(place.saturating_sub(gpa).min(page)).unwrap_or(PAGE_SIZE);
        let occupied = offset(self.range.start)..offset(self.range.end);
        contents.get_mut(occupied).unwrap_or_default().fill(0);
    }

    /// Makes zeros of it in memory: the TVM has what was measured.
    pub(super) fn clear(&self, memory: &dyn GuestMemory) -> Result<(), OutOfRange> {
        memory.write(self.range.start, &vec![0; size_of::<TapHeader>() + self.sealed.len()])
    }

    /// The secret, if the TAP is for this TSM and for a TVM with this measurement.
    pub(super) fn open(&self, platform: &CovePlatform, measurement: &[u8; 64]) -> Option<Zeroizing<Vec<u8>>> {
        let mut secret = Zeroizing::new(self.sealed.clone());
        let nonce = Nonce::assume_unique_for_key(self.header.nonce);
        let aad = Aad::from(self.header.as_bytes());
        let len = key(platform)?.open_in_place(nonce, aad, &mut secret).ok()?.len();
        secret.truncate(len);
        (self.header.measurement == *measurement).then_some(secret)
    }
}

fn key(platform: &CovePlatform) -> Option<LessSafeKey> {
    let key = platform.device().tsm().expand::<32>(b"CoVE TAP");
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
}

impl CovePlatform {
    /// A TAP with a secret for TVMs that have this measurement
    /// ([`local_measurement`](super::measure::InitialRegisters::local_measurement)) on this TSM. A nonce must not be used twice.
    ///
    /// `None` if the secret is longer than a page.
    #[must_use]
    pub fn seal_tap(&self, measurement: &[u8; 64], secret: &[u8], nonce: [u8; 12]) -> Option<Vec<u8>> {
        let size = u32::try_from(secret.len()).ok().filter(|_| secret.len() <= MAX_SECRET_SIZE)?;
        let header = TapHeader {
            magic: TAP_MAGIC,
            version: TAP_VERSION.into(),
            secret_size: size.into(),
            nonce,
            reserved: 0.into(),
            measurement: *measurement,
        };
        let mut sealed = secret.to_vec();
        let aad = Aad::from(header.as_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        key(self)?.seal_in_place_append_tag(nonce, aad, &mut sealed).ok()?;
        Some([header.as_bytes(), &sealed].concat())
    }
}
