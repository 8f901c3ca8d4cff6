//! What the report's fields say: what no genuine report says, and what the verifier expects.

use tsmsim_abi::snp::{
    policy::{GuestPolicy, PlatformInfo},
    report::{AttestationReport, FirmwareVersion},
    tcb::ProductLine,
};

use super::{
    Policy,
    report::{OBJECT, at_most, describe_tcb},
};
use crate::{Verdict, hex::first_difference};

/// `VMPL` of a report that the host asked for.
const VMPL_HOST: u32 = u32::MAX;

/// Bits that must be zero, or one.
pub(super) fn judge_reserved_bits(verdict: &mut Verdict, report: &AttestationReport) {
    let policy = report.policy_bits();
    let result = match (policy.reserved(), policy.reserved_must_be_one()) {
        (0, true) => Ok("as the specification demands"),
        (0, false) => Err("bit 17 must be one"),
        _ => Err("bits 26 to 63 must be zero"),
    };
    verdict.judge(OBJECT, "policy, reserved bits", result);
    let platform = report.platform_info_bits();
    let result = match (platform.reserved(), platform.reserved_6()) {
        (0, false) => Ok("zero"),
        (0, true) => Err("bit 6 must be zero"),
        _ => Err("bits 8 to 63 must be zero"),
    };
    verdict.judge(OBJECT, "platform_info, reserved bits", result);
    let reserved = report.key_info_bits().reserved();
    let result = if reserved == 0 { Ok("zero") } else { Err("bits 5 to 31 must be zero") };
    verdict.judge(OBJECT, "key_info, reserved bits", result);
}

/// Whether the guest is bound to a migration agent: `REPORT_ID_MA` is all ones if not.
pub(super) fn has_migration_agent(report: &AttestationReport) -> bool {
    report.report_id_ma != [0xff; 32]
}

/// Judges the values.
pub(super) fn judge(
    verdict: &mut Verdict,
    report: &AttestationReport,
    line: Option<ProductLine>,
    policy: &Policy,
) {
    judge_firmware(verdict, report);
    judge_guest_policy(verdict, report, policy);
    let author = match (report.key_info_bits().author_key_en(), report.author_key_digest == [0; 48]) {
        (false, false) => Err("a digest, although key_info.author_key_en is 0"),
        (true, true) => Err("zero, although key_info.author_key_en is 1"),
        (true, false) => Ok("an author key certified the ID key"),
        (false, true) => Ok("no author key"),
    };
    verdict.judge(OBJECT, "author_key_digest", author);
    verdict.judge(OBJECT, "vmpl", check_vmpl(report.vmpl.get(), policy.vmpl));
    let svn = report.guest_svn.get();
    let result =
        if svn >= policy.minimum_guest_svn { Ok(svn.to_string()) } else { Err(format!("{svn} is too low")) };
    verdict.judge(OBJECT, "guest_svn", result);
    if let (Some(minimum), Some(line)) = (policy.minimum_tcb, line) {
        let reported = report.reported_tcb.parts(line.tcb_layout());
        let expected = format!("reported_tcb >= {}", describe_tcb(minimum));
        verdict.judge(OBJECT, expected, at_most(minimum, reported));
    }
    expect(verdict, "measurement", &report.measurement, policy.measurement.as_ref());
    expect(verdict, "host_data", &report.host_data, policy.host_data.as_ref());
    expect(verdict, "id_key_digest", &report.id_key_digest, policy.id_key_digest.as_ref());
    expect(
        verdict,
        "author_key_digest = expected",
        &report.author_key_digest,
        policy.author_key_digest.as_ref(),
    );
}

fn expect<const N: usize>(
    verdict: &mut Verdict,
    field: &'static str,
    found: &[u8; N],
    expected: Option<&[u8; N]>,
) {
    let Some(expected) = expected else { return };
    let result = match first_difference(found, expected) {
        Some(at) => Err(format!("differs from the expected one at byte {at}")),
        None => Ok("as expected"),
    };
    verdict.judge(OBJECT, field, result);
}

fn check_vmpl(vmpl: u32, expected: Option<u32>) -> Result<String, String> {
    match (vmpl, expected) {
        (vmpl, Some(expected)) if vmpl != expected => Err(format!("{vmpl}, where {expected} is expected")),
        (0..=3, _) => Ok(vmpl.to_string()),
        (VMPL_HOST, _) => Ok("the host asked".to_owned()),
        _ => Err(format!("{vmpl} is no privilege level")),
    }
}

fn judge_firmware(verdict: &mut Verdict, report: &AttestationReport) {
    let order = |version: FirmwareVersion| (version.major, version.minor, version.build);
    let (committed, current) = (report.committed_version, report.current_version);
    let text = format!("{committed} <= {current}");
    let result = if order(committed) <= order(current) { Ok(text) } else { Err(format!("not so: {text}")) };
    verdict.judge(OBJECT, "committed_version <= current_version", result);
    let policy = report.policy_bits();
    let demanded = (policy.abi_major(), policy.abi_minor());
    let text = format!("{}.{} demanded, {current} runs", demanded.0, demanded.1);
    let result = if demanded <= (current.major, current.minor) { Ok(text) } else { Err(text) };
    verdict.judge(OBJECT, "policy.abi <= current_version", result);
}

fn judge_guest_policy(verdict: &mut Verdict, report: &AttestationReport, policy: &Policy) {
    let guest = report.policy_bits();
    let debug = match (guest.debug(), policy.allow_debug) {
        (false, _) => Ok("not allowed"),
        (true, true) => Ok("allowed, which this verifier takes"),
        (true, false) => Err("the host may read and change the guest"),
    };
    verdict.judge(OBJECT, "policy.debug", debug);
    let migration = match (guest.migrate_ma(), policy.allow_migration) {
        (false, _) => Ok("not allowed"),
        (true, true) => Ok("allowed, which this verifier takes"),
        (true, false) => Err("a migration agent may take the guest elsewhere"),
    };
    verdict.judge(OBJECT, "policy.migrate_ma", migration);
    let agent = match (has_migration_agent(report), guest.migrate_ma()) {
        (false, _) => Ok("no migration agent"),
        (true, true) if policy.allow_migration => Ok("a migration agent, which this verifier takes"),
        (true, true) => Err("a migration agent is bound to the guest"),
        (true, false) => Err("a migration agent, although the policy does not allow one"),
    };
    verdict.judge(OBJECT, "report_id_ma", agent);
    judge_platform(verdict, guest, report.platform_info_bits());
    if let Some(expected) = policy.guest_policy {
        let found = report.policy.get();
        let text = format!("{found:#x}");
        let result = if found == expected {
            Ok(text)
        } else {
            Err(format!("{text}, where {expected:#x} is expected"))
        };
        verdict.judge(OBJECT, "policy = expected", result);
    }
}

/// What the policy demands of the platform, which firmware enforces at launch (56860, section 4.3).
fn judge_platform(verdict: &mut Verdict, guest: GuestPolicy, platform: PlatformInfo) {
    let demands = [
        (!guest.smt() && platform.smt_en(), "policy.smt is 0, but SMT is enabled"),
        (guest.rapl_dis() && !platform.rapl_dis(), "policy.rapl_dis is 1, but RAPL is not disabled"),
        (
            guest.ciphertext_hiding_dram() && !platform.ciphertext_hiding_dram_en(),
            "policy.ciphertext_hiding_dram is 1, but ciphertext hiding is not enabled",
        ),
    ];
    let result = match demands.into_iter().find(|(broken, _)| *broken) {
        Some((_, why)) => Err(why),
        None => Ok("fulfils the policy"),
    };
    verdict.judge(OBJECT, "platform_info", result);
}
