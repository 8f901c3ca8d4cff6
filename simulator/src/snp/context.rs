//! A guest as the firmware knows it: the guest context, GCTX (56860 rev. 1.58, section 4.1).

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use tsmsim_abi::snp::{
    launch::IdBlock,
    payload::{GuestContext, GuestContextFlags, MetadataEntry},
    policy::GuestPolicy,
    status::FirmwareStatus,
    tcb::TcbVersion,
};
use zerocopy::{
    FromZeros,
    little_endian::{U32, U64},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::launch::LaunchDigest;
use crate::env::Entropy;

/// `GCTX.State` (56860 rev. 1.58, section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuestState {
    /// Created.
    Init,
    /// Between `SNP_LAUNCH_START` and `SNP_LAUNCH_FINISH`.
    Launch,
    /// Runs, and may send messages.
    Running,
}

impl GuestState {
    /// The encoding in `SNP_GUEST_STATUS` and in exported contexts.
    #[must_use]
    pub const fn encoding(self) -> u8 {
        match self {
            Self::Init => 0,
            Self::Launch => 1,
            Self::Running => 2,
        }
    }
}

/// `SNP_GUEST_STATUS`: what the hypervisor may know of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestStatus {
    /// `POLICY`; zero before the launch.
    pub policy: GuestPolicy,
    /// `ASID`; zero if the guest is not activated.
    pub asid: u32,
    /// `STATE`.
    pub state: GuestState,
    /// `VCEK_DIS`.
    pub vcek_dis: bool,
}

/// Keys of a guest. Boxed where they are kept, so that moving a context leaves no copies behind.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct GuestSecrets {
    /// `VMPCK0` to `VMPCK3`.
    pub(super) vmpck: [[u8; 32]; 4],
    /// `VMRK`.
    pub(super) vmrk: [u8; 32],
    /// `OEK`.
    pub(super) oek: [u8; 32],
}

/// The guest context. It holds keys, so it has no `Debug`; what is not secret can be read.
pub struct Gctx {
    pub(super) state: GuestState,
    pub(super) asid: Option<u32>,
    pub(super) policy: GuestPolicy,
    pub(super) secrets: Box<GuestSecrets>,
    /// The AES key schedules of the VMPCKs. Shared, so that a response still finds its key when the request replaced it.
    message_keys: [Option<Arc<LessSafeKey>>; 4],
    pub(super) msg_count: [u64; 4],
    /// `GCTX.LD`, which becomes the measurement.
    pub(super) ld: LaunchDigest,
    pub(super) imd: LaunchDigest,
    pub(super) imi_en: bool,
    pub(super) host_data: [u8; 32],
    /// The ID block; zero if there was none.
    pub(super) id_block: IdBlock,
    pub(super) id_block_en: bool,
    pub(super) id_key_digest: [u8; 48],
    pub(super) author_key_en: bool,
    pub(super) author_key_digest: [u8; 48],
    pub(super) report_id: [u8; 32],
    pub(super) report_id_ma: [u8; 32],
    /// `GCTX.MA`: the address of the migration agent's context, if there is one.
    pub(super) migration_agent: Option<u64>,
    pub(super) gosvw: [u8; 16],
    pub(super) desired_tsc_freq: u32,
    pub(super) psp_tsc_offset: u64,
    pub(super) launch_tcb: TcbVersion,
    pub(super) launch_mit_vector: u64,
    pub(super) vcek_dis: bool,
    pub(super) root_md_entry: MetadataEntry,
    pub(super) oek_iv_count: u64,
}

/// `REPORT_ID_MA` of a guest without migration agent.
const NO_MIGRATION_AGENT: [u8; 32] = [0xff; 32];

impl Gctx {
    /// A context as `SNP_GCTX_CREATE` leaves it.
    pub(super) fn new(launch_tcb: TcbVersion, launch_mit_vector: u64) -> Self {
        Self {
            state: GuestState::Init,
            asid: None,
            policy: GuestPolicy::new(),
            secrets: Box::new(GuestSecrets { vmpck: [[0; 32]; 4], vmrk: [0; 32], oek: [0; 32] }),
            message_keys: [const { None }; 4],
            msg_count: [0; 4],
            ld: LaunchDigest::default(),
            imd: LaunchDigest::default(),
            imi_en: false,
            host_data: [0; 32],
            id_block: IdBlock::new_zeroed(),
            id_block_en: false,
            id_key_digest: [0; 48],
            author_key_en: false,
            author_key_digest: [0; 48],
            report_id: [0; 32],
            report_id_ma: NO_MIGRATION_AGENT,
            migration_agent: None,
            gosvw: [0; 16],
            desired_tsc_freq: 0,
            psp_tsc_offset: 0,
            launch_tcb,
            launch_mit_vector,
            vcek_dis: false,
            root_md_entry: MetadataEntry::new_zeroed(),
            oek_iv_count: 0,
        }
    }

    /// Draws the secrets and identifiers of `SNP_LAUNCH_START`, in the order in which AMD-ASPFW draws them.
    pub(super) fn draw_secrets(&mut self, entropy: &mut dyn Entropy) {
        entropy.fill(&mut self.secrets.oek);
        for vmpck in &mut self.secrets.vmpck {
            entropy.fill(vmpck);
        }
        entropy.fill(&mut self.secrets.vmrk);
        entropy.fill(&mut self.report_id);
        self.message_keys = [const { None }; 4];
    }

    /// Associates the guest with a migration agent.
    pub(super) const fn bind_migration_agent(&mut self, gctx_paddr: u64, report_id: [u8; 32]) {
        self.migration_agent = Some(gctx_paddr);
        self.report_id_ma = report_id;
    }

    /// The key of messages under a VMPCK, its schedule computed once.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] for a VMPCK other than 0 to 3, as `SNP_GUEST_REQUEST` has it.
    pub(super) fn message_key(&mut self, vmpck: u8) -> Result<Arc<LessSafeKey>, FirmwareStatus> {
        let index = usize::from(vmpck);
        let slot = self.message_keys.get_mut(index).ok_or(FirmwareStatus::INVALID_PARAM)?;
        if let Some(key) = slot {
            return Ok(Arc::clone(key));
        }
        let unbound = UnboundKey::new(&AES_256_GCM, &self.secrets.vmpck[index])
            .map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?;
        Ok(Arc::clone(slot.insert(Arc::new(LessSafeKey::new(unbound)))))
    }

    /// The context as messages carry it.
    pub(super) fn export(&self) -> GuestContext {
        GuestContext {
            ld: *self.ld.as_bytes(),
            oek: self.secrets.oek,
            vmpck: self.secrets.vmpck,
            vmrk: self.secrets.vmrk,
            host_data: self.host_data,
            id_key_digest: self.id_key_digest,
            author_key_digest: self.author_key_digest,
            report_id: self.report_id,
            imd: *self.imd.as_bytes(),
            msg_count: self.msg_count.map(U64::new),
            root_md_entry: self.root_md_entry,
            flags: U64::new(
                GuestContextFlags::new()
                    .with_author_key_en(self.author_key_en)
                    .with_id_block_en(self.id_block_en)
                    .with_vcek_dis(self.vcek_dis)
                    .into(),
            ),
            policy: U64::new(self.policy.into()),
            state: self.state.encoding(),
            oek_iv_count: U64::new(self.oek_iv_count),
            id_block: self.id_block,
            gosvw: self.gosvw,
            desired_tsc_freq: U32::new(self.desired_tsc_freq),
            psp_tsc_offset: U64::new(self.psp_tsc_offset),
            launch_tcb: self.launch_tcb,
            ..GuestContext::new_zeroed()
        }
    }

    /// What `MSG_IMPORT_REQ`, `MSG_ABSORB_REQ` and `MSG_ABSORB_NOMA_REQ` have in common: keys, counters and launch values.
    pub(super) fn absorb(&mut self, incoming: &GuestContext) {
        self.ld = LaunchDigest::from_bytes(incoming.ld);
        self.imd = LaunchDigest::from_bytes(incoming.imd);
        self.secrets.oek = incoming.oek;
        self.secrets.vmpck = incoming.vmpck;
        self.secrets.vmrk = incoming.vmrk;
        self.message_keys = [const { None }; 4];
        self.msg_count = incoming.msg_count.map(U64::get);
        self.host_data = incoming.host_data;
        self.root_md_entry = incoming.root_md_entry;
        self.policy = incoming.policy.get().into();
        self.oek_iv_count = incoming.oek_iv_count.get();
        self.gosvw = incoming.gosvw;
        self.desired_tsc_freq = incoming.desired_tsc_freq.get();
        self.psp_tsc_offset = incoming.psp_tsc_offset.get();
        self.launch_tcb = incoming.launch_tcb;
    }

    /// The identity that `MSG_IMPORT_REQ` and `MSG_ABSORB_REQ` bring besides; a guest that absorbs without a migration agent
    /// keeps its own.
    pub(super) fn absorb_identity(&mut self, incoming: &GuestContext) {
        let flags = GuestContextFlags::from(incoming.flags.get());
        self.author_key_en = flags.author_key_en();
        self.id_block_en = flags.id_block_en();
        self.vcek_dis = flags.vcek_dis();
        self.id_key_digest = incoming.id_key_digest;
        self.author_key_digest = incoming.author_key_digest;
        self.id_block = incoming.id_block;
    }

    /// `SNP_GUEST_STATUS`.
    #[must_use]
    pub fn status(&self) -> GuestStatus {
        GuestStatus {
            policy: self.policy,
            asid: self.asid.unwrap_or(0),
            state: self.state,
            vcek_dis: self.vcek_dis,
        }
    }

    /// The launch digest: so far, or after the launch the measurement.
    #[must_use]
    pub const fn launch_digest(&self) -> &LaunchDigest {
        &self.ld
    }

    /// `REPORT_ID`.
    #[must_use]
    pub const fn report_id(&self) -> &[u8; 32] {
        &self.report_id
    }

    /// How many messages passed under each VMPCK, requests and responses together.
    #[must_use]
    pub const fn msg_count(&self) -> &[u64; 4] {
        &self.msg_count
    }
}
