//! Any sequence of the firmware's commands. One step: command (1), context (1), operands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tsmsim_abi::snp::{
    PAGE_SIZE,
    launch::{IdAuth, IdBlock, PageType, VmplPermissions},
    policy::GuestPolicy,
    status::FirmwareStatus,
};
use tsmsim_fuzz::{Input, STEPS, firmware, world};
use tsmsim_simulator::{
    env::Env,
    snp::{
        firmware::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate},
        launch::{LaunchRmp, PageAttributes},
        platform::SnpConfig,
    },
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Pages of odd frames may not be launched.
struct EvenPages;

impl LaunchRmp for EvenPages {
    fn launch_check(&self, gfn: u64) -> Result<(), FirmwareStatus> {
        if gfn & 1 == 0 { Ok(()) } else { Err(FirmwareStatus::INVALID_PAGE_STATE) }
    }

    fn launch_convert(&mut self, gfn: u64, _: bool, _: [VmplPermissions; 3]) -> Result<(), FirmwareStatus> {
        self.launch_check(gfn)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (mut firmware, mut world) = (firmware(), world());
    let (mut env, _) = world.env();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let (command, which) = (input.u8(), input.u8());
        // Four contexts; bit 7 makes an address that is not aligned.
        let gctx = u64::from(which & 3) << 12 | u64::from(which >> 7);
        let _ = step(&mut firmware, &mut env, &mut input, command, gctx);
    }
});

fn step(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    input: &mut Input<'_>,
    command: u8,
    gctx: u64,
) -> Result<(), FirmwareStatus> {
    match command & 15 {
        0 => firmware.snp_gctx_create(env, gctx),
        1 => {
            let flags = input.u8();
            let policy = if flags & 1 == 0 { GuestPolicy::DEFAULT } else { input.u64().into() };
            let start = LaunchStart {
                policy,
                ma_gctx_paddr: (flags & 2 != 0).then(|| u64::from(flags >> 4) << 12),
                imi_en: flags & 4 != 0,
                desired_tsc_freq: input.u32(),
                gosvw: input.array(),
            };
            firmware.snp_launch_start(env, gctx, &start)
        }
        2 => firmware.snp_activate(env, gctx, input.u32()),
        3 => update(firmware, env, input, gctx),
        4 => finish(firmware, env, input, gctx),
        5 => firmware.snp_guest_status(env, gctx).map(drop),
        6 => {
            let mut page = [0; PAGE_SIZE];
            let bytes = input.sized();
            let count = bytes.len().min(PAGE_SIZE);
            page[..count].copy_from_slice(&bytes[..count]);
            firmware.snp_guest_request(env, gctx, &page).map(drop)
        }
        7 => firmware.snp_decommission(env, gctx),
        // The reported TCB stays: another one takes an RSA signature.
        8 => {
            let flags = input.u8();
            let reported_tcb = firmware.platform().reported_tcb();
            let (mask_chip_id, mask_chip_key) = (flags & 1 != 0, flags & 2 != 0);
            firmware.snp_config(env, SnpConfig { reported_tcb, mask_chip_id, mask_chip_key })
        }
        _ => Ok(()),
    }
}

fn update(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    input: &mut Input<'_>,
    gctx: u64,
) -> Result<(), FirmwareStatus> {
    let (page_type, flags) = (PageType(input.u8()), input.u8());
    let attributes = PageAttributes {
        gpa: input.u64(),
        vmpl_perms: input.array::<3>().map(VmplPermissions::from),
        imi_page: flags & 1 != 0,
    };
    let mut page = [0; PAGE_SIZE];
    let bytes = input.sized();
    let count = bytes.len().min(PAGE_SIZE);
    page[..count].copy_from_slice(&bytes[..count]);
    firmware.snp_launch_update(
        env,
        &mut EvenPages,
        gctx,
        LaunchUpdate { page: &mut page, page_type, attributes },
    )
}

/// Bit 4 of the flags makes an ID block that fits the guest but for its signature.
fn finish(
    firmware: &mut Firmware,
    env: &mut Env<'_>,
    input: &mut Input<'_>,
    gctx: u64,
) -> Result<(), FirmwareStatus> {
    let flags = input.u8();
    let mut block = IdBlock::read_from_bytes(&input.array::<{ size_of::<IdBlock>() }>()[..])
        .unwrap_or_else(|_| IdBlock::new_zeroed());
    let mut auth = Box::new(IdAuth::new_zeroed());
    let bytes = input.sized();
    let count = bytes.len().min(size_of::<IdAuth>());
    auth.as_mut_bytes()[..count].copy_from_slice(&bytes[..count]);
    if let (true, Some(guest)) = (flags & 16 != 0, firmware.guest(gctx)) {
        block.ld = *guest.launch_digest().as_bytes();
        block.policy.set(guest.status().policy.into());
        auth.id_key_algo.set(1);
        auth.auth_key_algo.set(1);
    }
    let finish = LaunchFinish {
        id_block: (flags & 1 != 0).then_some((&block, &*auth)),
        auth_key_en: flags & 2 != 0,
        vcek_dis: flags & 4 != 0,
        host_data: input.array(),
    };
    firmware.snp_launch_finish(env, gctx, &finish)
}
