//! Any guest messages to the firmware, by a guest and by its migration agent.
//!
//! One step: kind (1; bit 0: raw, bit 1: the agent's, bits 3:2 VMPCK), then raw: the request page (length and bytes); else
//! message type (1), version (1) and payload (length and bytes), which is sealed correctly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::{
    PAGE_SIZE,
    launch::{PageType, VmplPermissions},
    message::{MAX_PAYLOAD, MessageType},
    pages::SecretsPage,
    policy::GuestPolicy,
    status::FirmwareStatus,
};
use tsmsim_fuzz::{Input, STEPS, firmware, world};
use tsmsim_simulator::{
    env::Env,
    snp::{
        firmware::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate},
        guest::{open, seal},
        launch::LaunchRmp,
    },
};
use zerocopy::FromBytes;

/// Contexts: a guest, its migration agent, and one in the state INIT.
const GUEST: u64 = 0x1000;
const AGENT: u64 = 0x2000;
const CREATED: u64 = 0x3000;

struct AnyPage;

impl LaunchRmp for AnyPage {
    fn launch_convert(&mut self, _: u64, _: bool, _: [VmplPermissions; 3]) -> Result<(), FirmwareStatus> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (mut firmware, mut world) = (firmware(), world());
    let (mut env, _) = world.env();
    let agent_keys = launch(&mut firmware, &mut env, AGENT, 1, None);
    let guest_keys = launch(&mut firmware, &mut env, GUEST, 2, Some(AGENT));
    firmware.snp_gctx_create(&mut env, CREATED).expect("the context is new");
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let (gctx, keys) = if kind & 2 == 0 { (GUEST, &guest_keys) } else { (AGENT, &agent_keys) };
        if kind & 1 == 1 {
            let mut page = input.sized().to_vec();
            page.resize(PAGE_SIZE, 0);
            let page = page.first_chunk().expect("it is a page");
            let _ = firmware.snp_guest_request(&mut env, gctx, page);
            continue;
        }
        let vmpck = kind >> 2 & 3;
        let (key, message) = (&keys[usize::from(vmpck)], (MessageType(input.u8()), input.u8()));
        let payload = input.sized();
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let count = firmware.guest(gctx).map_or(0, |guest| guest.msg_count()[usize::from(vmpck)]);
        let request = seal(key, vmpck, count.wrapping_add(1), message, payload).expect("it fits");
        if let Ok(response) = firmware.snp_guest_request(&mut env, gctx, &request) {
            // The version of a response is always 1.
            assert!(message.1 != 1 || open(key, &request, &response).is_ok(), "a response opens");
        }
    }
});

/// Launches a guest of one page, the secrets page, and gives its VMPCKs.
fn launch(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    gctx: u64,
    asid: u32,
    agent: Option<u64>,
) -> [[u8; 32]; 4] {
    let policy = GuestPolicy::DEFAULT.with_migrate_ma(true);
    let start = LaunchStart { ma_gctx_paddr: agent, ..LaunchStart::from(policy) };
    let mut page = [0; PAGE_SIZE];
    let update = LaunchUpdate { page: &mut page, page_type: PageType::SECRETS, attributes: 0x1000.into() };
    firmware
        .snp_gctx_create(env, gctx)
        .and_then(|()| firmware.snp_launch_start(env, gctx, &start))
        .and_then(|()| firmware.snp_activate(env, gctx, asid))
        .and_then(|()| firmware.snp_launch_update(env, &mut AnyPage, gctx, update))
        .and_then(|()| firmware.snp_launch_finish(env, gctx, &LaunchFinish::default()))
        .expect("the guest launches");
    SecretsPage::read_from_bytes(&page).expect("it is a secrets page").vmpck
}
