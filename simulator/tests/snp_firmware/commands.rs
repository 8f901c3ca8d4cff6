//! The commands of a guest's life: each refusal with its status, in the order of the checks.

use p384::ecdsa::{Signature as P384Signature, SigningKey, signature::Signer};
use rstest::rstest;
use sha2::{Digest, Sha384};
use tsmsim_abi::snp::{
    launch::{IdAuth, IdBlock, PageType},
    message::MessageType,
    pages::{CpuidPage, SecretsPage},
    payload::{ReportReq, ReportRsp, TscInfoReq, TscInfoRsp},
    policy::{GuestPolicy, PlatformInfo},
    report::{AttestationReport, EcdsaPublicKey, FirmwareVersion, Signature},
    status::FirmwareStatus,
    tcb::{ProductLine, TcbParts},
    vmsa::Vmsa,
};
use tsmsim_keys::Seed;
use tsmsim_simulator::{
    fault::{FaultAction, FaultPoint},
    snp::{
        context::{GuestState, GuestStatus},
        firmware::{LaunchFinish, LaunchStart, LaunchUpdate, MAX_ASID, MAX_GUESTS},
        launch::PageAttributes,
        platform::{CpuSignature, PlatformConfig, PlatformError, SnpConfig, TscParameters},
    },
};
use zerocopy::{FromBytes, FromZeros, IntoBytes, little_endian::U32};

use crate::support::{ASID, GUEST, Machine};

const AGENT: u64 = 0x8000;
const POLICY: GuestPolicy = GuestPolicy::DEFAULT;

fn genoa() -> PlatformConfig {
    PlatformConfig::new(ProductLine::Genoa)
}

#[test]
fn a_life() {
    let mut machine = Machine::genoa();
    let guest = machine.launch(GUEST, ASID, &POLICY.into());
    let status = |state| GuestStatus { policy: POLICY, asid: ASID, state, vcek_dis: false };
    assert_eq!(machine.guest_status(GUEST), Ok(status(GuestState::Launch)));
    machine.finish(GUEST, &LaunchFinish::default()).unwrap();
    assert_eq!(machine.guest_status(GUEST), Ok(status(GuestState::Running)));
    assert_eq!(guest.secrets.version.get(), 3);
    assert_eq!(guest.secrets.fms.get(), 0x00a1_0f11);
    assert_eq!(guest.secrets.tsc_factor.get(), 200);
    machine.decommission(GUEST).unwrap();
    assert_eq!(machine.guest_status(GUEST), Err(FirmwareStatus::INVALID_GUEST));
    machine.launch(GUEST, ASID, &POLICY.into());
}

#[test]
fn guests_have_different_keys() {
    let mut machine = Machine::genoa();
    let one = machine.launch(GUEST, 1, &POLICY.into());
    let two = machine.launch(AGENT, 2, &POLICY.into());
    let keys: std::collections::BTreeSet<_> = one.secrets.vmpck.iter().chain(&two.secrets.vmpck).collect();
    assert_eq!(keys.len(), 8);
}

#[test]
fn gctx_create() {
    let mut machine = Machine::genoa();
    assert_eq!(machine.create(GUEST + 8), Err(FirmwareStatus::INVALID_PARAM));
    assert_eq!(machine.create(GUEST), Ok(()));
    assert_eq!(machine.create(GUEST), Err(FirmwareStatus::INVALID_PAGE_STATE));
    for n in 1..MAX_GUESTS as u64 {
        machine.create(GUEST + n * 0x1000).unwrap();
    }
    assert_eq!(machine.create(0), Err(FirmwareStatus::RESOURCE_LIMIT));
}

#[rstest]
#[case::unaligned(GUEST + 1, ASID + 1, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(0, ASID + 1, FirmwareStatus::INVALID_GUEST)]
#[case::before_launch(0x9000, 0, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::asid_0(GUEST, 0, FirmwareStatus::INVALID_ASID)]
#[case::asid_too_high(GUEST, MAX_ASID + 1, FirmwareStatus::INVALID_ASID)]
#[case::owned(GUEST, ASID, FirmwareStatus::ASID_OWNED)]
#[case::active(GUEST, ASID + 1, FirmwareStatus::ACTIVE)]
fn activate(#[case] gctx: u64, #[case] asid: u32, #[case] status: FirmwareStatus) {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    machine.create(0x9000).unwrap();
    assert_eq!(machine.activate(gctx, asid), Err(status));
}

#[rstest]
#[case(1, Ok(()))]
#[case(2, Err(FirmwareStatus::POLICY_FAILURE))]
fn single_socket(#[case] sockets: u8, #[case] result: Result<(), FirmwareStatus>) {
    let mut machine = Machine::new(&genoa().with_sockets(sockets));
    machine.create(GUEST).unwrap();
    machine.start(GUEST, &POLICY.with_single_socket(true).into()).unwrap();
    assert_eq!(machine.activate(GUEST, ASID), result);
}

/// `launch_start` of a guest at its own context while an agent runs at another.
fn start_result(
    config: &PlatformConfig,
    agent: GuestPolicy,
    start: &LaunchStart,
) -> Result<(), FirmwareStatus> {
    let mut machine = Machine::new(config);
    machine.launch(AGENT, 2, &agent.into());
    machine.finish(AGENT, &LaunchFinish::default()).unwrap();
    machine.create(GUEST).unwrap();
    machine.start(GUEST, start)
}

#[rstest]
#[case::plain(POLICY, true)]
#[case::debug(POLICY.with_debug(true), true)]
#[case::bit_17(POLICY.with_reserved_must_be_one(false), false)]
#[case::no_smt(POLICY.with_smt(false), false)]
#[case::reserved(POLICY.with_reserved(1), false)]
#[case::page_swap_disable_is_too_new(POLICY.with_page_swap_disable(true), false)]
#[case::same_abi(POLICY.with_abi_major(1).with_abi_minor(56), true)]
#[case::lower_minor(POLICY.with_abi_major(1).with_abi_minor(55), true)]
#[case::higher_minor(POLICY.with_abi_major(1).with_abi_minor(57), false)]
#[case::higher_major(POLICY.with_abi_major(2), false)]
#[case::lower_major_any_minor(POLICY.with_abi_major(0).with_abi_minor(255), true)]
#[case::xts(POLICY.with_mem_aes_256_xts(true), true)]
#[case::rapl(POLICY.with_rapl_dis(true), false)]
#[case::ciphertext_hiding(POLICY.with_ciphertext_hiding_dram(true), false)]
#[case::cxl(POLICY.with_cxl_allow(true), true)]
fn launch_start_policy(#[case] policy: GuestPolicy, #[case] allowed: bool) {
    let expected = if allowed { Ok(()) } else { Err(FirmwareStatus::POLICY_FAILURE) };
    assert_eq!(start_result(&genoa(), POLICY, &policy.into()), expected);
}

#[rstest]
#[case::no_smt(PlatformInfo::new(), POLICY.with_smt(false))]
#[case::rapl(PlatformInfo::new().with_smt_en(true).with_rapl_dis(true), POLICY.with_rapl_dis(true))]
#[case::hiding(
    PlatformInfo::new().with_smt_en(true).with_ciphertext_hiding_dram_en(true),
    POLICY.with_ciphertext_hiding_dram(true)
)]
fn launch_start_policy_on_a_platform_that_offers_it(#[case] info: PlatformInfo, #[case] policy: GuestPolicy) {
    let config = genoa().with_platform_info(info);
    assert_eq!(config.build(&Seed::DEFAULT).unwrap().platform_info(), info);
    let mut machine = Machine::new(&config);
    machine.create(GUEST).unwrap();
    assert_eq!(machine.start(GUEST, &policy.into()), Ok(()));
}

#[rstest]
#[case::allowed(POLICY.with_migrate_ma(true), POLICY, AGENT, Ok(()))]
#[case::not_allowed(POLICY, POLICY, AGENT, Err(FirmwareStatus::POLICY_FAILURE))]
#[case::no_agent(POLICY.with_migrate_ma(true), POLICY, 0x3000, Err(FirmwareStatus::INVALID_GUEST))]
#[case::unaligned(POLICY.with_migrate_ma(true), POLICY, AGENT + 1, Err(FirmwareStatus::INVALID_PARAM))]
#[case::agent_on_more_sockets(
    POLICY.with_migrate_ma(true).with_single_socket(true), POLICY, AGENT, Err(FirmwareStatus::POLICY_FAILURE)
)]
#[case::both_on_one_socket(
    POLICY.with_migrate_ma(true).with_single_socket(true), POLICY.with_single_socket(true), AGENT, Ok(())
)]
fn launch_start_with_migration_agent(
    #[case] policy: GuestPolicy,
    #[case] agent: GuestPolicy,
    #[case] ma_gctx_paddr: u64,
    #[case] expected: Result<(), FirmwareStatus>,
) {
    let start = LaunchStart { ma_gctx_paddr: Some(ma_gctx_paddr), ..policy.into() };
    assert_eq!(start_result(&genoa(), agent, &start), expected);
}

#[test]
fn a_migration_agent_has_no_migration_agent() {
    let mut machine = Machine::genoa();
    machine.launch(AGENT, 2, &POLICY.into());
    let start = |paddr| LaunchStart { ma_gctx_paddr: Some(paddr), ..POLICY.with_migrate_ma(true).into() };
    machine.create(GUEST).unwrap();
    machine.start(GUEST, &start(AGENT)).unwrap();
    machine.create(0x3000).unwrap();
    assert_eq!(machine.start(0x3000, &start(GUEST)), Err(FirmwareStatus::POLICY_FAILURE));
}

#[rstest]
#[case::unaligned(GUEST + 1, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(0x3000, FirmwareStatus::INVALID_GUEST)]
#[case::twice(AGENT, FirmwareStatus::INVALID_GUEST_STATE)]
fn launch_start_state(#[case] gctx: u64, #[case] status: FirmwareStatus) {
    let mut machine = Machine::genoa();
    machine.launch(AGENT, 2, &POLICY.into());
    machine.create(GUEST).unwrap();
    assert_eq!(machine.start(gctx, &POLICY.with_reserved(1).into()), Err(status));
}

fn page_update(
    machine: &mut Machine,
    gctx: u64,
    page_type: u8,
    gpa: u64,
    imi_page: bool,
) -> Result<(), FirmwareStatus> {
    let attributes = PageAttributes { imi_page, ..gpa.into() };
    machine.update(gctx, LaunchUpdate { page: &mut [0; 4096], page_type: PageType(page_type), attributes })
}

#[rstest]
#[case::unaligned(GUEST + 1, 1, 0x1000, FirmwareStatus::INVALID_PARAM)]
#[case::unaligned_page(GUEST, 1, 0x1001, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(0x3000, 1, 0x1000, FirmwareStatus::INVALID_GUEST)]
#[case::type_0(GUEST, 0, 0x1000, FirmwareStatus::INVALID_PARAM)]
#[case::type_7(GUEST, 7, 0x1000, FirmwareStatus::INVALID_PARAM)]
#[case::before_launch(AGENT, 1, 0x1000, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::not_active(0x9000, 1, 0x1000, FirmwareStatus::INACTIVE)]
fn launch_update(#[case] gctx: u64, #[case] page_type: u8, #[case] gpa: u64, #[case] status: FirmwareStatus) {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    machine.create(AGENT).unwrap();
    machine.create(0x9000).unwrap();
    machine.start(0x9000, &POLICY.into()).unwrap();
    let before = (*machine.firmware.guest(GUEST).unwrap().launch_digest(), machine.rmp.converted.len());
    assert_eq!(page_update(&mut machine, gctx, page_type, gpa, false), Err(status));
    let after = (*machine.firmware.guest(GUEST).unwrap().launch_digest(), machine.rmp.converted.len());
    assert_eq!(before, after, "a refused page is neither measured nor converted");
}

#[test]
fn launch_update_and_the_rmp() {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    let before = *machine.firmware.guest(GUEST).unwrap().launch_digest();
    machine.rmp.check = Some(FirmwareStatus::INVALID_PAGE_STATE);
    assert_eq!(page_update(&mut machine, GUEST, 0, 0x1000, false), Err(FirmwareStatus::INVALID_PAGE_STATE));
    machine.rmp.check = None;
    machine.rmp.convert = Some(FirmwareStatus::INVALID_PAGE_OWNER);
    assert_eq!(page_update(&mut machine, GUEST, 1, 0x1000, false), Err(FirmwareStatus::INVALID_PAGE_OWNER));
    assert_eq!(machine.firmware.guest(GUEST).unwrap().launch_digest(), &before);
}

#[rstest]
#[case(false, Err(FirmwareStatus::INVALID_PARAM))]
#[case(true, Ok(()))]
fn launch_update_of_a_migration_image(#[case] imi_page: bool, #[case] expected: Result<(), FirmwareStatus>) {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &LaunchStart { imi_en: true, ..POLICY.into() });
    assert_eq!(page_update(&mut machine, GUEST, 1, 0x1000, imi_page), expected);
    assert_eq!(
        machine.finish(GUEST, &LaunchFinish::default()),
        Err(FirmwareStatus::INVALID_GUEST_STATE),
        "an image is absorbed into, not finished"
    );
}

#[test]
fn zero_pages_are_cleared_and_others_stay() {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    let mut page = [7; 4096];
    machine.update_page(GUEST, PageType::UNMEASURED, 0x1000, &mut page).unwrap();
    assert_eq!(page, [7; 4096]);
    machine.update_page(GUEST, PageType::ZERO, 0x2000, &mut page).unwrap();
    assert_eq!(page, [0; 4096]);
}

#[test]
fn the_secrets_page_holds_what_launch_start_gave() {
    let mut machine = Machine::genoa();
    let start = LaunchStart { gosvw: [9; 16], imi_en: true, ..POLICY.into() };
    let secrets = machine.launch(GUEST, ASID, &start).secrets;
    assert_eq!((secrets.gosvw, secrets.imi_en.get()), ([9; 16], 1));
    let expected = SecretsPage {
        vmpck: secrets.vmpck,
        version: secrets.version,
        imi_en: secrets.imi_en,
        fms: secrets.fms,
        gosvw: secrets.gosvw,
        tsc_factor: secrets.tsc_factor,
        ..SecretsPage::new_zeroed()
    };
    assert_eq!(secrets, expected, "the rest is zero");
}

#[test]
fn a_cpuid_page_is_corrected_and_refused_then_accepted() {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    let mut cpuid = CpuidPage::new_zeroed();
    cpuid.count = U32::new(2);
    cpuid.functions[0].eax_in = U32::new(7);
    cpuid.functions[0].ebx = U32::new(1 << 11 | 1);
    cpuid.functions[1].eax_in = U32::new(0x14);
    cpuid.functions[1].eax = U32::new(1);
    let mut page: [u8; 4096] = cpuid.as_bytes().try_into().unwrap();
    let converted = machine.rmp.converted.len();
    let refused = machine.update_page(GUEST, PageType::CPUID, 0x2000, &mut page);
    assert_eq!(refused, Err(FirmwareStatus::INVALID_PARAM));
    assert_eq!(machine.rmp.converted.len(), converted);
    let corrected = CpuidPage::read_from_bytes(&page).unwrap();
    assert_eq!((corrected.functions[0].ebx.get(), corrected.functions[1].eax.get()), (1, 0));
    machine.update_page(GUEST, PageType::CPUID, 0x2000, &mut page).unwrap();
    assert_eq!(CpuidPage::read_from_bytes(&page).unwrap(), corrected);
}

#[rstest]
#[case::count_64(|page: &mut CpuidPage| page.count = U32::new(64), true)]
#[case::count_65(|page: &mut CpuidPage| page.count = U32::new(65), false)]
#[case::count_huge(|page: &mut CpuidPage| page.count = U32::new(u32::MAX), false)]
#[case::reserved_4(|page: &mut CpuidPage| page.reserved_0x4 = U32::new(1), false)]
#[case::reserved_8(|page: &mut CpuidPage| page.reserved_0x8 = 1.into(), false)]
#[case::beyond_the_count(|page: &mut CpuidPage| page.functions[0].eax = U32::new(1), true)]
fn cpuid_page_header(#[case] edit: fn(&mut CpuidPage), #[case] accepted: bool) {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    let mut cpuid = CpuidPage::new_zeroed();
    // Functions of the hypervisor's range are never looked at.
    cpuid.functions.iter_mut().for_each(|function| function.eax_in = U32::new(0x4000_0000));
    edit(&mut cpuid);
    let mut page: [u8; 4096] = cpuid.as_bytes().try_into().unwrap();
    let expected = if accepted { Ok(()) } else { Err(FirmwareStatus::INVALID_PARAM) };
    assert_eq!(machine.update_page(GUEST, PageType::CPUID, 0x2000, &mut page), expected);
}

#[test]
fn secure_tsc_is_set_in_the_vmsa_and_told_to_the_guest() {
    let config = genoa().with_tsc(TscParameters { reference_clock_khz: 100_000, tsc_factor: 7 });
    let mut machine = Machine::new(&config);
    let start = LaunchStart { desired_tsc_freq: 250_000, ..POLICY.into() };
    let mut guest = machine.launch(GUEST, ASID, &start);
    let mut vmsa = Vmsa::new_zeroed();
    vmsa.sev_features = (1 | 1 << 9 | 1 << 14).into();
    let mut page: [u8; 4096] = vmsa.as_bytes().try_into().unwrap();
    machine.update_page(GUEST, PageType::VMSA, 0x5000, &mut page).unwrap();
    let scale = 2_u64 << 32 | 1 << 31;
    assert_eq!(page[0x2f0..0x2f8], scale.to_le_bytes());
    assert_eq!(page[0x2f8..0x300], [0; 8]);
    assert_ne!(page[0x300..0x308], [0; 8], "the nonce of VMSA register protection");
    machine.finish(GUEST, &LaunchFinish::default()).unwrap();
    let response = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 3, &TscInfoReq::new_zeroed());
    let info: TscInfoRsp = response.read();
    let values = (info.guest_tsc_scale.get(), info.guest_tsc_offset.get(), info.tsc_factor.get());
    assert_eq!(values, (scale, 0, 7));
}

/// ID block and ID authentication for a launched guest, rightly signed; the keys are fixed.
struct Identity {
    block: IdBlock,
    auth: Box<IdAuth>,
}

pub(crate) fn signing_key(n: u8) -> SigningKey {
    SigningKey::from_slice(&[n; 48]).unwrap()
}

pub(crate) fn public_key(key: &SigningKey) -> EcdsaPublicKey {
    let point = key.verifying_key().to_sec1_point(false);
    EcdsaPublicKey::from_big_endian(
        point.x().unwrap().as_slice().try_into().unwrap(),
        point.y().unwrap().as_slice().try_into().unwrap(),
    )
}

pub(crate) fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    let signature: P384Signature = key.sign(message);
    let bytes = signature.to_bytes();
    Signature::from_big_endian(bytes[..48].try_into().unwrap(), bytes[48..].try_into().unwrap())
}

impl Identity {
    fn of(machine: &Machine) -> Self {
        let block = IdBlock {
            ld: *machine.firmware.guest(GUEST).unwrap().launch_digest().as_bytes(),
            family_id: [0xfa; 16],
            image_id: [0x1a; 16],
            version: U32::new(1),
            guest_svn: U32::new(5),
            policy: u64::from(POLICY).into(),
        };
        let mut identity = Self { block, auth: Box::new(IdAuth::new_zeroed()) };
        identity.auth.id_key_algo = U32::new(1);
        identity.auth.auth_key_algo = U32::new(1);
        identity.sign();
        identity
    }

    fn sign(&mut self) {
        let (id, author) = (signing_key(1), signing_key(2));
        self.auth.id_block_sig = sign(&id, self.block.as_bytes());
        self.auth.id_key = public_key(&id);
        self.auth.id_key_sig = sign(&author, self.auth.id_key.as_bytes());
        self.auth.author_key = public_key(&author);
    }

    fn finish(&self, auth_key_en: bool) -> LaunchFinish<'_> {
        LaunchFinish {
            id_block: Some((&self.block, &self.auth)),
            auth_key_en,
            host_data: [0x40; 32],
            ..LaunchFinish::default()
        }
    }
}

fn report(machine: &mut Machine, guest: &mut crate::support::Guest) -> AttestationReport {
    guest.ask(machine, MessageType::REPORT_REQ, 0, &ReportReq::new_zeroed()).read::<ReportRsp>().report
}

#[rstest]
#[case(false)]
#[case(true)]
fn identity_goes_into_the_report(#[case] auth_key_en: bool) {
    let mut machine = Machine::genoa();
    let mut guest = machine.launch(GUEST, ASID, &POLICY.into());
    let identity = Identity::of(&machine);
    machine.finish(GUEST, &identity.finish(auth_key_en)).unwrap();
    let report = report(&mut machine, &mut guest);
    assert_eq!((report.family_id, report.image_id), ([0xfa; 16], [0x1a; 16]));
    assert_eq!((report.guest_svn.get(), report.host_data), (5, [0x40; 32]));
    assert_eq!(report.measurement, identity.block.ld);
    let digest = |key: &EcdsaPublicKey| <[u8; 48]>::from(Sha384::digest(key.as_bytes()));
    assert_eq!(report.id_key_digest, digest(&identity.auth.id_key));
    let author = if auth_key_en { digest(&identity.auth.author_key) } else { [0; 48] };
    assert_eq!(report.author_key_digest, author);
    assert_eq!(report.key_info_bits().author_key_en(), auth_key_en);
}

type IdentityEdit = fn(&mut Identity);

/// What is wrong, whether the signatures are made anew, whether an author key is used.
#[rstest]
#[case::measurement(|i: &mut Identity| i.block.ld[0] ^= 1, true, false, FirmwareStatus::BAD_MEASUREMENT)]
#[case::measurement_before_signature(|i: &mut Identity| i.block.ld[0] ^= 1, false, false, FirmwareStatus::BAD_MEASUREMENT)]
#[case::policy(|i: &mut Identity| i.block.policy = 0x3_0001.into(), true, false, FirmwareStatus::POLICY_FAILURE)]
#[case::policy_before_algorithm(
    |i: &mut Identity| { i.block.policy = 0.into(); i.auth.id_key_algo = 2.into(); }, true, false, FirmwareStatus::POLICY_FAILURE
)]
#[case::id_algorithm(|i: &mut Identity| i.auth.id_key_algo = 2.into(), true, false, FirmwareStatus::INVALID_PARAM)]
#[case::author_algorithm(|i: &mut Identity| i.auth.auth_key_algo = 0.into(), true, true, FirmwareStatus::INVALID_PARAM)]
#[case::block_changed(|i: &mut Identity| i.block.guest_svn = 6.into(), false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::signature_r(|i: &mut Identity| i.auth.id_block_sig.r[0] ^= 1, false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::signature_s(|i: &mut Identity| i.auth.id_block_sig.s[47] ^= 1, false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::signature_too_wide(|i: &mut Identity| i.auth.id_block_sig.r[48] = 1, false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::signature_zero(|i: &mut Identity| i.auth.id_block_sig = Signature::ZERO, false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::curve(|i: &mut Identity| i.auth.id_key.curve = 1.into(), false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::not_on_the_curve(|i: &mut Identity| i.auth.id_key.qx[0] ^= 1, false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::other_key(|i: &mut Identity| i.auth.id_key = public_key(&signing_key(3)), false, false, FirmwareStatus::BAD_SIGNATURE)]
#[case::author_signature(|i: &mut Identity| i.auth.id_key_sig.r[0] ^= 1, false, true, FirmwareStatus::BAD_SIGNATURE)]
#[case::author_curve(|i: &mut Identity| i.auth.author_key.curve = 0.into(), false, true, FirmwareStatus::BAD_SIGNATURE)]
#[case::key_not_certified(|i: &mut Identity| i.auth.id_key.reserved_0x94[0] = 1, false, true, FirmwareStatus::BAD_SIGNATURE)]
fn identity_refused(
    #[case] edit: IdentityEdit,
    #[case] sign_again: bool,
    #[case] auth_key_en: bool,
    #[case] status: FirmwareStatus,
) {
    let mut machine = Machine::genoa();
    let mut guest = machine.launch(GUEST, ASID, &POLICY.into());
    let mut identity = Identity::of(&machine);
    edit(&mut identity);
    if sign_again {
        identity.sign();
    }
    assert_eq!(machine.finish(GUEST, &identity.finish(auth_key_en)), Err(status));
    machine.finish(GUEST, &LaunchFinish::default()).unwrap();
    let report = report(&mut machine, &mut guest);
    assert_eq!((report.guest_svn.get(), report.id_key_digest), (0, [0; 48]), "nothing is left of it");
}

#[test]
fn an_author_key_that_is_not_used_is_not_judged() {
    let mut machine = Machine::genoa();
    machine.launch(GUEST, ASID, &POLICY.into());
    let mut identity = Identity::of(&machine);
    identity.auth.auth_key_algo = U32::new(0);
    identity.auth.id_key_sig = Signature::ZERO;
    assert_eq!(machine.finish(GUEST, &identity.finish(false)), Ok(()));
}

#[rstest]
#[case::unaligned(GUEST + 1, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(0x3000, FirmwareStatus::INVALID_GUEST)]
#[case::before_launch(AGENT, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::not_active(0x9000, FirmwareStatus::INACTIVE)]
#[case::twice(GUEST, FirmwareStatus::INVALID_GUEST_STATE)]
fn launch_finish(#[case] gctx: u64, #[case] status: FirmwareStatus) {
    let mut machine = Machine::genoa();
    machine.running();
    machine.create(AGENT).unwrap();
    machine.create(0x9000).unwrap();
    machine.start(0x9000, &POLICY.into()).unwrap();
    assert_eq!(machine.finish(gctx, &LaunchFinish::default()), Err(status));
}

#[rstest]
#[case(FaultPoint::SNP_LAUNCH_START)]
#[case(FaultPoint::SNP_LAUNCH_UPDATE)]
#[case(FaultPoint::SNP_LAUNCH_FINISH)]
fn launch_faults(#[case] point: FaultPoint) {
    let mut machine = Machine::genoa();
    machine.faults.0 = Some((point, FaultAction::Status(0x14)));
    machine.create(GUEST).unwrap();
    let start = machine.start(GUEST, &POLICY.into());
    if point == FaultPoint::SNP_LAUNCH_START {
        assert_eq!(start, Err(FirmwareStatus::HWERROR_UNSAFE));
        assert_eq!(machine.start(GUEST, &POLICY.into()), Ok(()), "once");
        return;
    }
    machine.activate(GUEST, ASID).unwrap();
    let update = page_update(&mut machine, GUEST, 1, 0, false);
    let finish = machine.finish(GUEST, &LaunchFinish::default());
    let (hit, spared) =
        if point == FaultPoint::SNP_LAUNCH_UPDATE { (update, finish) } else { (finish, update) };
    assert_eq!((hit, spared), (Err(FirmwareStatus::HWERROR_UNSAFE), Ok(())));
}

#[test]
fn config_changes_reported_tcb_and_keys() {
    let mut machine = Machine::genoa();
    let lower =
        TcbParts { snp: 20, ..TcbParts { fmc: None, boot_loader: 10, tee: 0, snp: 23, microcode: 84 } };
    let reported_tcb = lower.pack(ProductLine::Genoa.tcb_layout());
    let before = machine.firmware.platform().vcek().certificate().der().to_vec();
    let config = SnpConfig { reported_tcb, ..SnpConfig::default() };
    assert_eq!(machine.configure(config), Ok(()));
    assert_eq!(machine.firmware.platform().reported_tcb(), reported_tcb);
    assert_eq!(machine.firmware.platform().vcek().tcb(), reported_tcb);
    assert_ne!(machine.firmware.platform().vcek().certificate().der(), before);
    assert_eq!(machine.configure(SnpConfig::default()), Ok(()), "zero is the committed TCB");
    assert_eq!(machine.firmware.platform().vcek().certificate().der(), before);
}

#[rstest]
#[case::above_in_one_component(0x5500_0000_0000_0000)]
#[case::reserved_byte(0x0000_0100_0000_0000)]
fn config_refuses(#[case] tcb: u64) {
    let mut machine = Machine::genoa();
    let reported_tcb = tsmsim_abi::snp::tcb::TcbVersion::new(tcb);
    let config = SnpConfig { reported_tcb, mask_chip_id: true, mask_chip_key: true };
    assert_eq!(machine.configure(config), Err(FirmwareStatus::INVALID_PARAM));
    assert!(!machine.firmware.platform().mask_chip_id(), "nothing has changed");
}

const HIGH: TcbParts = TcbParts { fmc: None, boot_loader: 99, tee: 0, snp: 0, microcode: 0 };

/// Each error says what to change.
#[rstest]
#[case::committed(genoa().with_committed_tcb(HIGH), "committed TCB")]
#[case::reported(genoa().with_reported_tcb(HIGH), "reported TCB")]
#[case::launch(genoa().with_launch_tcb(HIGH), "launch TCB")]
#[case::fmc(genoa().with_current_tcb(TcbParts { fmc: Some(1), ..HIGH }), "leave `fmc` out")]
#[case::version(genoa().with_committed_version(FirmwareVersion::new(1, 57, 0)), "commit a lower version")]
#[case::report_version(genoa().with_report_version(4), "none of 2, 3 and 5")]
#[case::platform_info(genoa().with_platform_info(PlatformInfo::new().with_tio_en(true)), "use a later report version")]
#[case::mit_vector(genoa().with_current_mit_vector(1), "needs report version 5")]
#[case::cpu(genoa().with_cpu(CpuSignature { family: 0x1a, model: 2, stepping: 1 }), "or another profile")]
#[case::clock(genoa().with_tsc(TscParameters { reference_clock_khz: 0, tsc_factor: 0 }), "must not be 0")]
#[case::sockets(genoa().with_sockets(0), "at least one socket")]
#[case::csp(genoa().with_vlek(""), "CSP_ID")]
#[case::chip_id(PlatformConfig::new(ProductLine::Turin).with_chip_id([1; 64]), "first 8")]
fn config_errors(#[case] config: PlatformConfig, #[case] hint: &str) {
    let error: PlatformError = config.build(&Seed::DEFAULT).err().expect("refused");
    assert!(error.to_string().contains(hint), "{error}");
}

#[rstest]
fn chip_ids_depend_on_line_and_seed(#[values(ProductLine::Milan, ProductLine::Turin)] line: ProductLine) {
    let config = PlatformConfig::new(line);
    let id = |seed: &Seed| *config.build(seed).unwrap().chip_id();
    assert_eq!(id(&Seed::DEFAULT), id(&Seed::DEFAULT));
    assert_ne!(id(&Seed::DEFAULT)[..8], [0; 8]);
    assert_eq!(id(&Seed::DEFAULT)[8..] == [0; 56], line == ProductLine::Turin);
}
