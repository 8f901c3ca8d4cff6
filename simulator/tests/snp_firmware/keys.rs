//! `MSG_KEY_REQ`: what is refused, and what a derived key depends on.

use rstest::rstest;
use tsmsim_abi::snp::{
    launch::{IdAuth, IdBlock},
    message::MessageType,
    payload::{KeyReqV2, KeyRsp},
    policy::GuestPolicy,
    status::FirmwareStatus,
    tcb::{ProductLine, TcbParts, TcbVersion},
};
use tsmsim_simulator::snp::{
    firmware::{LaunchFinish, LaunchStart},
    platform::{PlatformConfig, SnpConfig},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::support::{ASID, GUEST, Guest, Machine};

const VMRK: u32 = 1;
const VCEK: u32 = 1 << 1;
const VLEK: u32 = 2 << 1;
const RESERVED_KEY: u32 = 3 << 1;

const POLICY_FIELD: u64 = 1 << 0;
const SVN_FIELD: u64 = 1 << 4;
const TCB_FIELD: u64 = 1 << 5;
const MIT_FIELD: u64 = 1 << 6;

fn turin() -> PlatformConfig {
    PlatformConfig::new(ProductLine::Turin).with_current_mit_vector(0b1011)
}

fn request(select: u32, fields: u64) -> KeyReqV2 {
    let mut request = KeyReqV2::new_zeroed();
    request.v1.select = select.into();
    request.v1.guest_field_select = fields.into();
    request
}

fn derive(machine: &mut Machine, guest: &mut Guest, vmpck: u8, version: u8, request: &KeyReqV2) -> KeyRsp {
    let payload = if version == 1 { request.v1.as_bytes() } else { request.as_bytes() };
    let mut message = guest.message(MessageType::KEY_REQ, vmpck, payload);
    message.header.msg_version = version;
    guest.send(machine, &message).unwrap().read()
}

/// The status, and a key exactly when it is a success.
fn status(response: &KeyRsp) -> FirmwareStatus {
    let status = FirmwareStatus(response.status.get());
    assert_eq!(response.derived_key != [0; 32], status == FirmwareStatus::SUCCESS);
    status
}

fn key(machine: &mut Machine, guest: &mut Guest, request: &KeyReqV2) -> [u8; 32] {
    let response = derive(machine, guest, 0, 2, request);
    assert_eq!(status(&response), FirmwareStatus::SUCCESS);
    response.derived_key
}

type Edit = fn(&mut KeyReqV2);

/// What is asked, from which VMPL, in which version.
#[rstest]
#[case::plain(request(0, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::SUCCESS)]
#[case::select_reserved(request(8, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_PARAM)]
#[case::reserved_word(request(0, 0), 0, 1, |r: &mut KeyReqV2| r.v1.reserved_0x4 = 1.into(), FirmwareStatus::INVALID_PARAM)]
#[case::reserved_tail(request(0, 0), 0, 2, |r: &mut KeyReqV2| r.reserved_0x28 = 1.into(), FirmwareStatus::INVALID_PARAM)]
#[case::reserved_key(request(RESERVED_KEY, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_KEY)]
#[case::no_vlek(request(VLEK, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_KEY)]
#[case::vmrk_with_any_key_select(request(VMRK | RESERVED_KEY, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::SUCCESS)]
#[case::more_privileged_vmpl(request(0, 0), 2, 1, |r: &mut KeyReqV2| r.v1.vmpl = 1.into(), FirmwareStatus::INVALID_PARAM)]
#[case::own_vmpl(request(0, 0), 2, 1, |r: &mut KeyReqV2| r.v1.vmpl = 2.into(), FirmwareStatus::SUCCESS)]
#[case::less_privileged_vmpl(request(0, 0), 2, 1, |r: &mut KeyReqV2| r.v1.vmpl = 3.into(), FirmwareStatus::SUCCESS)]
#[case::field_reserved(request(0, 1 << 7), 0, 2, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_PARAM)]
#[case::field_reserved_high(request(0, 1 << 63), 0, 2, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_PARAM)]
#[case::mit_field_in_version_1(request(0, MIT_FIELD), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_PARAM)]
#[case::mit_field(request(0, MIT_FIELD), 0, 2, |r: &mut KeyReqV2| r.launch_mit_vector = 0b1010.into(), FirmwareStatus::SUCCESS)]
#[case::mit_above(request(0, MIT_FIELD), 0, 2, |r: &mut KeyReqV2| r.launch_mit_vector = 0b0100.into(), FirmwareStatus::INVALID_PARAM)]
#[case::mit_unselected(request(0, 0), 0, 2, |r: &mut KeyReqV2| r.launch_mit_vector = 0b0100.into(), FirmwareStatus::SUCCESS)]
#[case::svn(request(0, SVN_FIELD), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::SUCCESS)]
#[case::svn_above(request(0, SVN_FIELD), 0, 1, |r: &mut KeyReqV2| r.v1.guest_svn = 1.into(), FirmwareStatus::INVALID_PARAM)]
#[case::svn_unselected(request(0, 0), 0, 1, |r: &mut KeyReqV2| r.v1.guest_svn = 1.into(), FirmwareStatus::SUCCESS)]
#[case::tcb(request(0, TCB_FIELD), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::SUCCESS)]
#[case::tcb_above(
    request(0, TCB_FIELD), 0, 1, |r: &mut KeyReqV2| r.v1.tcb_version = TcbVersion::new(0x02), FirmwareStatus::INVALID_PARAM
)]
#[case::tcb_reserved(
    request(0, TCB_FIELD), 0, 1, |r: &mut KeyReqV2| r.v1.tcb_version = TcbVersion::new(1 << 32), FirmwareStatus::INVALID_PARAM
)]
#[case::key_before_vmpl(request(VLEK, 0), 2, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_KEY)]
#[case::reserved_before_key(request(VLEK | 8, 0), 0, 1, |_: &mut KeyReqV2| {}, FirmwareStatus::INVALID_PARAM)]
fn checks(
    #[case] mut message: KeyReqV2,
    #[case] vmpck: u8,
    #[case] version: u8,
    #[case] edit: Edit,
    #[case] expected: FirmwareStatus,
) {
    let mut machine = Machine::new(&turin());
    let mut guest = machine.running();
    edit(&mut message);
    assert_eq!(status(&derive(&mut machine, &mut guest, vmpck, version, &message)), expected);
}

#[rstest]
#[case::masked(0, false, true, false, FirmwareStatus::INVALID_KEY)]
#[case::masked_despite_vlek(VLEK, true, true, false, FirmwareStatus::INVALID_KEY)]
#[case::masked_vmrk(VMRK, false, true, false, FirmwareStatus::SUCCESS)]
#[case::vcek_disabled(VCEK, true, false, true, FirmwareStatus::INVALID_KEY)]
#[case::either_disabled(0, false, false, true, FirmwareStatus::INVALID_KEY)]
#[case::either_with_vlek(0, true, false, true, FirmwareStatus::SUCCESS)]
#[case::vlek(VLEK, true, false, false, FirmwareStatus::SUCCESS)]
fn root_keys(
    #[case] select: u32,
    #[case] vlek: bool,
    #[case] mask_chip_key: bool,
    #[case] vcek_dis: bool,
    #[case] expected: FirmwareStatus,
) {
    let config = turin().with_mask_chip_key(mask_chip_key);
    let mut machine = Machine::new(&if vlek { config.with_vlek("example") } else { config });
    let mut guest = machine.launch(GUEST, ASID, &GuestPolicy::DEFAULT.into());
    machine.finish(GUEST, &LaunchFinish { vcek_dis, ..LaunchFinish::default() }).unwrap();
    assert_eq!(status(&derive(&mut machine, &mut guest, 0, 1, &request(select, 0))), expected);
}

#[rstest]
#[case(ProductLine::Milan, false)]
#[case(ProductLine::Genoa, false)]
#[case(ProductLine::Turin, true)]
fn version_2_came_with_report_version_5(#[case] line: ProductLine, #[case] known: bool) {
    let mut machine = Machine::new(&PlatformConfig::new(line));
    let mut guest = machine.running();
    let mut message = guest.message(MessageType::KEY_REQ, 0, request(0, 0).as_bytes());
    message.header.msg_version = 2;
    let result = guest.send(&mut machine, &message);
    assert_eq!(result.err(), (!known).then_some(FirmwareStatus::INVALID_PARAM));
    let mut message = guest.message(MessageType::KEY_REQ, 0, request(0, 0).v1.as_bytes());
    message.header.msg_version = 2;
    assert_eq!(guest.send(&mut machine, &message).err(), Some(FirmwareStatus::INVALID_PARAM), "too small");
}

#[test]
fn keys_repeat_and_version_2_without_vector_is_version_1() {
    let mut machine = Machine::new(&turin());
    let mut guest = machine.running();
    let all = request(0, 0x3f);
    let one = derive(&mut machine, &mut guest, 0, 1, &all);
    assert_eq!(key(&mut machine, &mut guest, &all), one.derived_key);
    assert_eq!(key(&mut machine, &mut guest, &all), one.derived_key);
}

/// Changing an input of the request changes the key exactly if it is selected (the VMPL always is).
#[rstest]
#[case::vmpl(0, |r: &mut KeyReqV2| r.v1.vmpl = 1.into(), true)]
#[case::vmrk(0, |r: &mut KeyReqV2| r.v1.select = VMRK.into(), true)]
#[case::same_root_by_name(0, |r: &mut KeyReqV2| r.v1.select = VCEK.into(), false)]
#[case::field_select_itself(0, |r: &mut KeyReqV2| r.v1.guest_field_select = SVN_FIELD.into(), true)]
#[case::tcb_unselected(0, |r: &mut KeyReqV2| r.v1.tcb_version = TcbVersion::new(1), false)]
#[case::tcb_selected(TCB_FIELD, |r: &mut KeyReqV2| r.v1.tcb_version = TcbVersion::new(1), true)]
#[case::tcb_selected_vmrk(TCB_FIELD, |r: &mut KeyReqV2| { r.v1.tcb_version = TcbVersion::new(1); }, true)]
#[case::mit_unselected(0, |r: &mut KeyReqV2| r.launch_mit_vector = 1.into(), false)]
#[case::mit_selected(MIT_FIELD, |r: &mut KeyReqV2| r.launch_mit_vector = 1.into(), true)]
#[case::svn_unselected(0, |r: &mut KeyReqV2| r.v1.guest_svn = 1.into(), false)]
fn request_inputs(#[case] fields: u64, #[case] edit: Edit, #[case] changes: bool) {
    let mut machine = Machine::new(&turin());
    let mut guest = machine.running();
    let plain = request(0, fields);
    let mut edited = plain;
    edit(&mut edited);
    let keys = [key(&mut machine, &mut guest, &plain), key(&mut machine, &mut guest, &edited)];
    assert_eq!(keys[0] != keys[1], changes);
}

/// What a guest was launched with.
#[derive(Clone)]
struct Launch {
    config: PlatformConfig,
    policy: GuestPolicy,
    finish_host_data: [u8; 32],
    extra_page: bool,
    identity: Option<Identity>,
}

#[derive(Clone, Copy)]
struct Identity {
    family_id: u8,
    image_id: u8,
    guest_svn: u32,
    key: u8,
    author: bool,
}

const IDENTITY: Identity = Identity { family_id: 1, image_id: 1, guest_svn: 5, key: 1, author: false };

impl Launch {
    fn new() -> Self {
        let config = turin();
        Self {
            config,
            policy: GuestPolicy::DEFAULT,
            finish_host_data: [0; 32],
            extra_page: false,
            identity: None,
        }
    }

    fn key(&self, message: &KeyReqV2) -> [u8; 32] {
        use tsmsim_abi::snp::launch::PageType;
        let mut machine = Machine::new(&self.config);
        let start: LaunchStart = self.policy.into();
        let mut guest = machine.launch(GUEST, ASID, &start);
        if self.extra_page {
            machine.update_page(GUEST, PageType::ZERO, 0, &mut [0; 4096]).unwrap();
        }
        let host_data = self.finish_host_data;
        let identity = self.identity.map(|identity| identity.sign(&machine, self.policy));
        machine
            .finish(
                GUEST,
                &LaunchFinish {
                    host_data,
                    id_block: identity.as_ref().map(|(block, auth)| (block, &**auth)),
                    auth_key_en: self.identity.is_some_and(|identity| identity.author),
                    ..LaunchFinish::default()
                },
            )
            .unwrap();
        key(&mut machine, &mut guest, message)
    }
}

impl Identity {
    fn sign(self, machine: &Machine, policy: GuestPolicy) -> (IdBlock, Box<IdAuth>) {
        use crate::commands::{public_key, sign, signing_key};
        let block = IdBlock {
            ld: *machine.firmware.guest(GUEST).unwrap().launch_digest().as_bytes(),
            family_id: [self.family_id; 16],
            image_id: [self.image_id; 16],
            version: 1.into(),
            guest_svn: self.guest_svn.into(),
            policy: u64::from(policy).into(),
        };
        let (id, author) = (signing_key(self.key), signing_key(9));
        let mut auth = Box::new(IdAuth::new_zeroed());
        auth.id_key_algo = 1.into();
        auth.auth_key_algo = 1.into();
        auth.id_block_sig = sign(&id, block.as_bytes());
        auth.id_key = public_key(&id);
        auth.id_key_sig = sign(&author, auth.id_key.as_bytes());
        auth.author_key = public_key(&author);
        (block, auth)
    }
}

fn with_identity(identity: Identity) -> impl Fn(&mut Launch) {
    move |launch| launch.identity = Some(identity)
}

/// One thing about the launch is changed; the bit of the field that selects it, or none if it always counts or never.
#[rstest]
#[case::policy(Some(0), false, |l: &mut Launch| l.policy = l.policy.with_debug(true))]
#[case::image_id(Some(1), false, with_identity(Identity { image_id: 2, ..IDENTITY }))]
#[case::family_id(Some(2), false, with_identity(Identity { family_id: 2, ..IDENTITY }))]
#[case::measurement(Some(3), false, |l: &mut Launch| l.extra_page = true)]
#[case::host_data(None, true, |l: &mut Launch| l.finish_host_data = [1; 32])]
#[case::id_key(None, true, with_identity(Identity { key: 2, ..IDENTITY }))]
#[case::author_key(None, true, with_identity(Identity { author: true, ..IDENTITY }))]
#[case::id_block_svn_is_only_a_bound(None, false, with_identity(Identity { guest_svn: 6, ..IDENTITY }))]
#[case::chip(None, true, |l: &mut Launch| l.config = turin().with_chip_id({ let mut id = [0; 64]; id[0] = 1; id }))]
#[case::reported_tcb(None, true, |l: &mut Launch| {
    let lower = TcbParts { fmc: Some(1), boot_loader: 1, tee: 1, snp: 3, microcode: 75 };
    l.config = turin().with_reported_tcb(lower);
})]
fn launch_inputs(#[case] field: Option<u32>, #[case] always: bool, #[case] edit: impl Fn(&mut Launch)) {
    let plain = Launch { identity: Some(IDENTITY), ..Launch::new() };
    let mut edited = plain.clone();
    edit(&mut edited);
    for fields in [0, POLICY_FIELD, 1 << 1, 1 << 2, 1 << 3] {
        let selected = field.is_some_and(|bit| fields == 1 << bit);
        let message = request(0, fields);
        assert_eq!(plain.key(&message) != edited.key(&message), always || selected, "fields {fields:#x}");
    }
}

/// An author key stands in for the ID key that it certified, so the ID key can be replaced.
#[test]
fn an_author_key_outlives_id_keys() {
    let with = |key| Launch { identity: Some(Identity { key, author: true, ..IDENTITY }), ..Launch::new() };
    assert_eq!(with(1).key(&request(0, 0)), with(2).key(&request(0, 0)));
}

#[test]
fn a_vlek_is_the_providers_and_not_the_chips() {
    let chip = |n: u8, csp: &str| {
        let mut id = [0; 64];
        id[0] = n;
        Launch { config: turin().with_chip_id(id).with_vlek(csp), ..Launch::new() }
    };
    let message = request(VLEK, 0);
    assert_eq!(chip(1, "a").key(&message), chip(2, "a").key(&message));
    assert_ne!(chip(1, "a").key(&message), chip(1, "b").key(&message));
    assert_ne!(chip(1, "a").key(&message), chip(1, "a").key(&request(VCEK, 0)));
    assert_ne!(chip(1, "a").key(&request(VCEK, 0)), chip(2, "a").key(&request(VCEK, 0)));
}

/// A lower TCB version can still be had after an update, which is what the field is for.
#[test]
fn a_selected_tcb_outlives_the_reported_one() {
    let lower = TcbParts { fmc: Some(1), boot_loader: 1, tee: 1, snp: 3, microcode: 70 };
    let lower = lower.pack(ProductLine::Turin.tcb_layout());
    let mut machine = Machine::new(&turin());
    let mut guest = machine.running();
    let mut message = request(0, TCB_FIELD);
    message.v1.tcb_version = lower;
    let before = key(&mut machine, &mut guest, &message);
    machine.configure(SnpConfig { reported_tcb: lower, ..SnpConfig::default() }).unwrap();
    assert_eq!(key(&mut machine, &mut guest, &message), before);
}

#[test]
fn svn_is_mixed_in_up_to_the_id_blocks() {
    let launch = Launch { identity: Some(IDENTITY), ..Launch::new() };
    let with = |svn: u32| {
        let mut message = request(0, SVN_FIELD);
        message.v1.guest_svn = svn.into();
        launch.key(&message)
    };
    assert_ne!(with(4), with(5));
}
