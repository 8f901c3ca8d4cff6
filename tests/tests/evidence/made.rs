//! Guests and evidence made inside the test program, by the libraries.

use tsmsim_abi::snp::{
    PAGE_SIZE, cert_table::CertGuid, launch::PageType, payload::KeySel, policy::GuestPolicy, tcb::ProductLine,
};
use tsmsim_evidence::snp::Bundle;
use tsmsim_keys::{Seed, amd::CertificateKind};
use tsmsim_simulator::snp::{
    firmware::Firmware,
    guest::{IMAGE_GPA, InProcessGuest, World},
    host::{HostConfig, LaunchPlan, PageContents, PlannedPage, build_cert_table},
    platform::{Platform, PlatformConfig},
};
use zerocopy::IntoBytes as _;

use tsmsim_evidence::tdx;
use tsmsim_simulator::tdx::{
    guest::{IMAGE_GPA as TD_IMAGE_GPA, InProcessTdGuest, default_params},
    machine,
    platform::TdxPlatformConfig,
    vmcall,
};

const RAM: usize = 1 << 20;

/// What the evidence carries.
pub(crate) const REPORT_DATA: [u8; 64] = [0x42; 64];

/// The platform of a product line under the published seed.
pub(crate) fn platform(line: ProductLine, version: u32, vlek: bool) -> Platform {
    let config = PlatformConfig::new(line).with_report_version(version);
    let config = if vlek { config.with_vlek("tsmsim-tests") } else { config };
    config.build(&Seed::DEFAULT).unwrap()
}

/// The certificates above the platform's reports: leaf, ASK or ASVK, ARK, revocation list.
fn certificates(platform: &Platform) -> [(CertGuid, Vec<u8>); 4] {
    let hierarchy = platform.hierarchy();
    let (guid, leaf, kind) = match platform.vlek() {
        Some(vlek) => (CertGuid::VLEK, vlek, CertificateKind::Vlek),
        None => (CertGuid::VCEK, platform.vcek(), CertificateKind::Vcek),
    };
    [
        (guid, leaf.certificate().der().to_vec()),
        (CertGuid::ASK, hierarchy.issuer_of(kind).unwrap().der().to_vec()),
        (CertGuid::ARK, hierarchy.ark().unwrap().der().to_vec()),
        (CertGuid::CRL, hierarchy.crl().unwrap().der().to_vec()),
    ]
}

/// A guest of one page on that platform.
pub(crate) fn guest(platform: Platform) -> InProcessGuest {
    let certificates = build_cert_table(&certificates(&platform)).unwrap();
    let mut plan = LaunchPlan::from(GuestPolicy::DEFAULT);
    plan.pages.push(PlannedPage {
        page_type: PageType::NORMAL,
        attributes: IMAGE_GPA.into(),
        contents: PageContents::Given(Box::new([0x90; PAGE_SIZE])),
    });
    let ram = std::iter::once(0..RAM as u64).collect();
    let config = HostConfig { ram, certificates, ..HostConfig::default() };
    InProcessGuest::launch(Firmware::new(platform), config, plan, World::new(RAM, Seed::DEFAULT)).unwrap()
}

/// Evidence with everything that belongs to it. The certificate table is as short as it can be.
pub(crate) fn bundle(line: ProductLine, version: u32, vlek: bool) -> Bundle {
    let platform = platform(line, version, vlek);
    let certificates = certificates(&platform);
    let report = guest(platform).report(&REPORT_DATA, 0, KeySel::VlekElseVcek).unwrap();
    let table = build_cert_table(&certificates).unwrap();
    let [(_, leaf), (_, ask), (_, ark), (_, crl)] = certificates;
    let (vcek, vlek) = if vlek { (None, Some(leaf)) } else { (Some(leaf), None) };
    Bundle {
        report: report.as_bytes().to_vec(),
        ark: Some(ark),
        ask: Some(ask),
        vcek,
        vlek,
        crl: Some(crl),
        table: Some(table),
        inblob: Some(REPORT_DATA.to_vec()),
    }
}

/// The same of a TD of one page, under the published seed.
pub(crate) fn tdx_bundle(config: TdxPlatformConfig) -> tdx::Bundle {
    let platform = config.build(&Seed::DEFAULT).unwrap();
    let page = machine::PlannedPage {
        gpa: TD_IMAGE_GPA,
        contents: Some(Box::new([0x90; PAGE_SIZE])),
        measured: true,
    };
    let ram = std::iter::once(0..RAM as u64).collect();
    let plan = machine::LaunchPlan { params: default_params(), ram, vcpus: 1, pages: vec![page] };
    let world = World::new(RAM, Seed::DEFAULT);
    let mut guest =
        InProcessTdGuest::launch(platform.clone(), vmcall::HostConfig::default(), plan, world).unwrap();
    guest.extend_rtmr(2, &[0x17; 48]).unwrap();
    let hierarchy = platform.hierarchy();
    let (ca, tcb_info) = (platform.identity().ca(), platform.tcb_info_spec());
    let collateral = hierarchy.collateral(ca, &tcb_info, &platform.config().qe).unwrap();
    tdx::Bundle {
        quote: guest.quote(&REPORT_DATA).unwrap(),
        td_report: Some(guest.report(&REPORT_DATA).unwrap().as_bytes().to_vec()),
        root: Some(hierarchy.root().unwrap().der().to_vec()),
        collateral: Some(collateral.to_json().unwrap().into_bytes()),
        inblob: Some(REPORT_DATA.to_vec()),
        event_log: None,
    }
}
