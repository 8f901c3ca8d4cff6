//! Launching: the digest of a page, the firmware's command, a whole guest.

use aws_lc_rs::digest::{SHA384, digest};
use divan::{Bencher, black_box, counter::BytesCount};
use tsmsim_abi::snp::{
    PAGE_SIZE,
    launch::{PageType, VmplPermissions},
    policy::GuestPolicy,
    status::FirmwareStatus,
    tcb::ProductLine,
};
use tsmsim_benches::{guest, platform};
use tsmsim_keys::{Seed, SignatureMode};
use tsmsim_simulator::snp::{
    firmware::{Firmware, LaunchStart, LaunchUpdate},
    guest::World,
    launch::{LaunchDigest, LaunchPage, LaunchRmp},
};

const PAGE: [u8; PAGE_SIZE] = [0x90; PAGE_SIZE];
const GCTX: u64 = 0x1000;

fn main() {
    divan::main();
}

/// SHA-384 of 4 KiB.
#[divan::bench]
fn bare_hash(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(PAGE_SIZE)).bench(|| digest(&SHA384, black_box(&PAGE)));
}

/// A NORMAL page into the launch digest.
#[divan::bench]
fn digest_of_page(bencher: Bencher<'_, '_>) {
    let mut digest = LaunchDigest::default();
    bencher
        .counter(BytesCount::new(PAGE_SIZE))
        .bench_local(|| digest.extend(0x1000, LaunchPage::Normal(black_box(&PAGE))));
}

/// Takes every page.
struct AnyPage;

impl LaunchRmp for AnyPage {
    fn launch_convert(&mut self, _: u64, _: bool, _: [VmplPermissions; 3]) -> Result<(), FirmwareStatus> {
        Ok(())
    }
}

/// `SNP_LAUNCH_UPDATE` of a NORMAL page.
#[divan::bench]
fn launch_update(bencher: Bencher<'_, '_>) {
    let mut world = World::new(PAGE_SIZE, Seed::DEFAULT);
    let (mut env, _) = world.env();
    let mut firmware = Firmware::new(platform(ProductLine::Milan, SignatureMode::Randomized));
    let start = LaunchStart::from(GuestPolicy::DEFAULT);
    firmware.snp_gctx_create(&mut env, GCTX).expect("the context is new");
    firmware.snp_launch_start(&mut env, GCTX, &start).expect("the policy is fine");
    firmware.snp_activate(&mut env, GCTX, 1).expect("the ASID is free");
    let mut page = PAGE;
    bencher.counter(BytesCount::new(PAGE_SIZE)).bench_local(|| {
        let update = LaunchUpdate { page: &mut page, page_type: PageType::NORMAL, attributes: 0x1000.into() };
        firmware.snp_launch_update(&mut env, &mut AnyPage, GCTX, update)
    });
}

/// A guest of 13 pages: launched, its GHCB negotiated, its buffers shared.
#[divan::bench]
fn guest_launch(bencher: Bencher<'_, '_>) {
    let platform = platform(ProductLine::Milan, SignatureMode::Randomized);
    bencher.bench_local(|| guest(platform.clone()));
}
