//! A launched guest, and what it needs to talk to the firmware.

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    launch::{PageType, VmplPermissions},
    message::{AAD_OFFSET, MAX_PAYLOAD, MessageHeader, MessageType, message_iv},
    pages::SecretsPage,
    policy::GuestPolicy,
    status::FirmwareStatus,
    tcb::ProductLine,
};
use tsmsim_keys::Seed;
use tsmsim_simulator::{
    env::{Clock, Entropy, Env, GuestMemory, OutOfRange},
    fault::{FaultAction, FaultHook, FaultPoint},
    journal::Journal,
    snp::{
        firmware::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate},
        launch::LaunchRmp,
        platform::PlatformConfig,
    },
};
use zerocopy::{
    FromBytes, FromZeros, IntoBytes,
    little_endian::{U16, U64},
};

/// Where the guest's context is.
pub(crate) const GUEST: u64 = 0x1000;
pub(crate) const ASID: u32 = 1;

/// Neither memory nor time: the firmware needs none.
struct Nothing;

impl GuestMemory for Nothing {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        Err(OutOfRange { gpa, len: buf.len() })
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRange> {
        Err(OutOfRange { gpa, len: data.len() })
    }
}

impl Clock for Nothing {
    fn now_ns(&self) -> u64 {
        0
    }
}

/// Counts: every byte that is drawn differs from its neighbours, and runs repeat.
struct Counting(u64);

impl Entropy for Counting {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            self.0 += 1;
            let word = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Applies one action once, at one point.
#[derive(Default)]
pub(crate) struct OneFault(pub(crate) Option<(FaultPoint, FaultAction)>);

impl FaultHook for OneFault {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        match &self.0 {
            Some((at, _)) if *at == point => self.0.take().map(|(_, action)| action),
            _ => None,
        }
    }
}

/// Notes what is converted, and refuses if told to.
#[derive(Default)]
pub(crate) struct Rmp {
    pub(crate) converted: Vec<(u64, bool, [VmplPermissions; 3])>,
    pub(crate) check: Option<FirmwareStatus>,
    pub(crate) convert: Option<FirmwareStatus>,
}

impl LaunchRmp for Rmp {
    fn launch_check(&self, _: u64) -> Result<(), FirmwareStatus> {
        self.check.map_or(Ok(()), Err)
    }

    fn launch_convert(
        &mut self,
        gfn: u64,
        vmsa: bool,
        perms: [VmplPermissions; 3],
    ) -> Result<(), FirmwareStatus> {
        self.convert.map_or(Ok(()), Err)?;
        self.converted.push((gfn, vmsa, perms));
        Ok(())
    }
}

/// Firmware and its surroundings.
pub(crate) struct Machine {
    pub(crate) firmware: Firmware,
    pub(crate) journal: Journal,
    pub(crate) faults: OneFault,
    pub(crate) rmp: Rmp,
    entropy: Counting,
}

macro_rules! with_env {
    ($machine:expr, |$firmware:ident, $env:ident| $body:expr) => {{
        let Machine { firmware: $firmware, journal, faults, entropy, .. } = $machine;
        let $env = &mut Env { memory: &Nothing, clock: &Nothing, entropy, journal, faults };
        $body
    }};
}

impl Machine {
    pub(crate) fn new(config: &PlatformConfig) -> Self {
        Self {
            firmware: Firmware::new(config.build(&Seed::DEFAULT).unwrap()),
            journal: Journal::new(),
            faults: OneFault::default(),
            rmp: Rmp::default(),
            entropy: Counting(0),
        }
    }

    pub(crate) fn genoa() -> Self {
        Self::new(&PlatformConfig::new(ProductLine::Genoa))
    }

    pub(crate) fn create(&mut self, gctx: u64) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_gctx_create(env, gctx))
    }

    pub(crate) fn start(&mut self, gctx: u64, start: &LaunchStart) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_launch_start(env, gctx, start))
    }

    pub(crate) fn activate(&mut self, gctx: u64, asid: u32) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_activate(env, gctx, asid))
    }

    pub(crate) fn update(&mut self, gctx: u64, update: LaunchUpdate<'_>) -> Result<(), FirmwareStatus> {
        let mut rmp = std::mem::take(&mut self.rmp);
        let result =
            with_env!(&mut *self, |firmware, env| firmware.snp_launch_update(env, &mut rmp, gctx, update));
        self.rmp = rmp;
        result
    }

    pub(crate) fn update_page(
        &mut self,
        gctx: u64,
        page_type: PageType,
        gpa: u64,
        page: &mut [u8; PAGE_SIZE],
    ) -> Result<(), FirmwareStatus> {
        self.update(gctx, LaunchUpdate { page, page_type, attributes: gpa.into() })
    }

    pub(crate) fn finish(&mut self, gctx: u64, finish: &LaunchFinish<'_>) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_launch_finish(env, gctx, finish))
    }

    pub(crate) fn decommission(&mut self, gctx: u64) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_decommission(env, gctx))
    }

    pub(crate) fn configure(
        &mut self,
        config: tsmsim_simulator::snp::platform::SnpConfig,
    ) -> Result<(), FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_config(env, config))
    }

    pub(crate) fn guest_status(
        &mut self,
        gctx: u64,
    ) -> Result<tsmsim_simulator::snp::context::GuestStatus, FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_guest_status(env, gctx))
    }

    pub(crate) fn request(
        &mut self,
        gctx: u64,
        page: &[u8; PAGE_SIZE],
    ) -> Result<Box<[u8; PAGE_SIZE]>, FirmwareStatus> {
        with_env!(self, |firmware, env| firmware.snp_guest_request(env, gctx, page))
    }

    /// Launches as far as before `SNP_LAUNCH_FINISH`: one page, and the secrets.
    pub(crate) fn launch(&mut self, gctx: u64, asid: u32, start: &LaunchStart) -> Guest {
        self.create(gctx).unwrap();
        self.start(gctx, start).unwrap();
        self.activate(gctx, asid).unwrap();
        let mut page = [0x90; PAGE_SIZE];
        let imi_page = start.imi_en;
        let attributes = |gpa: u64| tsmsim_simulator::snp::launch::PageAttributes { imi_page, ..gpa.into() };
        let update = LaunchUpdate {
            page: &mut page,
            page_type: PageType::NORMAL,
            attributes: attributes(0xffff_f000),
        };
        self.update(gctx, update).unwrap();
        let update =
            LaunchUpdate { page: &mut page, page_type: PageType::SECRETS, attributes: attributes(0x80_d000) };
        self.update(gctx, update).unwrap();
        let secrets = SecretsPage::read_from_bytes(&page).unwrap();
        Guest { gctx, secrets, count: [0; 4] }
    }

    /// A guest that runs, with the default policy.
    pub(crate) fn running(&mut self) -> Guest {
        let guest = self.launch(GUEST, ASID, &GuestPolicy::DEFAULT.into());
        self.finish(GUEST, &LaunchFinish::default()).unwrap();
        guest
    }
}

/// The guest's side: its secrets page and its message counts.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) gctx: u64,
    pub(crate) secrets: SecretsPage,
    pub(crate) count: [u64; 4],
}

/// A message before encryption.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) header: MessageHeader,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn new(msg_type: MessageType, vmpck: u8, seqno: u64, payload: &[u8]) -> Self {
        let header = MessageHeader {
            msg_seqno: U64::new(seqno),
            algo: 1,
            hdr_version: 1,
            hdr_size: U16::new(0x60),
            msg_type: msg_type.0,
            msg_version: 1,
            msg_size: U16::new(payload.len().try_into().unwrap()),
            msg_vmpck: vmpck,
            ..MessageHeader::new_zeroed()
        };
        Self { header, payload: payload.to_vec() }
    }

    pub(crate) fn seal(&self, key: &[u8; 32]) -> [u8; PAGE_SIZE] {
        let cipher = Aes256Gcm::new_from_slice(key).unwrap();
        let nonce = message_iv(self.header.msg_seqno.get());
        let mut header = self.header;
        let mut payload = self.payload.clone();
        let aad = &self.header.as_bytes()[AAD_OFFSET..];
        let tag = cipher.encrypt_inout_detached(&nonce.into(), aad, payload.as_mut_slice().into()).unwrap();
        header.authtag[..16].copy_from_slice(&tag);
        let mut page = [0; PAGE_SIZE];
        page[..0x60].copy_from_slice(header.as_bytes());
        let len = payload.len().min(MAX_PAYLOAD);
        page[0x60..0x60 + len].copy_from_slice(&payload[..len]);
        page
    }

    pub(crate) fn open(page: &[u8; PAGE_SIZE], key: &[u8; 32]) -> Option<Self> {
        let (header, rest) = MessageHeader::read_from_prefix(page).unwrap();
        let mut payload = rest.get(..header.msg_size.get().into())?.to_vec();
        let cipher = Aes256Gcm::new_from_slice(key).unwrap();
        let nonce = message_iv(header.msg_seqno.get());
        let tag = <[u8; 16]>::try_from(&header.authtag[..16]).unwrap();
        let aad = &page[AAD_OFFSET..0x60];
        let buffer = payload.as_mut_slice().into();
        cipher.decrypt_inout_detached(&nonce.into(), aad, buffer, &tag.into()).ok()?;
        Some(Self { header, payload })
    }

    /// `STATUS` of a response.
    pub(crate) fn status(&self) -> FirmwareStatus {
        FirmwareStatus(u32::from_le_bytes(self.payload[..4].try_into().unwrap()))
    }

    pub(crate) fn read<T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable>(&self) -> T {
        T::read_from_prefix(&self.payload).unwrap().0
    }
}

impl Guest {
    pub(crate) fn message(&self, msg_type: MessageType, vmpck: u8, payload: &[u8]) -> Message {
        Message::new(msg_type, vmpck, self.count[usize::from(vmpck)] + 1, payload)
    }

    /// Sends a message as it is; the count moves only if there is a response, which is checked for its envelope.
    pub(crate) fn send(
        &mut self,
        machine: &mut Machine,
        message: &Message,
    ) -> Result<Message, FirmwareStatus> {
        let vmpck = usize::from(message.header.msg_vmpck);
        let key = self.secrets.vmpck[vmpck.min(3)];
        let page = machine.request(self.gctx, &message.seal(&key))?;
        let response = Message::open(&page, &key).expect("the response authenticates");
        assert_eq!(response.header.msg_seqno.get(), message.header.msg_seqno.get() + 1);
        assert_eq!(
            Some(MessageType(response.header.msg_type)),
            MessageType(message.header.msg_type).response()
        );
        assert_eq!(response.header.msg_vmpck, message.header.msg_vmpck);
        let end = 0x60 + response.payload.len();
        assert!(page[end..].iter().all(|byte| *byte == 0), "nothing follows the message");
        self.count[vmpck] += 2;
        Ok(response)
    }

    /// Sends a payload of version 1.
    pub(crate) fn ask<T: IntoBytes + zerocopy::Immutable>(
        &mut self,
        machine: &mut Machine,
        msg_type: MessageType,
        vmpck: u8,
        payload: &T,
    ) -> Message {
        let message = self.message(msg_type, vmpck, payload.as_bytes());
        self.send(machine, &message).unwrap()
    }
}
