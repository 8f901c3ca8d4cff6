//! `MSG_REPORT_REQ`: what is refused, what stands in a report, and whether the `sev` crate accepts it.

use rstest::rstest;
use sev::{
    certs::snp::{Chain, Verifiable},
    firmware::guest::AttestationReport as SevReport,
    parser::ByteParser,
};
use tsmsim_abi::snp::{
    message::MessageType,
    payload::{ReportReq, ReportRsp},
    policy::{GuestPolicy, PlatformInfo, SigningKey},
    report::{AttestationReport, FirmwareVersion, Signature},
    status::FirmwareStatus,
    tcb::{ProductLine, TcbParts},
};
use tsmsim_keys::{SignatureMode, amd::EndorsementKey};
use tsmsim_simulator::snp::{
    firmware::LaunchFinish,
    platform::{Platform, PlatformConfig},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::support::{ASID, GUEST, Machine};

const VCEK: u32 = 1;
const VLEK: u32 = 2;
const RESERVED_KEY: u32 = 3;

fn request(vmpl: u32, flags: u32) -> ReportReq {
    let report_data = std::array::from_fn(|i| i.to_le_bytes()[0]);
    ReportReq { report_data, vmpl: vmpl.into(), flags: flags.into(), ..ReportReq::new_zeroed() }
}

fn ask(machine: &mut Machine, vcek_dis: bool, vmpck: u8, request: &ReportReq) -> ReportRsp {
    let mut guest = machine.launch(GUEST, ASID, &GuestPolicy::DEFAULT.into());
    let host_data = [0x40; 32];
    machine.finish(GUEST, &LaunchFinish { vcek_dis, host_data, ..LaunchFinish::default() }).unwrap();
    guest.ask(machine, MessageType::REPORT_REQ, vmpck, request).read()
}

fn config(line: ProductLine, vlek: bool) -> PlatformConfig {
    let config = PlatformConfig::new(line);
    if vlek { config.with_vlek("example") } else { config }
}

fn der(platform: &Platform, key: &EndorsementKey) -> [Vec<u8>; 3] {
    let hierarchy = platform.hierarchy();
    let issuer = hierarchy.issuer_of(key.kind()).unwrap();
    [hierarchy.ark().unwrap().der(), issuer.der(), key.certificate().der()].map(<[u8]>::to_vec)
}

fn sev_accepts([ark, issuer, key]: &[Vec<u8>; 3], report: &[u8]) -> bool {
    let Ok(report) = SevReport::from_bytes(report) else { return false };
    let chain = Chain::from_der(ark, issuer, key).unwrap();
    (&chain, &report).verify().is_ok()
}

/// Lines, report versions, both keys, both ways to sign; and every flipped bit is refused (in strides).
#[rstest]
fn the_sev_crate_verifies(
    #[values(ProductLine::Milan, ProductLine::Genoa, ProductLine::Turin)] line: ProductLine,
    #[values(2, 3, 5)] version: u32,
    #[values(false, true)] vlek: bool,
    #[values(SignatureMode::Randomized, SignatureMode::Deterministic)] mode: SignatureMode,
) {
    let config = config(line, vlek).with_report_version(version).with_signature_mode(mode);
    let mut machine = Machine::new(&config);
    let response = ask(&mut machine, false, 0, &request(0, 0));
    assert_eq!((response.status.get(), response.report_size.get()), (0, 0x4a0));
    let platform = machine.firmware.platform();
    let key = if vlek { platform.vlek().unwrap() } else { platform.vcek() };
    let chain = der(platform, key);
    let report = response.report;
    assert!(sev_accepts(&chain, report.as_bytes()));
    for bit in (0..0x2a0 * 8).step_by(701).chain((0x2a0 * 8..0x2d0 * 8).step_by(97)) {
        let mut flipped = report;
        flipped.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        assert!(!sev_accepts(&chain, flipped.as_bytes()), "bit {bit}");
    }
    let other = if vlek { Some(platform.vcek()) } else { platform.vlek() };
    assert!(!other.is_some_and(|key| sev_accepts(&der(platform, key), report.as_bytes())));
}

#[rstest]
#[case::deterministic(SignatureMode::Deterministic, true)]
#[case::randomized(SignatureMode::Randomized, false)]
fn signatures(#[case] mode: SignatureMode, #[case] same: bool) {
    let report = || {
        let mut machine = Machine::new(&config(ProductLine::Milan, false).with_signature_mode(mode));
        ask(&mut machine, false, 0, &request(0, 0)).report
    };
    let (one, two) = (report(), report());
    assert_eq!(one.signature == two.signature, same);
    assert_eq!(one.as_bytes()[..0x2a0], two.as_bytes()[..0x2a0]);
}

/// Every field, on a platform where all that can differ does.
#[test]
fn fields() {
    let tcb = |snp| TcbParts { fmc: Some(2), boot_loader: 3, tee: 4, snp, microcode: 9 };
    let layout = ProductLine::Turin.tcb_layout();
    let config = config(ProductLine::Turin, false)
        .with_current_tcb(tcb(9))
        .with_committed_tcb(tcb(8))
        .with_reported_tcb(tcb(7))
        .with_launch_tcb(tcb(6))
        .with_version(FirmwareVersion::new(1, 58, 7))
        .with_committed_version(FirmwareVersion::new(1, 57, 1))
        .with_platform_info(PlatformInfo::new().with_smt_en(true).with_tio_en(true))
        .with_current_mit_vector(0xff00_0000_0000_0001);
    let mut machine = Machine::new(&config);
    let report = ask(&mut machine, false, 1, &request(2, 0)).report;
    let gctx = machine.firmware.guest(GUEST).unwrap();
    let expected = AttestationReport {
        version: 5.into(),
        policy: u64::from(GuestPolicy::DEFAULT).into(),
        vmpl: 2.into(),
        signature_algo: 1.into(),
        current_tcb: tcb(9).pack(layout),
        platform_info: 0x81.into(),
        report_data: request(0, 0).report_data,
        measurement: *gctx.launch_digest().as_bytes(),
        host_data: [0x40; 32],
        report_id: *gctx.report_id(),
        report_id_ma: [0xff; 32],
        reported_tcb: tcb(7).pack(layout),
        cpuid_fam_id: 0x1a,
        cpuid_mod_id: 0x02,
        cpuid_step: 1,
        chip_id: *machine.firmware.platform().chip_id(),
        committed_tcb: tcb(8).pack(layout),
        current_version: FirmwareVersion::new(1, 58, 7),
        committed_version: FirmwareVersion::new(1, 57, 1),
        launch_tcb: tcb(6).pack(layout),
        launch_mit_vector: 0xff00_0000_0000_0001.into(),
        current_mit_vector: 0xff00_0000_0000_0001.into(),
        signature: report.signature,
        ..AttestationReport::new_zeroed()
    };
    assert_eq!(report, expected);
    assert_ne!(gctx.report_id(), &[0; 32]);
}

#[rstest]
#[case(2, (0, 0, 0))]
#[case(3, (0x19, 0x11, 1))]
fn versions_before_5(#[case] version: u32, #[case] cpu: (u8, u8, u8)) {
    let mut machine = Machine::new(&config(ProductLine::Genoa, false).with_report_version(version));
    let report = ask(&mut machine, false, 0, &request(0, 0)).report;
    assert_eq!(report.version.get(), version);
    assert_eq!((report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step), cpu);
    assert_eq!((report.launch_mit_vector.get(), report.current_mit_vector.get()), (0, 0));
}

#[rstest]
#[case(ProductLine::Milan, 2)]
#[case(ProductLine::Genoa, 3)]
#[case(ProductLine::Turin, 5)]
fn version_by_default(#[case] line: ProductLine, #[case] version: u32) {
    assert_eq!(PlatformConfig::new(line).report_version(), version);
}

/// Flags and VMPL of the request, the sender's VMPL, VLEK installed, VCEK disabled for the guest.
#[rstest]
#[case::reserved_flags(4, 0, 0, false, false, FirmwareStatus::INVALID_PARAM)]
#[case::reserved_flags_before_key(1 << 31 | VLEK, 0, 0, false, false, FirmwareStatus::INVALID_PARAM)]
#[case::reserved_key(RESERVED_KEY, 0, 0, true, false, FirmwareStatus::INVALID_KEY)]
#[case::no_vlek(VLEK, 0, 0, false, false, FirmwareStatus::INVALID_KEY)]
#[case::vcek_disabled(VCEK, 0, 0, true, true, FirmwareStatus::INVALID_KEY)]
#[case::neither(0, 0, 0, false, true, FirmwareStatus::INVALID_KEY)]
#[case::key_before_vmpl(VLEK, 0, 1, false, false, FirmwareStatus::INVALID_KEY)]
#[case::more_privileged(0, 0, 1, false, false, FirmwareStatus::INVALID_PARAM)]
#[case::most_privileged_for_vmpl3(0, 2, 3, false, false, FirmwareStatus::INVALID_PARAM)]
#[case::vmpl_4(0, 4, 0, false, false, FirmwareStatus::INVALID_PARAM)]
#[case::vmpl_of_the_host(0, u32::MAX, 0, false, false, FirmwareStatus::INVALID_PARAM)]
fn refused(
    #[case] flags: u32,
    #[case] vmpl: u32,
    #[case] vmpck: u8,
    #[case] vlek: bool,
    #[case] vcek_dis: bool,
    #[case] status: FirmwareStatus,
) {
    let mut machine = Machine::new(&config(ProductLine::Genoa, vlek));
    let response = ask(&mut machine, vcek_dis, vmpck, &request(vmpl, flags));
    let expected =
        ReportRsp { status: status.0.into(), report_size: 0x4a0.into(), ..ReportRsp::new_zeroed() };
    assert_eq!(response, expected, "there is no report");
}

#[rstest]
#[case(0)]
#[case(23)]
fn reserved_bytes(#[case] at: usize) {
    let mut machine = Machine::genoa();
    let mut message = request(0, RESERVED_KEY);
    message.reserved_0x48[at] = 1;
    let response = ask(&mut machine, false, 0, &message);
    assert_eq!(response.status.get(), FirmwareStatus::INVALID_PARAM.0);
}

/// Who signs: flags, VLEK installed, VCEK disabled, chip key masked.
#[rstest]
#[case::vcek(0, false, false, false, SigningKey::Vcek)]
#[case::vlek_first(0, true, false, false, SigningKey::Vlek)]
#[case::vcek_by_name(VCEK, true, false, false, SigningKey::Vcek)]
#[case::vlek_by_name(VLEK, true, false, false, SigningKey::Vlek)]
#[case::vlek_for_a_guest_without_vcek(0, true, true, false, SigningKey::Vlek)]
#[case::masked(0, false, false, true, SigningKey::None)]
#[case::masked_by_name(VCEK, true, false, true, SigningKey::None)]
#[case::vlek_despite_mask(0, true, false, true, SigningKey::Vlek)]
fn who_signs(
    #[case] flags: u32,
    #[case] vlek: bool,
    #[case] vcek_dis: bool,
    #[case] mask_chip_key: bool,
    #[case] signing_key: SigningKey,
) {
    let mut machine = Machine::new(&config(ProductLine::Genoa, vlek).with_mask_chip_key(mask_chip_key));
    let response = ask(&mut machine, vcek_dis, 0, &request(0, flags));
    assert_eq!(response.status.get(), 0);
    let report = response.report;
    let info = report.key_info_bits();
    assert_eq!((info.signing_key(), info.mask_chip_key()), (signing_key, mask_chip_key));
    assert_eq!(report.signature == Signature::ZERO, signing_key == SigningKey::None);
    let platform = machine.firmware.platform();
    let accepted = |key: &EndorsementKey| sev_accepts(&der(platform, key), report.as_bytes());
    assert_eq!(accepted(platform.vcek()), signing_key == SigningKey::Vcek);
    assert_eq!(platform.vlek().is_some_and(accepted), signing_key == SigningKey::Vlek);
}

#[rstest]
#[case(false)]
#[case(true)]
fn chip_id_mask(#[case] masked: bool) {
    let mut machine = Machine::new(&config(ProductLine::Milan, false).with_mask_chip_id(masked));
    let report = ask(&mut machine, false, 0, &request(0, 0)).report;
    assert_eq!(report.chip_id == [0; 64], masked);
}

#[rstest]
fn own_and_less_privileged_vmpls(#[values(0, 1, 2, 3)] vmpck: u8, #[values(0, 1, 2, 3)] vmpl: u8) {
    let mut machine = Machine::genoa();
    let response = ask(&mut machine, false, vmpck, &request(vmpl.into(), 0));
    let expected = if vmpl < vmpck { FirmwareStatus::INVALID_PARAM } else { FirmwareStatus::SUCCESS };
    assert_eq!(response.status.get(), expected.0);
    assert_eq!(response.report.vmpl.get(), if vmpl < vmpck { 0 } else { vmpl.into() });
}
