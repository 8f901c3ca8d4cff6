//! The commands that launch a guest: `SNP_LAUNCH_START`, `SNP_LAUNCH_UPDATE`, `SNP_LAUNCH_FINISH`.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use tsmsim_abi::snp::{
    launch::{IdAuth, IdBlock, PageType, VMSA_GPA},
    pages::{CpuidPage, SECRETS_PAGE_VERSION, SecretsPage},
    policy::GuestPolicy,
    report::{EcdsaPublicKey, Signature, SignatureAlgorithm},
    status::FirmwareStatus,
    vmsa::Vmsa,
};
use zerocopy::{
    FromBytes, FromZeros, IntoBytes,
    little_endian::{U32, U64},
};
use zeroize::Zeroize;

use super::{Firmware, command_fault, context, journalled};
use crate::{
    env::{Entropy, Env},
    fault::FaultPoint,
    snp::{
        context::{Gctx, GuestState},
        launch::{LaunchPage, LaunchRmp, Page, PageAttributes, VMSA_TSC_FIELDS, sha384},
        message::tsc::tsc_scale,
        platform::Platform,
    },
};

/// Parameters of `SNP_LAUNCH_START` (56860 rev. 1.58, `SNP_LAUNCH_START`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaunchStart {
    /// `POLICY`.
    pub policy: GuestPolicy,
    /// `MA_GCTX_PADDR`, with `MA_EN` if there is one: the context of the migration agent.
    pub ma_gctx_paddr: Option<u64>,
    /// `IMI_EN`: what is launched is an initial migration image.
    pub imi_en: bool,
    /// `DESIRED_TSC_FREQ` in kHz.
    pub desired_tsc_freq: u32,
    /// `GOSVW`: guest-OS visible workarounds.
    pub gosvw: [u8; 16],
}

impl From<GuestPolicy> for LaunchStart {
    /// No migration agent, no migration image, no TSC frequency, no workarounds.
    fn from(policy: GuestPolicy) -> Self {
        Self { policy, ma_gctx_paddr: None, imi_en: false, desired_tsc_freq: 0, gosvw: [0; 16] }
    }
}

/// Parameters of `SNP_LAUNCH_UPDATE` for one 4 KiB page (56860 rev. 1.58, `SNP_LAUNCH_UPDATE`).
pub struct LaunchUpdate<'a> {
    /// The page. The firmware fills a SECRETS page, clears a ZERO page, sets the TSC fields of a VMSA and corrects a CPUID
    /// page.
    pub page: &'a mut Page,
    /// `PAGE_TYPE`.
    pub page_type: PageType,
    /// Guest-physical address (which hardware takes from the RMP), permissions, `IMI_PAGE`.
    pub attributes: PageAttributes,
}

/// Parameters of `SNP_LAUNCH_FINISH` (56860 rev. 1.58, `SNP_LAUNCH_FINISH`).
#[derive(Clone, Copy, Default)]
pub struct LaunchFinish<'a> {
    /// `ID_BLOCK` and `ID_AUTH`, with `ID_BLOCK_EN` if they are there.
    pub id_block: Option<(&'a IdBlock, &'a IdAuth)>,
    /// `AUTH_KEY_EN`: an author key certifies the ID key.
    pub auth_key_en: bool,
    /// `VCEK_DIS`: the VCEK is not for this guest.
    pub vcek_dis: bool,
    /// `HOST_DATA`.
    pub host_data: [u8; 32],
}

impl Firmware {
    /// `SNP_LAUNCH_START`: draws the guest's keys.
    ///
    /// # Errors
    /// In this order: [`FirmwareStatus::INVALID_PARAM`] (an address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no
    /// context), [`FirmwareStatus::INVALID_GUEST_STATE`] (not INIT), [`FirmwareStatus::INVALID_GUEST`] (no migration agent
    /// there), [`FirmwareStatus::POLICY_FAILURE`].
    pub fn snp_launch_start(
        &mut self,
        env: &mut Env<'_>,
        gctx_paddr: u64,
        start: &LaunchStart,
    ) -> Result<(), FirmwareStatus> {
        let result = match command_fault(env, FaultPoint::SNP_LAUNCH_START) {
            Some(status) => Err(status),
            None => self.launch_start(env.entropy, gctx_paddr, start),
        };
        journalled(env.journal, "SNP_LAUNCH_START", result)
    }

    fn launch_start(
        &mut self,
        entropy: &mut dyn Entropy,
        gctx_paddr: u64,
        start: &LaunchStart,
    ) -> Result<(), FirmwareStatus> {
        start.ma_gctx_paddr.map_or(Ok(()), super::check_aligned)?;
        if context(&mut self.guests, gctx_paddr)?.state != GuestState::Init {
            return Err(FirmwareStatus::INVALID_GUEST_STATE);
        }
        let agent =
            start.ma_gctx_paddr.map(|paddr| self.guests.get(&paddr).ok_or(FirmwareStatus::INVALID_GUEST));
        let agent = agent.transpose()?;
        if !policy_allows(&self.platform, start.policy, agent) {
            return Err(FirmwareStatus::POLICY_FAILURE);
        }
        let agent = start.ma_gctx_paddr.zip(agent.map(|agent| agent.report_id));
        let gctx = context(&mut self.guests, gctx_paddr)?;
        gctx.policy = start.policy;
        gctx.draw_secrets(entropy);
        if let Some((paddr, report_id)) = agent {
            gctx.bind_migration_agent(paddr, report_id);
        }
        gctx.imi_en = start.imi_en;
        gctx.gosvw = start.gosvw;
        gctx.desired_tsc_freq = start.desired_tsc_freq;
        gctx.state = GuestState::Launch;
        Ok(())
    }

    /// `SNP_LAUNCH_UPDATE`: measures a page and gives it to the guest. The page is converted in the RMP, except a VMSA at
    /// [`VMSA_GPA`], which is no page of guest memory.
    ///
    /// # Errors
    /// In this order: [`FirmwareStatus::INVALID_PARAM`] (an address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no
    /// context), what [`LaunchRmp::launch_check`] says of the page, [`FirmwareStatus::INVALID_PARAM`] (page type),
    /// [`FirmwareStatus::INVALID_GUEST_STATE`] (not LAUNCH), [`FirmwareStatus::INACTIVE`] (no ASID),
    /// [`FirmwareStatus::INVALID_PARAM`] (a page outside the migration image while one is launched),
    /// [`FirmwareStatus::INVALID_PARAM`] (a CPUID page that was corrected, or with reserved fields set). The page is neither
    /// measured nor converted then.
    pub fn snp_launch_update(
        &mut self,
        env: &mut Env<'_>,
        rmp: &mut dyn LaunchRmp,
        gctx_paddr: u64,
        update: LaunchUpdate<'_>,
    ) -> Result<(), FirmwareStatus> {
        let result = match command_fault(env, FaultPoint::SNP_LAUNCH_UPDATE) {
            Some(status) => Err(status),
            None => self.launch_update(env.entropy, rmp, gctx_paddr, update),
        };
        journalled(env.journal, "SNP_LAUNCH_UPDATE", result)
    }

    fn launch_update(
        &mut self,
        entropy: &mut dyn Entropy,
        rmp: &mut dyn LaunchRmp,
        gctx_paddr: u64,
        update: LaunchUpdate<'_>,
    ) -> Result<(), FirmwareStatus> {
        let LaunchUpdate { page, page_type, attributes } = update;
        super::check_aligned(attributes.gpa)?;
        let gctx = context(&mut self.guests, gctx_paddr)?;
        let is_vmsa = page_type == PageType::VMSA;
        let gfn = attributes.gpa / page.len() as u64;
        let in_memory = !(is_vmsa && attributes.gpa == VMSA_GPA);
        if in_memory {
            rmp.launch_check(gfn)?;
        }
        if page_type.name().is_none() {
            return Err(FirmwareStatus::INVALID_PARAM);
        }
        if gctx.state != GuestState::Launch {
            return Err(FirmwareStatus::INVALID_GUEST_STATE);
        }
        if gctx.asid.is_none() {
            return Err(FirmwareStatus::INACTIVE);
        }
        if gctx.imi_en && !attributes.imi_page {
            return Err(FirmwareStatus::INVALID_PARAM);
        }
        if page_type == PageType::CPUID {
            sanitise_cpuid_page(&self.platform, page)?;
        }
        if in_memory {
            rmp.launch_convert(gfn, is_vmsa, attributes.vmpl_perms)?;
        }
        let measured = match page_type {
            PageType::NORMAL => LaunchPage::Normal(page),
            PageType::VMSA => LaunchPage::Vmsa(page),
            PageType::ZERO => LaunchPage::Zero,
            PageType::UNMEASURED => LaunchPage::Unmeasured,
            PageType::SECRETS => LaunchPage::Secrets,
            _ => LaunchPage::Cpuid,
        };
        gctx.ld.extend_with_imd(&mut gctx.imd, &attributes, measured);
        match page_type {
            PageType::VMSA => prepare_vmsa(&self.platform, gctx, entropy, page),
            PageType::ZERO => page.fill(0),
            PageType::SECRETS => fill_secrets(&self.platform, gctx, page),
            _ => {}
        }
        Ok(())
    }

    /// `SNP_LAUNCH_FINISH`: judges the ID block, if there is one; then the guest may run and send messages.
    ///
    /// # Errors
    /// In this order: [`FirmwareStatus::INVALID_PARAM`] (address not aligned), [`FirmwareStatus::INVALID_GUEST`] (no
    /// context), [`FirmwareStatus::INVALID_GUEST_STATE`] (not LAUNCH, or a migration image), [`FirmwareStatus::INACTIVE`]
    /// (no ASID); of the ID block: [`FirmwareStatus::BAD_MEASUREMENT`], [`FirmwareStatus::POLICY_FAILURE`] (another policy),
    /// [`FirmwareStatus::INVALID_PARAM`] (key algorithms), [`FirmwareStatus::BAD_SIGNATURE`] (of the ID block, then of the ID
    /// key). A command that failed has no effect.
    pub fn snp_launch_finish(
        &mut self,
        env: &mut Env<'_>,
        gctx_paddr: u64,
        finish: &LaunchFinish<'_>,
    ) -> Result<(), FirmwareStatus> {
        let result = match command_fault(env, FaultPoint::SNP_LAUNCH_FINISH) {
            Some(status) => Err(status),
            None => self.launch_finish(gctx_paddr, finish),
        };
        journalled(env.journal, "SNP_LAUNCH_FINISH", result)
    }

    fn launch_finish(&mut self, gctx_paddr: u64, finish: &LaunchFinish<'_>) -> Result<(), FirmwareStatus> {
        let gctx = context(&mut self.guests, gctx_paddr)?;
        if gctx.state != GuestState::Launch || gctx.imi_en {
            return Err(FirmwareStatus::INVALID_GUEST_STATE);
        }
        if gctx.asid.is_none() {
            return Err(FirmwareStatus::INACTIVE);
        }
        if let Some((id_block, id_auth)) = finish.id_block {
            check_id_block(gctx, id_block, id_auth, finish.auth_key_en)?;
            gctx.id_block = *id_block;
            gctx.id_key_digest = sha384(id_auth.id_key.as_bytes());
            if finish.auth_key_en {
                gctx.author_key_digest = sha384(id_auth.author_key.as_bytes());
            }
        }
        gctx.host_data = finish.host_data;
        gctx.id_block_en = finish.id_block.is_some();
        gctx.author_key_en = finish.auth_key_en;
        gctx.vcek_dis = finish.vcek_dis;
        gctx.state = GuestState::Running;
        Ok(())
    }
}

/// The policy checks of `SNP_LAUNCH_START`.
fn policy_allows(platform: &Platform, policy: GuestPolicy, agent: Option<&Gctx>) -> bool {
    let info = platform.platform_info();
    let version = platform.version();
    let migration = match agent {
        None => true,
        Some(agent) => {
            policy.migrate_ma()
                && agent.migration_agent.is_none()
                && (!policy.single_socket() || agent.policy.single_socket())
        }
    };
    migration
        && policy.reserved_must_be_one()
        && (policy.smt() || !info.smt_en())
        && (policy.abi_major(), policy.abi_minor()) <= (version.major, version.minor)
        && u64::from(policy) & !u64::from(platform.known_policy()) == 0
        && (!policy.mem_aes_256_xts() || platform.mem_aes_256_xts())
        && (!policy.rapl_dis() || info.rapl_dis())
        && (!policy.ciphertext_hiding_dram() || info.ciphertext_hiding_dram_en())
}

/// Checks a CPUID page and corrects it in place.
fn sanitise_cpuid_page(platform: &Platform, page: &mut Page) -> Result<(), FirmwareStatus> {
    let Ok(cpuid) = CpuidPage::mut_from_bytes(page) else { return Err(FirmwareStatus::HWERROR_PLATFORM) };
    if cpuid.reserved_0x4.get() != 0 || cpuid.reserved_0x8.get() != 0 {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let count = usize::try_from(cpuid.count.get()).unwrap_or(usize::MAX);
    let functions = cpuid.functions.get_mut(..count).ok_or(FirmwareStatus::INVALID_PARAM)?;
    platform.cpuid_policy().sanitise(functions).status()
}

/// `SEV_FEATURES`: Secure TSC.
const SEV_FEATURE_SECURE_TSC: u64 = 1 << 9;
/// `SEV_FEATURES`: VMSA register protection.
const SEV_FEATURE_VMSA_REG_PROT: u64 = 1 << 14;
/// Where the nonce of VMSA register protection lies.
const VMSA_REG_PROT_NONCE: std::ops::Range<usize> = 0x300..0x308;

/// What the firmware puts into a VMSA after it was measured. The tweak bitmap that guests are told is empty, so register
/// protection has a nonce but changes no register.
fn prepare_vmsa(platform: &Platform, gctx: &Gctx, entropy: &mut dyn Entropy, page: &mut Page) {
    let features = Vmsa::ref_from_bytes(page.as_slice()).map_or(0, |vmsa| vmsa.sev_features.get());
    if features & SEV_FEATURE_VMSA_REG_PROT != 0 {
        entropy.fill(&mut page[VMSA_REG_PROT_NONCE]);
    }
    if features & SEV_FEATURE_SECURE_TSC != 0 {
        let scale = tsc_scale(gctx.desired_tsc_freq, platform.tsc().reference_clock_khz);
        page[VMSA_TSC_FIELDS].copy_from_slice([U64::new(scale), U64::ZERO].as_bytes());
    }
}

/// Fills the secrets page.
fn fill_secrets(platform: &Platform, gctx: &Gctx, page: &mut Page) {
    let mut secrets = SecretsPage {
        version: U32::new(SECRETS_PAGE_VERSION),
        imi_en: U32::new(gctx.imi_en.into()),
        fms: U32::new(platform.cpu().eax()),
        gosvw: gctx.gosvw,
        vmpck: gctx.secrets.vmpck,
        tsc_factor: U32::new(platform.tsc().tsc_factor),
        ..SecretsPage::new_zeroed()
    };
    page.copy_from_slice(secrets.as_bytes());
    secrets.vmpck.zeroize();
}

/// The checks of ID block and ID authentication information in AMD-ASPFW's order.
fn check_id_block(
    gctx: &Gctx,
    id_block: &IdBlock,
    id_auth: &IdAuth,
    auth_key_en: bool,
) -> Result<(), FirmwareStatus> {
    if id_block.ld != *gctx.ld.as_bytes() {
        return Err(FirmwareStatus::BAD_MEASUREMENT);
    }
    if id_block.policy.get() != u64::from(gctx.policy) {
        return Err(FirmwareStatus::POLICY_FAILURE);
    }
    let supported = |algorithm: U32| algorithm.get() == SignatureAlgorithm::ECDSA_P384_SHA384.0;
    if !supported(id_auth.id_key_algo) || (auth_key_en && !supported(id_auth.auth_key_algo)) {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    verify(&id_auth.id_key, id_block.as_bytes(), &id_auth.id_block_sig)?;
    if auth_key_en {
        verify(&id_auth.author_key, id_auth.id_key.as_bytes(), &id_auth.id_key_sig)?;
    }
    Ok(())
}

/// Verifies an ECDSA P-384 signature; a key that is no point of the curve does not verify either.
fn verify(key: &EcdsaPublicKey, message: &[u8], signature: &Signature) -> Result<(), FirmwareStatus> {
    let (Some((x, y)), Some((r, s))) = (key.to_big_endian(), signature.to_big_endian()) else {
        return Err(FirmwareStatus::BAD_SIGNATURE);
    };
    let mut point = [4; 97];
    point[1..49].copy_from_slice(&x);
    point[49..].copy_from_slice(&y);
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
        .verify(message, [r, s].as_flattened())
        .map_err(|_| FirmwareStatus::BAD_SIGNATURE)
}
