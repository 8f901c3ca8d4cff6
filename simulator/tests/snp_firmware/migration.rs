//! Export, import, absorb and VMRK messages: each refusal with its status, and whole migrations.

use rstest::rstest;
use tsmsim_abi::snp::{
    launch::PageType,
    message::MessageType,
    payload::{
        ExportReq, ExportRsp, GuestContext, IncomingContextReq, KeyReq, KeyRsp, ReportReq, ReportRsp,
        StatusRsp, TscInfoReq, VmrkReq,
    },
    policy::GuestPolicy,
    status::FirmwareStatus,
};
use tsmsim_simulator::snp::{
    context::GuestState,
    firmware::{LaunchFinish, LaunchStart},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::support::{GUEST, Guest, Machine};

const AGENT: u64 = 0x8000;
const TARGET: u64 = 0x9000;
const POLICY: GuestPolicy = GuestPolicy::DEFAULT.with_migrate_ma(true);

fn agent(machine: &mut Machine) -> Guest {
    let guest = machine.launch(AGENT, 20, &GuestPolicy::DEFAULT.into());
    machine.finish(AGENT, &LaunchFinish::default()).unwrap();
    guest
}

fn bound() -> LaunchStart {
    LaunchStart { ma_gctx_paddr: Some(AGENT), ..POLICY.into() }
}

/// A running agent and a running guest of its.
fn pair() -> (Machine, Guest, Guest) {
    let mut machine = Machine::genoa();
    let agent = agent(&mut machine);
    let guest = machine.launch(GUEST, 1, &bound());
    machine.finish(GUEST, &LaunchFinish::default()).unwrap();
    (machine, agent, guest)
}

fn export(gctx_paddr: u64, imi_en: u32) -> ExportReq {
    ExportReq { gctx_paddr: gctx_paddr.into(), imi_en: imi_en.into(), ..ExportReq::new_zeroed() }
}

fn ask_export(machine: &mut Machine, guest: &mut Guest, vmpck: u8, request: &ExportReq) -> ExportRsp {
    let response = guest.ask(machine, MessageType::EXPORT_REQ, vmpck, request);
    assert_eq!(response.payload.len(), 4000, "an exported context fills the page");
    response.read()
}

fn incoming(gctx_paddr: u64, context: GuestContext) -> IncomingContextReq {
    IncomingContextReq {
        gctx_paddr: gctx_paddr.into(),
        in_gctx_size: 0x300.into(),
        in_gctx_version: 3.into(),
        incoming_gctx: context,
        ..IncomingContextReq::new_zeroed()
    }
}

fn status<T: IntoBytes + zerocopy::Immutable>(
    machine: &mut Machine,
    guest: &mut Guest,
    msg_type: MessageType,
    vmpck: u8,
    request: &T,
) -> FirmwareStatus {
    let response = guest.ask(machine, msg_type, vmpck, request).read::<StatusRsp>();
    assert_eq!(response.reserved_0x4, [0; 12]);
    FirmwareStatus(response.status.get())
}

#[rstest]
#[case::of_its_guest(export(GUEST, 1), 0, FirmwareStatus::SUCCESS)]
#[case::from_another_vmpl(export(GUEST, 1), 3, FirmwareStatus::SUCCESS)]
#[case::unaligned(export(GUEST + 1, 1), 0, FirmwareStatus::INVALID_PARAM)]
#[case::flags(export(GUEST, 2), 0, FirmwareStatus::INVALID_PARAM)]
#[case::reserved(ExportReq { reserved_0xc: 1.into(), ..export(GUEST, 1) }, 0, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(export(0x3000, 1), 0, FirmwareStatus::INVALID_GUEST)]
#[case::not_running(export(TARGET, 1), 0, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::itself(export(AGENT, 1), 0, FirmwareStatus::SUCCESS)]
#[case::itself_from_vmpl1(export(AGENT, 1), 1, FirmwareStatus::INVALID_GUEST)]
#[case::of_a_stranger(export(0xa000, 1), 0, FirmwareStatus::INVALID_GUEST)]
fn export_by_an_agent(#[case] request: ExportReq, #[case] vmpck: u8, #[case] expected: FirmwareStatus) {
    let (mut machine, mut agent, _) = pair();
    machine.create(TARGET).unwrap();
    machine.launch(0xa000, 3, &GuestPolicy::DEFAULT.into());
    machine.finish(0xa000, &LaunchFinish::default()).unwrap();
    let response = ask_export(&mut machine, &mut agent, vmpck, &request);
    assert_eq!(response.status.get(), expected.0);
    assert_eq!((response.gctx_size.get(), response.gctx_version.get()), (0x300, 3));
    assert_eq!(response.gctx == GuestContext::new_zeroed(), expected != FirmwareStatus::SUCCESS);
}

#[test]
fn a_guest_with_an_agent_cannot_export_itself() {
    let (mut machine, _, mut guest) = pair();
    let response = ask_export(&mut machine, &mut guest, 0, &export(GUEST, 1));
    assert_eq!(response.status.get(), FirmwareStatus::INVALID_GUEST.0);
}

#[test]
fn another_agent_at_the_same_address_is_not_the_agent() {
    let (mut machine, _, _) = pair();
    machine.decommission(AGENT).unwrap();
    let mut impostor = agent(&mut machine);
    let response = ask_export(&mut machine, &mut impostor, 0, &export(GUEST, 1));
    assert_eq!(response.status.get(), FirmwareStatus::INVALID_GUEST.0);
}

#[test]
fn an_exported_context_is_the_guests() {
    let (mut machine, mut agent, mut guest) = pair();
    guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 2, &TscInfoReq::new_zeroed());
    let context = ask_export(&mut machine, &mut agent, 0, &export(GUEST, 1)).gctx;
    assert_eq!(context.vmpck, guest.secrets.vmpck);
    assert_eq!(context.ld, *machine.firmware.guest(GUEST).unwrap().launch_digest().as_bytes());
    assert_eq!((context.policy.get(), context.state), (u64::from(POLICY), 2));
    assert_eq!(context.msg_count.map(|count| count.get()), [0, 0, 2, 0]);
    assert!(machine.firmware.guest(GUEST).is_some(), "it runs on");
    let _ = ask_export(&mut machine, &mut agent, 0, &export(GUEST, 0));
    assert!(machine.firmware.guest(GUEST).is_none(), "it runs no more");
}

#[test]
fn a_guest_that_exports_itself_still_has_its_answer() {
    let mut machine = Machine::genoa();
    let mut guest = machine.running();
    let response = ask_export(&mut machine, &mut guest, 0, &export(GUEST, 0));
    assert_eq!(response.status.get(), 0);
    let again = guest.message(MessageType::TSC_INFO_REQ, 0, &[0; 128]);
    assert_eq!(guest.send(&mut machine, &again).err(), Some(FirmwareStatus::INVALID_GUEST));
}

/// A context that was swapped out, as `MSG_IMPORT_REQ` demands.
fn swapped_out(mut context: GuestContext) -> GuestContext {
    context.root_md_entry.page_info = 1.into();
    context
}

#[test]
fn import_brings_a_guest_back() {
    let (mut machine, mut agent, mut guest) = pair();
    let old_report_id = *machine.firmware.guest(GUEST).unwrap().report_id();
    guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 1, &TscInfoReq::new_zeroed());
    let context = ask_export(&mut machine, &mut agent, 0, &export(GUEST, 0)).gctx;
    machine.create(TARGET).unwrap();
    let request = incoming(TARGET, swapped_out(context));
    assert_eq!(
        status(&mut machine, &mut agent, MessageType::IMPORT_REQ, 0, &request),
        FirmwareStatus::SUCCESS
    );
    machine.activate(TARGET, 1).unwrap();

    guest.gctx = TARGET;
    let response = guest.ask(&mut machine, MessageType::REPORT_REQ, 1, &{
        let mut request = ReportReq::new_zeroed();
        request.vmpl = 1.into();
        request
    });
    let report = response.read::<ReportRsp>().report;
    assert_eq!(report.measurement, context.ld);
    assert_ne!(report.report_id, old_report_id, "another instance");
    assert_eq!(report.report_id_ma, *machine.firmware.guest(AGENT).unwrap().report_id());
}

type Edit = fn(&mut IncomingContextReq);

#[rstest]
#[case::reserved(|r: &mut IncomingContextReq| r.reserved_0x10[0] = 1, FirmwareStatus::INVALID_PARAM)]
#[case::unaligned(|r: &mut IncomingContextReq| r.gctx_paddr = (TARGET + 1).into(), FirmwareStatus::INVALID_PARAM)]
#[case::size(|r: &mut IncomingContextReq| r.in_gctx_size = 0x2ff.into(), FirmwareStatus::INVALID_PARAM)]
#[case::version(|r: &mut IncomingContextReq| r.in_gctx_version = 2.into(), FirmwareStatus::INVALID_PARAM)]
#[case::no_context(|r: &mut IncomingContextReq| r.gctx_paddr = 0x3000.into(), FirmwareStatus::INVALID_GUEST)]
#[case::not_fresh(|r: &mut IncomingContextReq| r.gctx_paddr = GUEST.into(), FirmwareStatus::INVALID_GUEST_STATE)]
#[case::into_itself(|r: &mut IncomingContextReq| r.gctx_paddr = AGENT.into(), FirmwareStatus::INVALID_GUEST_STATE)]
#[case::not_swapped_out(
    |r: &mut IncomingContextReq| r.incoming_gctx.root_md_entry.page_info = 0.into(),
    FirmwareStatus::INVALID_MDATA_ENTRY
)]
fn import_refused(#[case] edit: Edit, #[case] expected: FirmwareStatus) {
    let (mut machine, mut agent, _) = pair();
    let context = ask_export(&mut machine, &mut agent, 0, &export(GUEST, 1)).gctx;
    machine.create(TARGET).unwrap();
    let mut request = incoming(TARGET, swapped_out(context));
    edit(&mut request);
    assert_eq!(status(&mut machine, &mut agent, MessageType::IMPORT_REQ, 0, &request), expected);
    assert_eq!(machine.guest_status(TARGET).unwrap().state, GuestState::Init);
}

/// An agent, and a migration image at the target that was launched for a guest with the same image.
fn image() -> (Machine, Guest, IncomingContextReq) {
    let mut machine = Machine::genoa();
    let agent = agent(&mut machine);
    machine.launch(TARGET, 2, &LaunchStart { imi_en: true, ..bound() });
    let mut context = GuestContext::new_zeroed();
    context.imd = *machine.firmware.guest(TARGET).unwrap().launch_digest().as_bytes();
    context.ld = [0x1d; 48];
    context.vmpck = [[0xaa; 32], [0xab; 32], [0xac; 32], [0xad; 32]];
    context.policy = u64::from(POLICY).into();
    context.msg_count = [2.into(), 4.into(), 6.into(), 8.into()];
    let request = incoming(TARGET, context);
    (machine, agent, request)
}

#[test]
fn absorb_gives_an_image_the_identity_of_the_guest() {
    let (mut machine, mut agent, request) = image();
    let report_id = *machine.firmware.guest(TARGET).unwrap().report_id();
    assert_eq!(
        status(&mut machine, &mut agent, MessageType::ABSORB_REQ, 0, &request),
        FirmwareStatus::SUCCESS
    );
    let gctx = machine.firmware.guest(TARGET).unwrap();
    assert_eq!(gctx.status().state, GuestState::Running);
    assert_eq!(gctx.launch_digest().as_bytes(), &[0x1d; 48]);
    assert_eq!(gctx.report_id(), &report_id, "that of the launch stays");
    let mut guest = Guest { gctx: TARGET, secrets: FromZeros::new_zeroed(), count: [2, 4, 6, 8] };
    guest.secrets.vmpck = request.incoming_gctx.vmpck;
    let response = guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 3, &TscInfoReq::new_zeroed());
    assert_eq!(response.status(), FirmwareStatus::SUCCESS);
}

#[rstest]
#[case::reserved(|r: &mut IncomingContextReq| r.reserved_0x10[15] = 1, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(|r: &mut IncomingContextReq| r.gctx_paddr = 0x3000.into(), FirmwareStatus::INVALID_GUEST)]
#[case::runs(|r: &mut IncomingContextReq| r.gctx_paddr = AGENT.into(), FirmwareStatus::INVALID_GUEST_STATE)]
#[case::no_image(|r: &mut IncomingContextReq| r.gctx_paddr = GUEST.into(), FirmwareStatus::INVALID_GUEST_STATE)]
#[case::other_image(|r: &mut IncomingContextReq| r.incoming_gctx.imd[0] ^= 1, FirmwareStatus::BAD_MEASUREMENT)]
#[case::measurement_before_version(
    |r: &mut IncomingContextReq| { r.incoming_gctx.imd[0] ^= 1; r.in_gctx_version = 9.into(); },
    FirmwareStatus::BAD_MEASUREMENT
)]
#[case::version(|r: &mut IncomingContextReq| r.in_gctx_version = 9.into(), FirmwareStatus::INVALID_PARAM)]
#[case::size(|r: &mut IncomingContextReq| r.in_gctx_size = 0.into(), FirmwareStatus::INVALID_PARAM)]
fn absorb_refused(#[case] edit: Edit, #[case] expected: FirmwareStatus) {
    let (mut machine, mut agent, mut request) = image();
    machine.launch(GUEST, 1, &bound());
    edit(&mut request);
    assert_eq!(status(&mut machine, &mut agent, MessageType::ABSORB_REQ, 0, &request), expected);
    assert_eq!(machine.guest_status(TARGET).unwrap().state, GuestState::Launch);
}

/// A running guest all of whose pages belong to its migration image.
fn self_migrating() -> (Machine, Guest, IncomingContextReq) {
    use tsmsim_simulator::snp::{firmware::LaunchUpdate, launch::PageAttributes};
    let mut machine = Machine::genoa();
    machine.create(GUEST).unwrap();
    machine.start(GUEST, &GuestPolicy::DEFAULT.into()).unwrap();
    machine.activate(GUEST, 1).unwrap();
    let mut page = [0; 4096];
    let attributes = PageAttributes { imi_page: true, ..0x1000.into() };
    let update = LaunchUpdate { page: &mut page, page_type: PageType::SECRETS, attributes };
    machine.update(GUEST, update).unwrap();
    machine.finish(GUEST, &LaunchFinish::default()).unwrap();
    let secrets = zerocopy::FromBytes::read_from_bytes(&page).unwrap();
    let guest = Guest { gctx: GUEST, secrets, count: [0; 4] };
    let mut context = GuestContext::new_zeroed();
    context.imd = *machine.firmware.guest(GUEST).unwrap().launch_digest().as_bytes();
    context.vmpck = [[0xaa; 32]; 4];
    context.msg_count = [100.into(); 4];
    (machine, guest, incoming(0, context))
}

#[test]
fn absorb_without_agent_replaces_keys_and_counts() {
    let (mut machine, mut guest, request) = self_migrating();
    assert_eq!(
        status(&mut machine, &mut guest, MessageType::ABSORB_NOMA_REQ, 0, &request),
        FirmwareStatus::SUCCESS
    );
    assert_eq!(machine.firmware.guest(GUEST).unwrap().msg_count(), &[102, 100, 100, 100]);
    guest.secrets.vmpck = request.incoming_gctx.vmpck;
    guest.count = [102, 100, 100, 100];
    guest.ask(&mut machine, MessageType::TSC_INFO_REQ, 0, &TscInfoReq::new_zeroed());
}

#[rstest]
#[case::reserved_0(|r: &mut IncomingContextReq| r.gctx_paddr = GUEST.into(), FirmwareStatus::INVALID_PARAM)]
#[case::reserved_10(|r: &mut IncomingContextReq| r.reserved_0x10[0] = 1, FirmwareStatus::INVALID_PARAM)]
#[case::image(|r: &mut IncomingContextReq| r.incoming_gctx.imd[47] ^= 1, FirmwareStatus::BAD_MEASUREMENT)]
#[case::version(|r: &mut IncomingContextReq| r.in_gctx_version = 4.into(), FirmwareStatus::INVALID_PARAM)]
#[case::size(|r: &mut IncomingContextReq| r.in_gctx_size = 0x301.into(), FirmwareStatus::INVALID_PARAM)]
fn absorb_without_agent_refused(#[case] edit: Edit, #[case] expected: FirmwareStatus) {
    let (mut machine, mut guest, mut request) = self_migrating();
    edit(&mut request);
    assert_eq!(status(&mut machine, &mut guest, MessageType::ABSORB_NOMA_REQ, 0, &request), expected);
}

#[test]
fn absorb_without_agent_is_for_guests_without_agent_and_with_an_image() {
    let (mut machine, mut agent, mut guest) = pair();
    let request = incoming(0, GuestContext::new_zeroed());
    let refused = status(&mut machine, &mut guest, MessageType::ABSORB_NOMA_REQ, 0, &request);
    assert_eq!(refused, FirmwareStatus::INVALID_GUEST);
    let refused = status(&mut machine, &mut agent, MessageType::ABSORB_NOMA_REQ, 0, &request);
    assert_eq!(refused, FirmwareStatus::BAD_MEASUREMENT);
}

fn vmrk(gctx_paddr: u64, key: u8) -> VmrkReq {
    VmrkReq { gctx_paddr: gctx_paddr.into(), vmrk: [key; 32], ..VmrkReq::new_zeroed() }
}

#[test]
fn an_agent_sets_the_vmrk() {
    let derived = |key: u8| {
        let mut machine = Machine::genoa();
        let mut agent = agent(&mut machine);
        let mut guest = machine.launch(GUEST, 1, &bound());
        let set = status(&mut machine, &mut agent, MessageType::VMRK_REQ, 0, &vmrk(GUEST, key));
        assert_eq!(set, FirmwareStatus::SUCCESS);
        machine.finish(GUEST, &LaunchFinish::default()).unwrap();
        let request = KeyReq { select: 1.into(), ..KeyReq::new_zeroed() };
        guest.ask(&mut machine, MessageType::KEY_REQ, 0, &request).read::<KeyRsp>().derived_key
    };
    assert_eq!(derived(1), derived(1));
    assert_ne!(derived(1), derived(2));
}

#[rstest]
#[case::vmpl1(vmrk(GUEST, 1), 1, FirmwareStatus::INVALID_PARAM)]
#[case::reserved(VmrkReq { reserved_0x8: [1; 24], ..vmrk(GUEST, 1) }, 0, FirmwareStatus::INVALID_PARAM)]
#[case::unaligned(vmrk(GUEST + 8, 1), 0, FirmwareStatus::INVALID_PARAM)]
#[case::no_context(vmrk(0x3000, 1), 0, FirmwareStatus::INVALID_GUEST)]
#[case::runs(vmrk(AGENT, 1), 0, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::image(vmrk(TARGET, 1), 0, FirmwareStatus::INVALID_GUEST_STATE)]
#[case::of_a_stranger(vmrk(0xa000, 1), 0, FirmwareStatus::INVALID_GUEST)]
fn vmrk_refused(#[case] request: VmrkReq, #[case] vmpck: u8, #[case] expected: FirmwareStatus) {
    let (mut machine, mut agent, _) = image();
    machine.launch(GUEST, 1, &bound());
    machine.launch(0xa000, 3, &GuestPolicy::DEFAULT.into());
    assert_eq!(status(&mut machine, &mut agent, MessageType::VMRK_REQ, vmpck, &request), expected);
}
