//! `tsmsim verify`, and the judge behind it: evidence is refused for what is wrong with it.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rstest::rstest;
use tsmsim_abi::snp::{cert_table::CertGuid, tcb::ProductLine};
use tsmsim_evidence::{
    Outcome, Timestamp, Verdict,
    snp::{Bundle, Policy, read_table, verify, verify_chain},
};

use crate::{
    made,
    program::{Said, Tsmsim},
};

/// A moment inside the validity of all that is synthetic.
fn then() -> Timestamp {
    "2026-01-01".parse().unwrap()
}

/// How evidence is judged: report and certificates, or the certificates alone, which takes half the time.
type Judge = fn(&Bundle, &Policy) -> Verdict;

/// A part of evidence.
struct Part {
    /// What a reason must begin with if the part is changed: its name, or that of what no longer agrees with it.
    objects: &'static [&'static str],
    bytes: fn(&mut Bundle) -> &mut Vec<u8>,
    judge: Judge,
}

const REPORT: Part = Part { objects: &["report"], bytes: |bundle| &mut bundle.report, judge: verify };
const ARK: Part =
    Part { objects: &["ARK"], bytes: |bundle| bundle.ark.as_mut().unwrap(), judge: verify_chain };
const ASK: Part =
    Part { objects: &["ASK", "ASVK"], bytes: |bundle| bundle.ask.as_mut().unwrap(), judge: verify_chain };
const LEAF: Part = Part {
    objects: &["VCEK", "VLEK", "report: chip_id", "report: reported_tcb"],
    bytes: |bundle| bundle.vcek.as_mut().or(bundle.vlek.as_mut()).unwrap(),
    judge: verify,
};
const CRL: Part =
    Part { objects: &["CRL"], bytes: |bundle| bundle.crl.as_mut().unwrap(), judge: verify_chain };
const TABLE: Part = Part {
    objects: &["certificate table"],
    bytes: |bundle| bundle.table.as_mut().unwrap(),
    judge: verify_chain,
};

/// Calls `judge` with every one of the numbers below `count`, on all processors.
pub(crate) fn for_each(count: usize, judge: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    judge(number);
                }
            });
        }
    });
}

impl Part {
    /// Flips these bits of the part, one at a time. The evidence must then be refused, for a reason of the form
    /// `OBJECT: FIELD: WHY` that names the part.
    fn flip(&self, bundle: &Bundle, count: usize, bit: impl Fn(usize) -> usize + Sync) {
        let policy = Policy::at(then());
        assert_eq!(verify(bundle, &policy).reason(), None);
        for_each(count, |number| {
            let (bit, mut flipped) = (bit(number), bundle.clone());
            (self.bytes)(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
            let verdict = (self.judge)(&flipped, &policy);
            let reason = verdict.reason().unwrap_or_else(|| panic!("accepted with bit {bit} flipped"));
            let named = self.objects.iter().any(|object| reason.starts_with(object));
            let parts: Vec<&str> = reason.splitn(3, ": ").collect();
            let complete = matches!(parts[..], [_, field, why] if !field.is_empty() && !why.is_empty());
            assert!(named && complete, "bit {bit}: {reason}");
        });
    }
}

/// Each bit of report, certificates and revocation list, one at a time. ARK and revocation list are of the same kind above both
/// keys: of these the second time one bit of each byte.
#[rstest]
#[case::vcek_report(REPORT, ProductLine::Milan, 2, false, 1)]
#[case::vcek_ark(ARK, ProductLine::Milan, 2, false, 1)]
#[case::vcek_ask(ASK, ProductLine::Milan, 2, false, 1)]
#[case::vcek(LEAF, ProductLine::Milan, 2, false, 1)]
#[case::vcek_crl(CRL, ProductLine::Milan, 2, false, 1)]
#[case::vlek_report(REPORT, ProductLine::Turin, 5, true, 1)]
#[case::vlek_ark(ARK, ProductLine::Turin, 5, true, 9)]
#[case::vlek_asvk(ASK, ProductLine::Turin, 5, true, 1)]
#[case::vlek(LEAF, ProductLine::Turin, 5, true, 1)]
#[case::vlek_crl(CRL, ProductLine::Turin, 5, true, 9)]
fn every_bit_matters(
    #[case] part: Part,
    #[case] line: ProductLine,
    #[case] version: u32,
    #[case] vlek: bool,
    #[case] step: usize,
) {
    let made = made::bundle(line, version, vlek);
    // Without what does not say more about the part.
    let crl = made.crl.filter(|_| part.objects == CRL.objects);
    let mut bundle = Bundle { table: None, crl, ..made };
    let bits = (part.bytes)(&mut bundle).len() * 8;
    part.flip(&bundle, bits.div_ceil(step), |number| number * step);
}

/// The certificate table beside its certificates: each bit of its entries; of the certificates in it, one bit of each byte.
#[rstest]
#[case::vcek(ProductLine::Genoa, 3, false)]
#[case::vlek(ProductLine::Turin, 5, true)]
fn every_byte_of_the_certificate_table_matters(
    #[case] line: ProductLine,
    #[case] version: u32,
    #[case] vlek: bool,
) {
    const ENTRIES: usize = 5 * 24;
    let bundle = made::bundle(line, version, vlek);
    let rest = bundle.table.as_ref().unwrap().len() - ENTRIES;
    TABLE.flip(&bundle, 8 * ENTRIES + rest, |number| match number.checked_sub(8 * ENTRIES) {
        None => number,
        Some(byte) => (ENTRIES + byte) * 8 + byte % 8,
    });
}

/// A guest receives whole pages; the padding must be zero.
#[test]
fn the_padding_of_a_certificate_table_matters() {
    let table = made::bundle(ProductLine::Milan, 2, false).table.unwrap();
    let length = table.len();
    let mut padded = table;
    padded.resize(length.next_multiple_of(4096), 0);
    assert!(read_table(&padded).is_ok());
    for_each((padded.len() - length) * 8, |bit| {
        let mut flipped = padded.clone();
        flipped[length + bit / 8] ^= 1 << (bit % 8);
        assert!(read_table(&flipped).is_err(), "bit {bit} of the padding");
    });
}

/// Evidence that `tsmsim report` made, with one byte of one of its files changed, and what is said of it.
#[rstest]
#[case::report_data("report.bin", 0x50, "report: report_data: ")]
#[case::measurement("report.bin", 0x90, "report: signature: ")]
#[case::reserved("report.bin", 0x200, "report: reserved 1f8h..2a0h: byte 0x200")]
#[case::chip_id("report.bin", 0x1a0, "report: chip_id: ")]
#[case::signature("report.bin", 0x2a0, "report: signature: ")]
#[case::ark("ark.der", 800, "ARK: ")]
#[case::ask("ask.der", 800, "ASK: ")]
#[case::vcek("vcek.der", 400, "certificate table: VCEK: differs")]
#[case::crl("crl.der", 800, "CRL: ")]
#[case::table("certs.bin", 2000, "certificate table: ")]
#[case::inblob("inblob.bin", 0, "report: report_data: ")]
fn a_changed_file_is_refused(#[case] file: &str, #[case] at: usize, #[case] reason: &str) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.report(directory.path(), "--profile genoa --nonce 0102");
    let mut bytes = fs::read(directory.path().join(file)).unwrap();
    bytes[at] ^= 0x10;
    fs::write(directory.path().join(file), bytes).unwrap();
    let said = tsmsim.say("verify", &[("--dir", directory.path())]).with_status(1);
    assert!(said.last_line().starts_with(&format!("refused: {reason}")), "{}", said.last_line());
    let said = tsmsim.say("verify --json", &[("--dir", directory.path())]).with_status(1);
    assert_eq!(said.json()["accepted"], false);
    assert!(said.json()["reason"].as_str().unwrap().starts_with(reason));
}

/// What evidence must be, and what is said if it is not.
#[rstest]
#[case::too_early(
    "",
    "--at 2022-12-31T23:59:59Z",
    Some("ARK: validity: not valid before 2023-01-01T00:00:00Z")
)]
#[case::first_moment("", "--at 2023-01-01T00:00:00Z", None)]
#[case::last_moment("", "--at 2047-12-31T23:59:59Z", None)]
#[case::too_late("", "--at 2048-01-01T00:00:00Z", Some("ARK: validity: expired"))]
#[case::seconds("", "--at 1700000000", None)]
#[case::masked("--mask-chip-id", "", Some("report: chip_id: "))]
#[case::masked_allowed("--mask-chip-id", "--allow-masked-chip-id", None)]
#[case::not_masked("", "--allow-masked-chip-id", None)]
#[case::masked_vlek("--mask-chip-id --vlek", "", None)]
#[case::vmpl("--vmpl 2", "--vmpl 2", None)]
#[case::other_vmpl("--vmpl 2", "--vmpl 0", Some("report: vmpl: 2, where 0 is expected"))]
fn options_decide(#[case] report: &str, #[case] options: &str, #[case] reason: Option<&str>) {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    tsmsim.report(directory.path(), report);
    assert_said(&tsmsim.say(&format!("verify {options}"), &[("--dir", directory.path())]), reason);
}

/// A guest with a debuggable policy is made, judged, and refused by `tsmsim report` itself: the exit status says so.
#[test]
fn a_guest_that_may_be_debugged() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let said = tsmsim.say("report --tee snp --policy 0xb0000", &[("--out", out)]).with_status(1);
    assert!(said.last_line().contains("refused: report: policy.debug: "), "{}", said.last_line());
    assert_said(&tsmsim.say("verify", &[("--dir", out)]), Some("report: policy.debug: "));
    assert_said(&tsmsim.say("verify --allow-debug", &[("--dir", out)]), None);
}

#[track_caller]
fn assert_said(said: &Said, reason: Option<&str>) {
    let (status, start) = match reason {
        None => (0, "accepted under a synthetic root of tsmsim".to_owned()),
        Some(reason) => (1, format!("refused: {reason}")),
    };
    assert_eq!(said.status, status, "{}{}", said.out, said.err);
    assert!(said.last_line().starts_with(&start), "{}", said.last_line());
}

#[test]
fn the_user_data_and_the_measurement_must_be_those_expected() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, other) = (directory.path().join("evidence"), directory.path().join("inblob"));
    fs::write(&other, [7; 64]).unwrap();
    let said = tsmsim.say("report --tee snp --json", &[("--out", &out), ("--inblob", &other)]).with_status(0);
    let measurement = said.json()["measurement"].as_str().unwrap().to_owned();
    assert_eq!(fs::read(out.join("inblob.bin")).unwrap(), [7; 64]);
    let verify = |words: &str, inblob: &Path| {
        tsmsim.say(&format!("verify {words}"), &[("--dir", &out), ("--inblob", inblob)])
    };
    assert_said(&verify(&format!("--measurement {measurement}"), &other), None);
    let wrong = "0".repeat(96);
    assert_said(&verify(&format!("--measurement {wrong}"), &other), Some("report: measurement: differs"));
    fs::write(&other, [8; 64]).unwrap();
    assert_said(&verify("", &other), Some("report: report_data: differs from the inblob at byte 0"));
    fs::write(&other, [7; 63]).unwrap();
    assert_said(&verify("", &other), Some("report: report_data: "));
}

/// Evidence need not lie in a directory of the layout: report and certificates by themselves, in any of their forms.
#[test]
fn files_by_themselves_are_judged_alike() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    tsmsim.report(out, "--profile turin --vlek");
    let file = |name: &str| out.join(name);
    let report = file("report.bin");
    let [ark, ask, vlek, crl, table] = ["ark.der", "ask.der", "vlek.der", "crl.der", "certs.bin"].map(file);
    let separate = [("--report", report.as_path()), ("--certs", &ark), ("--certs", &ask), ("--certs", &vlek)];
    assert_said(&tsmsim.say("verify", &separate), None);
    assert_said(&tsmsim.say("verify", &[&separate[..], &[("--crl", crl.as_path())]].concat()), None);
    assert_said(&tsmsim.say("verify", &[("--report", &report), ("--certs", &table)]), None);
    assert_said(&tsmsim.say("verify", &separate[..3]), Some("VLEK: certificate: "));
    assert_said(&tsmsim.say("verify", &separate[..1]), Some("A"));
}

/// The verdict says which check failed, and that the others were made.
#[test]
fn one_wrong_thing_is_one_failed_check() {
    let mut bundle = made::bundle(ProductLine::Genoa, 3, false);
    bundle.inblob = Some(vec![0; 64]);
    let verdict = verify(&bundle, &Policy::at(then()));
    let failed: Vec<_> = verdict.checks.iter().filter(|check| check.outcome == Outcome::Failed).collect();
    assert!(
        matches!(failed[..], [check] if check.object == "report" && check.field == "report_data"),
        "{failed:?}"
    );
    // The table gives what the files do not.
    let only_table =
        Bundle { ark: None, ask: None, vcek: None, crl: None, ..made::bundle(ProductLine::Genoa, 3, false) };
    assert_eq!(verify(&only_table, &Policy::at(then())).reason(), None);
    let table = only_table.table.as_deref().unwrap();
    assert!(read_table(table).unwrap().iter().any(|entry| entry.guid == CertGuid::CRL));
}
