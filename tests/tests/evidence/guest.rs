//! Guests under KVM: what the bare-metal guest checked, by name, and how guests end.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{
    fs,
    sync::OnceLock,
    time::{Duration, Instant},
};

use rstest::rstest;
use serde_json::Value;
use tsmsim_abi::{
    guest_test::EXIT_PORT,
    snp::{
        ghcb::ExitCode, msr::TerminationReason, policy::GuestPolicy, report::AttestationReport,
        tcb::ProductLine,
    },
    tdx::quote::Quote,
};
use tsmsim_evidence::tdx::replay;
use tsmsim_keys::Seed;
use tsmsim_simulator::snp::{firmware::Firmware, host::Termination, platform::PlatformConfig};
use tsmsim_tests::need::{self, Lack};
use tsmsim_vmm::{
    cc::{
        boot::{BootRequest, BootedGuest, boot},
        snp::End,
    },
    engine::kvm::{KvmProbe, probe},
    loader::bare_metal::GuestTask,
};
use zerocopy::FromBytes as _;

use crate::{
    image,
    program::{File, Said, Tsmsim, files, hex},
    report::{openssl_accepts, sev_accepts},
    tap::{self, Run},
};

/// The C-bit of guests here; without a KVM that can run them, the calling test is skipped.
#[track_caller]
fn c_bit() -> Option<u8> {
    match probe() {
        KvmProbe::Present(facts) if facts.c_bit.is_some() => facts.c_bit,
        other => {
            need::skip(Lack::Hardware, &other.to_string());
            None
        }
    }
}

/// What `tsmsim demo` did, once for all tests.
struct Demo {
    rows: Vec<Value>,
    runs: Vec<Run>,
    /// Directories by name, each with its files.
    evidence: Vec<(String, Vec<File>)>,
}

#[track_caller]
fn demo() -> Option<&'static Demo> {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    let tsmsim = Tsmsim::find()?;
    c_bit()?;
    Some(DEMO.get_or_init(|| {
        let out = tempfile::tempdir().unwrap();
        let said: Said = tsmsim.say("demo --json --verbose", &[("--out", out.path())]).with_status(0);
        let directories = fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap());
        let evidence =
            directories.map(|entry| (entry.file_name().into_string().unwrap(), files(&entry.path())));
        Demo {
            rows: said.json().as_array().unwrap().clone(),
            runs: tap::runs(&said.err),
            evidence: evidence.collect(),
        }
    }))
}

impl Demo {
    fn under_kvm(&self) -> impl Iterator<Item = &Value> {
        self.rows.iter().filter(|row| row["name"].as_str().unwrap().starts_with("kvm-"))
    }

    /// Guests that ran, in the order in which they did; each printed its checks.
    fn run(&self) -> impl Iterator<Item = &Value> {
        let in_machine = |row: &&Value| !row["name"].as_str().unwrap().starts_with("in-process-");
        self.rows.iter().filter(in_machine).filter(|row| row["lacking"].is_null())
    }

    #[track_caller]
    fn row(&self, name: &str) -> &Value {
        self.rows.iter().find(|row| row["name"] == *name).unwrap_or_else(|| panic!("{name}"))
    }

    /// The files of a row's evidence.
    fn files(&self, name: &str) -> &[File] {
        &self.evidence.iter().find(|(found, _)| found == name).unwrap().1
    }

    /// The rows of one technology under KVM, each with the guest's output.
    fn of(&self, tdx: bool) -> impl Iterator<Item = (&Value, &Run)> {
        let of_tee = move |row: &Value| row["name"].as_str().unwrap().starts_with("kvm-tdx") == tdx;
        self.under_kvm().zip(&self.runs).filter(move |(row, _)| of_tee(row))
    }
}

#[test]
fn every_row_of_the_demonstration_is_verified() {
    let Some(demo) = demo() else { return };
    for row in demo.rows.iter().filter(|row| row["lacking"].is_null()) {
        assert_eq!(row["verified"], true, "{row:#}");
        assert_eq!(row["reason"], Value::Null, "{row:#}");
    }
    let shape: Vec<_> = demo
        .under_kvm()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("name"), row["report_version"].as_u64().unwrap(), text("signing_key"))
        })
        .collect();
    let expected = [
        ("kvm-milan-vcek", 2, "vcek"),
        ("kvm-genoa-vcek", 3, "vcek"),
        ("kvm-turin-vcek", 5, "vcek"),
        ("kvm-genoa-vlek", 3, "vlek"),
        ("kvm-tdx-1.0", 4, "pck"),
        ("kvm-tdx-1.5", 5, "pck"),
    ];
    assert_eq!(shape, expected.map(|(name, version, key)| (name.to_owned(), version, key.to_owned())));
}

#[test]
fn every_check_of_every_guest_passed() {
    let Some(demo) = demo() else { return };
    assert_eq!(demo.runs.len(), demo.run().count());
    for (run, row) in demo.runs.iter().zip(demo.run()) {
        run.assert_complete();
        assert_eq!(row["checks"], run.checks.len());
        assert_eq!(row["checks_passed"], run.checks.len());
    }
    // The same guest checks the same everywhere.
    let names = |run: &Run| run.checks.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let of_snp: Vec<_> = demo.of(false).map(|(_, run)| names(run)).collect();
    assert!(of_snp.iter().all(|names| *names == of_snp[0]));
}

/// What a guest is to have checked at least, by what it is about.
#[rstest]
#[case::negotiation(&["SEV information: protocol versions include 2", "SEV information: C-bit is CPUID Fn8000_001F_EBX[5:0]",
    "SEV_STATUS: SEV, SEV-ES and SEV-SNP active", "preferred GHCB: none, or in RAM"])]
#[case::register_ghcb(&["GHCB not registered", "register GHCB: frame outside memory", "register GHCB: another page is not registered"])]
#[case::features(&["hypervisor feature support: SNP, AP creation", "hypervisor feature support by exit"])]
#[case::page_states_by_msr(&["page state change request: private to shared", "page state change request: shared to private",
    "page state change request: unknown operation", "page state change request: frame outside memory"])]
#[case::page_states_by_exit(&["page state change: several entries to private", "page state change: several entries to shared",
    "page state change: 2 MiB entry", "page state change: invalid header", "page state change: reserved bits",
    "page state change: unknown operation", "page state change: frame outside memory"])]
#[case::validation(&["PVALIDATE: validate", "PVALIDATE: already validated", "PVALIDATE: rescind", "PVALIDATE: shared page",
    "RMPADJUST: permissions of VMPL1", "RMPADJUST: VMSA"])]
#[case::report(&["REPORT_REQ: VMPL0", "REPORT_REQ: VMPL3, asked by VMPL0", "REPORT_REQ: VMPCK1", "REPORT_REQ: VMPCK2",
    "REPORT_REQ: VMPCK3", "REPORT_REQ: reserved bytes", "REPORT_REQ: reserved flags", "REPORT_REQ: VMPL below the sender's"])]
#[case::key(&["KEY_REQ: same inputs, same key", "KEY_REQ: GUEST_FIELD_SELECT changes the key", "KEY_REQ: VMPL changes the key",
    "KEY_REQ: ROOT_KEY_SELECT changes the key", "KEY_REQ: GUEST_SVN above the guest's", "KEY_REQ: TCB_VERSION above the committed"])]
#[case::cpuid(&["CPUID_REQ: the CPUID page's values", "CPUID_REQ: a wrong value", "CPUID_REQ: COUNT above 64", "CPUID"])]
#[case::tsc(&["TSC_INFO_REQ", "TSC_INFO_REQ: reserved", "RDTSC"])]
#[case::extended_request(&["extended guest request: same sequence number, certificates", "extended guest request: buffer too small",
    "extended guest request: buffer not on a page"])]
#[case::replayed(&["MSG_SEQNO: replayed", "MSG_SEQNO: one skipped", "MSG_SEQNO: nothing was counted"])]
#[case::tags(&["AUTHTAG: one bit flipped", "payload: one bit flipped", "MSG_SEQNO: changed after sealing", "MSG_VMPCK: another one's key"])]
#[case::unshared_pages(&["guest request: private request page", "guest request: private response page",
    "SW_SCRATCH: in a private page"])]
#[case::unknown_exits(&["SW_EXITCODE: unknown", "GHCB_USAGE: unknown", "valid bitmap: SW_EXITCODE missing"])]
#[case::headers(&["ALGO: unknown", "HDR_VERSION: unknown", "HDR_SIZE: wrong", "MSG_TYPE: unknown", "MSG_VERSION: unknown",
    "MSG_SIZE: more than the page"])]
#[case::vcpus(&["AP creation: VMSA for the next INIT", "AP creation: unknown APIC ID", "AP creation: not a VMSA"])]
#[case::migration(&["VMRK_REQ: no guest context", "VMRK_REQ: not VMPCK0"])]
fn guests_checked(#[case] names: &[&str]) {
    let Some(demo) = demo() else { return };
    assert_eq!(demo.of(false).count(), 4);
    for (_, run) in demo.of(false) {
        let missing: Vec<_> = names.iter().filter(|name| !run.passed(name)).collect();
        assert!(missing.is_empty(), "not made, or failed: {missing:#?}");
    }
}

/// The same of TDs.
#[rstest]
#[case::identity(&["CPUID 21H: IntelTDX", "TDG.VP.INFO", "TDCALL: unknown leaf", "TDCALL: unknown version",
    "TDCALL: reserved bits of RAX", "TDG.VP.CPUIDVE.SET"])]
#[case::metadata(&["TDG.VM.RD: MRTD and RTMRs are those of the report", "TDG.VM.WR: NOTIFY_ENABLES", "TDG.VM.WR: read-only field",
    "TDG.SYS.RD: version"])]
#[case::pages(&["TDG.MEM.PAGE.ACCEPT: 4 KiB", "TDG.MEM.PAGE.ACCEPT: 2 MiB", "TDG.MEM.PAGE.ACCEPT: again",
    "MapGPA: shared, and private again", "MapGPA: unaligned address"])]
#[case::rtmrs(&["TDG.MR.RTMR.EXTEND: RTMR0", "TDG.MR.RTMR.EXTEND: RTMR3", "TDG.MR.RTMR.EXTEND: no such RTMR",
    "TDG.MR.RTMR.EXTEND: unaligned", "RTMRs are what was measured", "event log"])]
#[case::reports(&["TDG.MR.REPORT", "TDG.MR.REPORT: report unaligned", "TDG.MR.REPORT: sub-type", "TDG.MR.VERIFYREPORT",
    "TDG.MR.VERIFYREPORT: other MAC"])]
#[case::host(&["GetTdVmCallInfo: leaf 1", "TDVMCALL: unknown sub-function", "Instruction.CPUID", "Instruction.IO: OUT",
    "Instruction.RDMSR", "Instruction.WRMSR: read-only MSR", "#VE.RequestMMIO: read from nowhere", "Service.Query: itself"])]
#[case::exceptions(&["TDG.VP.VEINFO.GET: no #VE", "#VE: RDMSR", "#VE: WRMSR that the host refuses"])]
#[case::quotes(&["GetQuote: polling", "SetupEventNotifyInterrupt",
    "GetQuote: event-notify interrupt, TDG.VP.VMCALL<Instruction.HLT>",
    "GetQuote: event-notify interrupt, HLT that raises #VE"])]
#[case::refused_quotes(&["GetQuote: unaligned buffer", "GetQuote: private address", "GetQuote: buffer that is not shared",
    "GetQuote: version 2", "GetQuote: more than the buffer holds", "GetQuote: report with a reserved byte"])]
fn tds_checked(#[case] names: &[&str]) {
    let Some(demo) = demo() else { return };
    assert_eq!(demo.of(true).count(), 2);
    for (_, run) in demo.of(true) {
        let missing: Vec<_> = names.iter().filter(|name| !run.passed(name)).collect();
        assert!(missing.is_empty(), "not made, or failed: {missing:#?}");
    }
}

/// The measurement is the guest's alone: the same on every platform, in every report, and before any launch.
#[test]
fn the_measurement_was_known_before() {
    let Some(demo) = demo() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let predicted = tsmsim.say("measure --tee snp", &[]).with_status(0).out;
    for (row, _) in demo.of(false) {
        let name = row["name"].as_str().unwrap();
        assert_eq!(row["measurement"], predicted.trim(), "{name}");
        let (_, files) = demo.evidence.iter().find(|(found, _)| found == name).unwrap();
        let file = |wanted: &str| &files.iter().find(|(found, _)| found == wanted).unwrap().1;
        let report = AttestationReport::read_from_bytes(file("report.bin")).unwrap();
        assert_eq!(hex(&report.measurement), predicted.trim(), "{name}");
        let description: Value = serde_json::from_slice(file("evidence.json")).unwrap();
        assert_eq!(description["measurement"], predicted.trim(), "{name}");
    }
}

/// `MRTD` is the guest's alone as well; the RTMRs are what the guest says in its log that it measured.
#[test]
fn the_td_is_the_predicted_one() {
    let Some(demo) = demo() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let predicted = tsmsim.say("measure --tee tdx", &[]).with_status(0).out;
    for (row, run) in demo.of(true) {
        let name = row["name"].as_str().unwrap();
        assert_eq!(row["measurement"], predicted.trim(), "{name}");
        let (_, files) = demo.evidence.iter().find(|(found, _)| found == name).unwrap();
        let file = |wanted: &str| files.iter().find(|(found, _)| found == wanted).unwrap().1.as_slice();
        let quote = Quote::read(file("quote.bin")).unwrap();
        let body = quote.signed.body.td().unwrap();
        assert_eq!(hex(&body.mr_td), predicted.trim(), "{name}");
        assert_eq!(body.rtmr, replay(file("ccel.bin")).unwrap(), "{name}");
        assert_eq!(body.report_data, file("inblob.bin"), "{name}");
        assert_eq!(run.blob("quote").unwrap(), file("quote.bin"), "{name}");
        let description: Value = serde_json::from_slice(file("evidence.json")).unwrap();
        assert_eq!(description["measurement"], predicted.trim(), "{name}");
    }
}

/// Stock kernels are among the guests; each states the measurement that `tsmsim measure` predicts for it.
#[test]
fn stock_kernels_are_shown_too() {
    let (Some(_), Some(kernel)) = (need::program("qemu-system-x86_64"), need::kernel_7()) else { return };
    let Some(demo) = demo() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let release = kernel.file_name().unwrap().to_str().unwrap();
    let series: Vec<&str> = release.split('.').take(2).collect();
    for (tee, version, key) in [("snp", 3, "vcek"), ("tdx", 4, "pck")] {
        let name = format!("qemu-linux-{}-{tee}", series.join("."));
        let row = demo.row(&name);
        assert_eq!(
            (&row["verified"], &row["report_version"], &row["signing_key"]),
            (&true.into(), &version.into(), &key.into())
        );
        let modules = kernel.join("lib/modules").join(release);
        let options = [("--kernel", kernel.join("vmlinuz")), ("--modules", modules)];
        let options = options.each_ref().map(|(option, path)| (*option, path.as_path()));
        let words = format!("measure --engine qemu --tee {tee}");
        let predicted = tsmsim.say(&words, &options).with_status(0).out;
        assert_eq!(row["measurement"], predicted.trim(), "{name}");
        let description = &demo.files(&name).iter().find(|(file, _)| file == "evidence.json").unwrap().1;
        let description: Value = serde_json::from_slice(description).unwrap();
        assert_eq!(description["measurement"], predicted.trim(), "{name}");
    }
}

/// TVMs: the bare-metal guest says the same on both engines, and a stock kernel's evidence states what was predicted.
#[test]
fn tvms_are_the_predicted_ones() {
    let (Some(_), Some(kernel)) = (need::program("qemu-system-riscv64"), need::kernel_riscv64()) else {
        return;
    };
    let Some(demo) = demo() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let release = kernel.file_name().unwrap().to_str().unwrap();
    let modules = kernel.join("lib/modules").join(release);
    let options = [("--kernel", kernel.join("vmlinuz")), ("--modules", modules)];
    let options = options.each_ref().map(|(option, path)| (*option, path.as_path()));
    let series: Vec<&str> = release.split('.').take(2).collect();
    let stock = format!("qemu-linux-{}-cove", series.join("."));
    for (name, options) in
        [("ckb-vm-cove-cbor", &[][..]), ("qemu-cove-cbor", &[]), (stock.as_str(), &options)]
    {
        let row = demo.row(name);
        assert_eq!((&row["verified"], &row["signing_key"]), (&true.into(), &"tsm".into()), "{row:#}");
        assert!(row["checks"].as_u64().unwrap() > 8 && row["checks"] == row["checks_passed"], "{row:#}");
        let predicted = tsmsim.say("measure --json --tee cove", options).with_status(0).json();
        assert_eq!(row["measurement"], predicted["measurement"], "{name}");
        let description = &demo.files(name).iter().find(|(file, _)| file == "evidence.json").unwrap().1;
        let description: Value = serde_json::from_slice(description).unwrap();
        assert_eq!(description["measurement"], predicted["measurement"], "{name}");
        let initial = predicted["registers"].as_array().unwrap();
        assert!(description["registers"].as_array().unwrap().starts_with(initial), "{name}");
    }
    let names = |name: &str| {
        let index = demo.run().position(|row| row["name"] == *name).unwrap();
        demo.runs[index].checks.iter().map(|(check, _)| check.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names("ckb-vm-cove-cbor"), names("qemu-cove-cbor"));
}

/// Evidence that guests obtained is as good as any: to the program, to the `sev` crate, to openssl.
#[test]
fn evidence_of_guests_is_accepted_by_strangers() {
    let Some(demo) = demo() else { return };
    let Some(tsmsim) = Tsmsim::find() else { return };
    let Some(openssl) = need::program("openssl") else { return };
    let all = demo.rows.iter().filter(|row| row["lacking"].is_null());
    assert_eq!(demo.evidence.len(), all.count());
    for (name, files) in &demo.evidence {
        let directory = tempfile::tempdir().unwrap();
        for (file, bytes) in files {
            fs::write(directory.path().join(file), bytes).unwrap();
        }
        let said = tsmsim.say("verify", &[("--dir", directory.path())]);
        assert_eq!(said.status, 0, "{name}: {}", said.last_line());
        if ["tdx", "cove"].iter().any(|other| name.contains(other)) {
            continue;
        }
        let leaf = if name.ends_with("vlek") { "vlek" } else { "vcek" };
        sev_accepts(directory.path(), leaf);
        openssl_accepts(&openssl, directory.path(), leaf);
    }
}

const TIME: Duration = Duration::from_secs(30);

/// Runs an image under KVM; how it ended and what it printed.
fn run_elf(c_bit: u8, elf: &[u8], line: ProductLine, task: GuestTask, time: Duration) -> (End, Vec<u8>) {
    let platform = PlatformConfig::new(line).with_c_bit(c_bit).build(&Seed::DEFAULT).unwrap();
    let request = BootRequest {
        elf,
        firmware: Firmware::new(platform),
        c_bit,
        certificates: Vec::new(),
        policy: GuestPolicy::DEFAULT,
        task,
        console: None,
    };
    let BootedGuest { mut machine, console, .. } = boot(request).unwrap();
    let end = machine.run(Instant::now() + time).unwrap();
    (end, console.contents())
}

/// Runs the built test guest.
#[track_caller]
fn run_guest(mode: u16, count: u32, report_data: [u8; 64]) -> Option<(End, String)> {
    let (c_bit, elf) = (c_bit()?, fs::read(need::guest_x86_64()?).unwrap());
    let task = GuestTask { mode, count, report_data };
    let (end, console) = run_elf(c_bit, &elf, ProductLine::Genoa, task, TIME);
    Some((end, String::from_utf8(console).unwrap()))
}

/// The parameters are not measured; what they ask for stands in the report.
#[test]
fn the_report_carries_what_the_host_asked_for() {
    let Some(first) = run_guest(1, 0, [1; 64]) else { return };
    let Some(second) = run_guest(1, 0, [2; 64]) else { return };
    let reports = [first, second].map(|(end, text)| {
        assert_eq!(end, End::Done(0), "{text}");
        let [run] = tap::runs(&text).try_into().unwrap();
        run.assert_complete();
        AttestationReport::read_from_bytes(&run.blob("report").unwrap()).unwrap()
    });
    assert_eq!(reports.each_ref().map(|report| report.report_data), [[1; 64], [2; 64]]);
    assert_eq!(reports[0].measurement, reports[1].measurement);
    assert_ne!(reports[0].report_id, reports[1].report_id, "two guests");
}

#[test]
fn requests_can_be_repeated() {
    let Some((end, text)) = run_guest(2, 5, [0; 64]) else { return };
    assert_eq!(end, End::Done(0));
    let [run] = tap::runs(&text).try_into().unwrap();
    run.assert_complete();
}

#[rstest]
#[case::asked_for(3, Termination::Requested(TerminationReason::GENERAL))]
#[case::unsupported(4, Termination::UnsupportedEvent { exit_code: ExitCode::SHUTDOWN.0, info: 0 })]
fn a_guest_is_terminated(#[case] mode: u16, #[case] termination: Termination) {
    let Some((end, text)) = run_guest(mode, 0, [0; 64]) else { return };
    assert_eq!(end, End::Terminated(termination));
    let [run] = tap::runs(&text).try_into().unwrap();
    assert_eq!((run.plan, run.checks.len()), (None, 0), "{text}");
}

#[test]
fn a_failing_check_is_seen() {
    let Some((end, text)) = run_guest(77, 0, [0; 64]) else { return };
    assert_eq!(end, End::Done(0));
    let [run] = tap::runs(&text).try_into().unwrap();
    assert_eq!(run.checks, [("mode: 77 is not known".to_owned(), false)]);
}

/// Guests of a few bytes, which have nothing to say.
#[rstest]
#[case::never_ends(&[0xeb, 0xfe], End::Deadline)] // jmp $
#[case::halts(&[0xf4], End::Halted)] // hlt
#[case::gives_up(&[0xb0, 42, 0xe6, EXIT_PORT.to_le_bytes()[0], 0xf4], End::Done(42))] // mov al, 42; out 0f4h, al; hlt
fn guests_end(#[case] code: &[u8], #[case] expected: End) {
    let Some(c_bit) = c_bit() else { return };
    let elf = image::elf(code);
    let started = Instant::now();
    let task = GuestTask { mode: 0, count: 0, report_data: [0; 64] };
    let (end, console) = run_elf(c_bit, &elf, ProductLine::Milan, task, Duration::from_millis(300));
    assert_eq!((end, console), (expected, Vec::new()));
    assert!(started.elapsed() < TIME, "a deadline is kept");
}

/// The program says what came of such a guest, as a refusal.
#[test]
fn a_guest_that_gives_up_is_refused_by_the_demonstration() {
    let Some(tsmsim) = Tsmsim::find() else { return };
    if c_bit().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let elf = directory.path().join("guest.elf");
    fs::write(&elf, image::elf(&[0xf4])).unwrap();
    let said = tsmsim.say("demo --json", &[("--kernel", &elf)]).with_status(1);
    for row in said.json().as_array().unwrap() {
        let under_kvm = row["name"].as_str().unwrap().starts_with("kvm-");
        assert_eq!(row["verified"], !under_kvm, "{row:#}");
        if under_kvm {
            assert_eq!(row["reason"], "the guest did not come to its end");
        }
    }
}
