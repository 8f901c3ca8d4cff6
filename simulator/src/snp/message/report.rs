//! `MSG_REPORT_REQ`: the attestation report (56860 rev. 1.58, section 7.3).

use tsmsim_abi::snp::{
    payload::{KeySel, ReportReq, ReportReqFlags, ReportRsp},
    policy::{KeyInfo, SigningKey},
    report::{AttestationReport, SIGNED_SIZE, Signature, SignatureAlgorithm},
    status::FirmwareStatus,
};
use tsmsim_keys::amd::EndorsementKey;
use zerocopy::{
    FromZeros, IntoBytes,
    little_endian::{U32, U64},
};

use super::Request;
use crate::{
    env::Env,
    fault::{FaultPoint, apply, consult},
    snp::{context::Gctx, firmware::Firmware, platform::Platform},
};

/// `REPORT_SIZE`.
const REPORT_SIZE: u32 = 0x4a0;
const _: () = assert!(size_of::<AttestationReport>() == 0x4a0);

/// Highest VMPL (56860, `MSG_REPORT_REQ`: "at most three").
const VMPL_MAX: u32 = 3;

pub(super) fn respond(firmware: &Firmware, env: &mut Env<'_>, request: &Request<'_>) -> ReportRsp {
    let mut response = ReportRsp { report_size: U32::new(REPORT_SIZE), ..ReportRsp::new_zeroed() };
    match make_report(firmware, request) {
        Ok(report) => {
            response.report = report;
            if let Some(action) = consult(env.faults, env.journal, FaultPoint::SNP_REPORT) {
                apply(env.journal, FaultPoint::SNP_REPORT, &action, response.report.as_mut_bytes());
            }
        }
        Err(status) => response.status = U32::new(status.0),
    }
    response
}

fn make_report(firmware: &Firmware, request: &Request<'_>) -> Result<AttestationReport, FirmwareStatus> {
    let message = request.read::<ReportReq>();
    let platform = &firmware.platform;
    let gctx = firmware.guests.get(&request.sender).ok_or(FirmwareStatus::INVALID_GUEST)?;
    let flags = ReportReqFlags::from(message.flags.get());
    if message.reserved_0x48 != [0; 24] || flags.reserved() != 0 {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    check_key_sel(platform, gctx, flags.key_sel())?;
    if message.vmpl.get() < request.vmpck.into() || message.vmpl.get() > VMPL_MAX {
        return Err(FirmwareStatus::INVALID_PARAM);
    }
    let (signing_key, key) = signing_key(platform, flags.key_sel());
    let mut report = unsigned(platform, gctx, signing_key);
    report.vmpl = message.vmpl;
    report.report_data = message.report_data;
    if let Some(key) = key {
        let signature = key.sign(platform.signature_mode(), &report.as_bytes()[..SIGNED_SIZE]);
        let signature = signature.map_err(|_| FirmwareStatus::HWERROR_PLATFORM)?;
        report.signature = Signature::from_big_endian(&signature.r, &signature.s);
    }
    Ok(report)
}

/// Whether a guest may have the endorsement key that it selects. The same for reports and derived keys.
pub(super) fn check_key_sel(platform: &Platform, gctx: &Gctx, key_sel: KeySel) -> Result<(), FirmwareStatus> {
    let vlek = platform.vlek().is_some();
    let available = match key_sel {
        KeySel::VlekElseVcek => vlek || !gctx.vcek_dis,
        KeySel::Vcek => !gctx.vcek_dis,
        KeySel::Vlek => vlek,
        KeySel::Reserved => false,
    };
    if available { Ok(()) } else { Err(FirmwareStatus::INVALID_KEY) }
}

/// The key that signs. Masking takes the VCEK away without making the request fail: the report is then not signed.
fn signing_key(platform: &Platform, key_sel: KeySel) -> (SigningKey, Option<&EndorsementKey>) {
    match (key_sel, platform.vlek()) {
        (KeySel::VlekElseVcek | KeySel::Vlek, Some(vlek)) => (SigningKey::Vlek, Some(vlek)),
        (KeySel::VlekElseVcek | KeySel::Vcek, _) if !platform.mask_chip_key() => {
            (SigningKey::Vcek, Some(platform.vcek()))
        }
        _ => (SigningKey::None, None),
    }
}

/// The report but for what the message gives and the signature.
fn unsigned(platform: &Platform, gctx: &Gctx, signing_key: SigningKey) -> AttestationReport {
    let version = platform.report_version();
    let cpu = platform.cpu();
    let key_info = KeyInfo::new()
        .with_author_key_en(gctx.author_key_en)
        .with_mask_chip_key(platform.mask_chip_key())
        .with_signing_key(signing_key);
    let mut report = AttestationReport {
        version: U32::new(version),
        guest_svn: gctx.id_block.guest_svn,
        policy: U64::new(gctx.policy.into()),
        family_id: gctx.id_block.family_id,
        image_id: gctx.id_block.image_id,
        signature_algo: U32::new(SignatureAlgorithm::ECDSA_P384_SHA384.0),
        current_tcb: platform.current_tcb(),
        platform_info: U64::new(platform.platform_info().into()),
        key_info: U32::new(key_info.into()),
        measurement: *gctx.ld.as_bytes(),
        host_data: gctx.host_data,
        id_key_digest: gctx.id_key_digest,
        author_key_digest: gctx.author_key_digest,
        report_id: gctx.report_id,
        report_id_ma: gctx.report_id_ma,
        reported_tcb: platform.reported_tcb(),
        committed_tcb: platform.committed_tcb(),
        current_version: platform.version(),
        committed_version: platform.committed_version(),
        launch_tcb: gctx.launch_tcb,
        ..AttestationReport::new_zeroed()
    };
    if version >= 3 {
        report.cpuid_fam_id = cpu.family;
        report.cpuid_mod_id = cpu.model;
        report.cpuid_step = cpu.stepping;
    }
    if version >= 5 {
        report.launch_mit_vector = U64::new(gctx.launch_mit_vector);
        report.current_mit_vector = U64::new(platform.current_mit_vector());
    }
    if !platform.mask_chip_id() {
        report.chip_id = *platform.chip_id();
    }
    report
}
