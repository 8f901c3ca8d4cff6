use rstest::rstest;
use tsmsim_abi::snp::{
    ghcb::{ExitCode, GhcbField},
    pages::{CpuidPage, SecretsPage},
    report::Signature,
    rmp::RmpReturn,
};
use tsmsim_keys::Seed;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    fault::{FaultAction, FaultHook, FaultPoint},
    snp::{
        guest::World,
        host::{Action, WalkedPage, testing::*},
    },
};

const GPA: u64 = 0x4000;

fn world() -> World {
    World::new(usize::try_from(RAM).unwrap(), Seed::DEFAULT)
}

fn plan(pages: Vec<PlannedPage>) -> LaunchPlan {
    LaunchPlan { pages, ..GuestPolicy::DEFAULT.into() }
}

fn launch(plan: &LaunchPlan, world: &mut World) -> Result<Hypervisor, LaunchError> {
    Hypervisor::launch(firmware(), config(), plan, &mut world.env().0)
}

fn page(world: &World, gpa: u64) -> Page {
    let mut page = [0; 4096];
    world.memory.read(gpa, &mut page).unwrap();
    page
}

#[test]
fn pages_become_the_guests() {
    let mut world = world();
    world.memory.write(GPA, &[5; 4096]).unwrap();
    let types = [PageType::NORMAL, PageType::ZERO, PageType::SECRETS, PageType::UNMEASURED];
    let gpas: Vec<u64> = (0..4).map(|n| GPA + n * PAGE).collect();
    let pages = types.iter().zip(&gpas).map(|(page_type, gpa)| PlannedPage::memory(*page_type, *gpa));
    let hypervisor = launch(&plan(pages.collect()), &mut world).unwrap();
    for gpa in gpas {
        assert_eq!(hypervisor.rmp().state(gpa >> 12), Some(PageState::GuestValid));
    }
    assert_eq!(page(&world, GPA), [5; 4096]);
    let vmpck0 = core::mem::offset_of!(SecretsPage, vmpck);
    assert_ne!(page(&world, GPA + 2 * PAGE)[vmpck0..vmpck0 + 32], [0; 32]);
    assert!(hypervisor.rmp().is_shared((GPA >> 12) + 4));
}

/// 2 MiB that were launched page by page are one entry on a host with huge pages only.
#[rstest]
#[case::small_pages(false, RmpReturn::FAIL_SIZEMISMATCH)]
#[case::huge_pages(true, RmpReturn::SUCCESS)]
fn huge_pages_are_joined(#[case] huge_pages: bool, #[case] result: RmpReturn) {
    let mut world = World::new(4 << 20, Seed::DEFAULT);
    let config = HostConfig { ram: std::iter::once(0..4 << 20).collect(), huge_pages, ..config() };
    let pages = (0..FRAMES_2M).map(|frame| PlannedPage::memory(PageType::ZERO, BYTES_2M + frame * PAGE));
    let mut hypervisor =
        Hypervisor::launch(firmware(), config, &plan(pages.collect()), &mut world.env().0).unwrap();
    let walked = WalkedPage { gpa: BYTES_2M, c_bit: true, size: PageSize::Size2M };
    let outcome = hypervisor.pvalidate(walked, 1, 0, &mut world.env().0);
    assert_eq!((outcome.result, outcome.carry), (result, false));
}

#[test]
fn a_cpuid_page_is_launched_as_the_firmware_corrects_it() {
    let mut world = world();
    let mut cpuid = CpuidPage::new_zeroed();
    cpuid.count.set(1);
    cpuid.functions[0].eax_in.set(1);
    cpuid.functions[0].eax.set(0x0123_4567);
    let contents = PageContents::Given(Box::new(zerocopy::transmute!(cpuid)));
    let planned = PlannedPage { page_type: PageType::CPUID, attributes: GPA.into(), contents };
    launch(&plan(vec![planned]), &mut world).unwrap();
    let launched = page(&world, GPA);
    assert_ne!(launched, *cpuid.as_bytes(), "another family, model and stepping");
    assert_eq!(launched[..0x10], cpuid.as_bytes()[..0x10]);
}

#[test]
fn a_vmsa_in_memory_is_in_use() {
    let mut world = world();
    let vmsa = SHARED + PAGE;
    let pages = vec![PlannedPage::memory(PageType::VMSA, vmsa), PlannedPage::vmsa(Box::new([0; 4096]))];
    let hypervisor = launch(&plan(pages), &mut world).unwrap();
    assert!(hypervisor.rmp().entry(vmsa >> 12).unwrap().vmsa());
    let mut machine = Machine::of(hypervisor, world);
    let create = u64::from(APIC_IDS[1]) << 32 | 1;
    let (_, action) = machine.exit(ExitCode::AP_CREATION, create, vmsa, |ghcb| set(ghcb, GhcbField::RAX, 1));
    assert_eq!(action, Action::Resume, "it is the first vCPU's");
}

struct Once(Option<(FaultPoint, u64)>);

impl FaultHook for Once {
    fn consult(&mut self, point: FaultPoint) -> Option<FaultAction> {
        let (_, status) = self.0.take_if(|(at, _)| *at == point)?;
        Some(FaultAction::Status(status))
    }
}

#[rstest]
#[case(FaultPoint::SNP_LAUNCH_START, "SNP_LAUNCH_START")]
#[case(FaultPoint::SNP_LAUNCH_FINISH, "SNP_LAUNCH_FINISH")]
fn a_command_that_fails_is_named(#[case] point: FaultPoint, #[case] command: &'static str) {
    let mut world = world();
    world.faults = Box::new(Once(Some((point, 0x17))));
    let status = FirmwareStatus::RESOURCE_LIMIT;
    assert_eq!(launch(&plan(vec![]), &mut world).map(drop), Err(LaunchError::Command { command, status }));
}

#[test]
fn a_page_that_fails_is_named() {
    let mut world = world();
    world.faults = Box::new(Once(Some((FaultPoint::SNP_LAUNCH_UPDATE, 0x17))));
    let page_type = PageType::ZERO;
    let error = launch(&plan(vec![PlannedPage::memory(page_type, GPA)]), &mut world).map(drop).unwrap_err();
    assert_eq!(error, LaunchError::Page { gpa: GPA, page_type, status: FirmwareStatus::RESOURCE_LIMIT });
    assert_eq!(
        error.to_string(),
        "SNP_LAUNCH_UPDATE of the ZERO (0x3) page at 0x4000 failed: RESOURCE_LIMIT (0x17)"
    );
}

#[test]
fn an_id_block_is_judged() {
    let auth = IdAuth { id_block_sig: Signature::ZERO, ..IdAuth::new_zeroed() };
    let id = IdAuthentication { block: IdBlock::new_zeroed(), auth: Box::new(auth), author_key: false };
    let plan = LaunchPlan { id: Some(id), ..plan(vec![PlannedPage::memory(PageType::NORMAL, GPA)]) };
    let status = FirmwareStatus::BAD_MEASUREMENT;
    let error = LaunchError::Command { command: "SNP_LAUNCH_FINISH", status };
    assert_eq!(launch(&plan, &mut world()).map(drop), Err(error));
}
