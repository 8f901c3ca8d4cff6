//! Writes the seeds of every target but `tcb_version` into `seeds/`. They follow from the default seed, so running it again
//! changes nothing unless a format has changed.

#[path = "make-seeds/cove.rs"]
mod cove;
#[path = "make-seeds/linux.rs"]
mod linux;
#[path = "make-seeds/riscv.rs"]
mod riscv;

use std::{fs, path::Path};

use tsmsim_abi::{
    guid::Guid,
    snp::{
        ghcb::ExitCode,
        launch::{IdBlock, PageType},
        message::MessageType,
        msr::{GhcbInfo, GhcbMsr, MSR_GHCB},
        ovmf,
        payload::{CpuidReq, ExportReq, KeyReq, ReportReq, TscInfoReq, VmrkReq},
        psc::{PscEntryBits, PscOperation},
    },
    tdx::{
        ccel::{EventType, LogWriter, MeasurementRegister},
        leaf::TdcallLeaf,
        qgs::{FrameHeader, Message},
        vmcall::VmcallSubFunction,
    },
};
use tsmsim_fuzz::{PRIVATE_GPA, SHARED_GPA, samples, tdx};
use tsmsim_keys::SignatureMode;
use tsmsim_userland::drivers::uapi::{SNP_GET_REPORT, TDX_CMD_GET_REPORT0};
use tsmsim_vmm::engine::SystemRegisters;
use zerocopy::{FromZeros, IntoBytes};

/// Bytes put together piece by piece.
#[derive(Clone, Default)]
struct Seed(Vec<u8>);

impl Seed {
    fn put(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    fn sized(self, bytes: impl AsRef<[u8]>) -> Self {
        let length = u16::try_from(bytes.as_ref().len()).expect("seeds are small");
        self.put(length.to_le_bytes()).put(bytes)
    }

    fn words(self, words: &[u64]) -> Self {
        words.iter().fold(self, |seed, word| seed.put(word.to_le_bytes()))
    }

    fn write(self, target: &str, name: &str) {
        write(target, name, &self.0);
    }
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&directory).expect("the directory can be made");
    fs::write(directory.join(name), bytes).expect("the file can be written");
}

fn main() {
    msr();
    pages();
    page_states();
    messages();
    launch();
    evidence();
    images();
    walk();
    dispatch();
    tdcalls();
    get_quote();
    qgs();
    quotes();
    configfs();
    ioctls();
    cove::seeds();
    linux::seeds();
    riscv::seeds();
}

fn msr() {
    let step = |seed: Seed, vcpu: u8, msr: GhcbMsr| seed.put([vcpu]).words(&[msr.0]);
    let plain = [
        GhcbInfo::SEV_INFO_REQUEST,
        GhcbInfo::HYPERVISOR_FEATURES_REQUEST,
        GhcbInfo::CPUID_REQUEST,
        GhcbInfo::PREFERRED_GHCB_REQUEST,
        GhcbInfo::AP_RESET_HOLD_REQUEST,
        GhcbInfo::RUN_VMPL_REQUEST,
    ];
    let all = plain.into_iter().fold(Seed::default(), |seed, info| step(seed, 0, GhcbMsr::request(info)));
    all.write("ghcb_msr", "requests");
    let gfn = SHARED_GPA >> 12;
    let seed = step(Seed::default(), 0, GhcbMsr::page_state_change(gfn, PscOperation::PRIVATE.0));
    let seed = step(seed, 0, GhcbMsr::page_state_change(gfn, PscOperation::SHARED.0));
    let seed = step(seed, 0x81, GhcbMsr::new(GhcbInfo::REGISTER_GHCB_REQUEST, gfn));
    step(seed, 0, GhcbMsr::request(GhcbInfo::TERMINATION_REQUEST)).write("ghcb_msr", "pages");
}

/// A well-formed exit of `ghcb_page`: shared buffer, version, code, operands, RAX, RBX, RCX, RDX.
fn exit(seed: Seed, code: ExitCode, infos: [u64; 2], registers: [u64; 4], buffer: &[u8]) -> Seed {
    let code = u32::try_from(code.0).unwrap_or(u32::MAX);
    seed.put([3])
        .sized(buffer)
        .put([0])
        .put(code.to_le_bytes())
        .words(&infos)
        .words(&registers)
        .words(&[1])
        .put([0, 0])
}

fn pages() {
    const ONE_BYTE_OUT: u64 = 0x3f8 << 16 | 1 << 9 | 1 << 4;
    let cases: [(&str, ExitCode, [u64; 2], [u64; 4]); 14] = [
        ("cpuid", ExitCode::CPUID, [0, 0], [1, 0, 0, 0]),
        ("out", ExitCode::IOIO, [ONE_BYTE_OUT, 0], [0x41, 0, 0, 0]),
        ("outs", ExitCode::IOIO, [ONE_BYTE_OUT | 1 << 2 | 1 << 3, 4], [0; 4]),
        ("msr", ExitCode::MSR, [1, 0], [0, 0, 0x10, 0]),
        ("dr7", ExitCode::WRITE_DR7, [0, 0], [0x400, 0, 0, 0]),
        ("mmio-read", ExitCode::MMIO_READ, [0xfee0_0000, 4], [0; 4]),
        ("mmio-write", ExitCode::MMIO_WRITE, [0xfee0_0000, 4], [0; 4]),
        ("page-state-change", ExitCode::PAGE_STATE_CHANGE, [0, 0], [0; 4]),
        ("guest-request", ExitCode::GUEST_REQUEST, [0x2000, 0x3000], [0; 4]),
        ("extended-guest-request", ExitCode::EXTENDED_GUEST_REQUEST, [0x2000, 0x3000], [0x4000, 8, 0, 0]),
        ("ap-creation", ExitCode::AP_CREATION, [3 << 32 | 1, PRIVATE_GPA], [1, 0, 0, 0]),
        ("apic-ids", ExitCode::APIC_ID_LIST, [0x4000, 0], [1, 0, 0, 0]),
        ("reset-hold", ExitCode::AP_RESET_HOLD, [0, 0], [0; 4]),
        ("terminate", ExitCode::TERMINATION_REQUEST, [1, 0], [0; 4]),
    ];
    for (name, code, infos, registers) in cases {
        let buffer = buffer(&[(PRIVATE_GPA >> 12, PscOperation::SHARED, false)]);
        exit(Seed::default().put([0]), code, infos, registers, &buffer).write("ghcb_page", name);
    }
    Seed::default().put([0, 0]).words(&[0x1000]).write("ghcb_page", "msr-value");
    Seed::default().put([0, 2]).sized([0xff; 64]).write("ghcb_page", "any-page");
}

fn buffer(entries: &[(u64, PscOperation, bool)]) -> Vec<u8> {
    let last = u64::try_from(entries.len()).expect("few").saturating_sub(1);
    let entry = |(gfn, operation, large): &(u64, PscOperation, bool)| {
        PscEntryBits::new().with_gfn(*gfn).with_operation(operation.0).with_large(*large).into()
    };
    [last << 16].into_iter().chain(entries.iter().map(entry)).flat_map(u64::to_le_bytes).collect()
}

fn page_states() {
    let change = |seed: Seed, entries: &[_]| seed.put([2]).sized(buffer(entries));
    // Flags, frame, operand: PVALIDATE, then RMPADJUST of a VMSA for VMPL1.
    let validate =
        |seed: Seed, flags: u8, gfn: u16| seed.put([1, flags]).put(gfn.to_le_bytes()).put([1, 0, 0, 0]);
    let adjust = |seed: Seed, gfn: u16| seed.put([1, 0x80]).put(gfn.to_le_bytes()).put([1, 0, 1, 0]);
    let start = || Seed::default().put([0xff, 0xff]);
    let small =
        change(start(), &[(0x100, PscOperation::PRIVATE, false), (0x101, PscOperation::PRIVATE, false)]);
    adjust(validate(small, 0, 0x100), 0x100).write("page_state_change", "small");
    let large = validate(change(start(), &[(0x200, PscOperation::PRIVATE, true)]), 2 | 1 << 2, 0x200);
    let large = change(large, &[(0x200, PscOperation::PSMASH, true), (0x201, PscOperation::SHARED, false)]);
    change(large, &[(0x200, PscOperation::SHARED, true)]).write("page_state_change", "large");
    let slow = Seed::default().put([3, 0]);
    let slow = change(slow, &[(0x301, PscOperation::PRIVATE, false), (0x200, PscOperation::SHARED, true)]);
    change(slow, &[(0x200, PscOperation::PRIVATE, true)]).write("page_state_change", "step-by-step");
    let operand = (0x100_u64 | 1 << 40) << 12;
    Seed::default().put([1, 0, 0]).words(&[operand]).write("page_state_change", "msr");
}

fn messages() {
    let message = |kind: u8, message_type: MessageType, version: u8, payload: &[u8]| {
        Seed::default().put([kind, message_type.0, version]).sized(payload)
    };
    let mut report = ReportReq::new_zeroed();
    report.report_data = [7; 64];
    message(0, MessageType::REPORT_REQ, 1, report.as_bytes()).write("guest_message", "report");
    let mut key = KeyReq::new_zeroed();
    key.guest_field_select.set(0x3f);
    message(4, MessageType::KEY_REQ, 1, key.as_bytes()).write("guest_message", "key");
    message(0, MessageType::KEY_REQ, 2, &[0; 48]).write("guest_message", "key-2");
    let mut cpuid = CpuidReq::new_zeroed();
    cpuid.count.set(2);
    cpuid.functions[1].eax_in.set(0x8000_001f);
    message(0, MessageType::CPUID_REQ, 1, &cpuid.as_bytes()[..0x70]).write("guest_message", "cpuid");
    let tsc = TscInfoReq::new_zeroed();
    message(0, MessageType::TSC_INFO_REQ, 1, tsc.as_bytes()).write("guest_message", "tsc");
    let mut export = ExportReq::new_zeroed();
    export.gctx_paddr.set(0x1000);
    message(2, MessageType::EXPORT_REQ, 1, export.as_bytes()).write("guest_message", "export");
    let mut vmrk = VmrkReq::new_zeroed();
    vmrk.gctx_paddr.set(0x3000);
    message(2, MessageType::VMRK_REQ, 1, vmrk.as_bytes()).write("guest_message", "vmrk");
    // Address of the context, size and version of what comes in.
    let incoming = Seed::default().words(&[0x3000]).put([0, 3, 0, 0, 1, 0, 0, 0]).put([0; 0x310]).0;
    message(2, MessageType::IMPORT_REQ, 1, &incoming).write("guest_message", "import");
    message(2, MessageType::ABSORB_REQ, 1, &incoming).write("guest_message", "absorb");
    message(0, MessageType::ABSORB_NOMA_REQ, 1, &incoming).write("guest_message", "absorb-noma");
    Seed::default().put([1]).sized([1; 96]).write("guest_message", "raw");
}

fn launch() {
    let start = |seed: Seed, gctx: u8, flags: u8| seed.put([1, gctx, flags]).put([0; 20]);
    let activate = |seed: Seed, gctx: u8| seed.put([2, gctx]).put(u32::from(gctx).to_le_bytes());
    let update = |seed: Seed, gctx: u8, page_type: PageType, gfn: u64| {
        seed.put([3, gctx, page_type.0, 0]).words(&[gfn << 12]).put([0; 3]).sized([1; 16])
    };
    let finish = |seed: Seed, gctx: u8, flags: u8| {
        seed.put([4, gctx, flags]).put([0; size_of::<IdBlock>()]).sized([]).put([0; 32])
    };
    let begun = |gctx: u8| activate(start(Seed::default().put([0, gctx]), gctx, 0), gctx);
    let types = [PageType::NORMAL, PageType::ZERO, PageType::UNMEASURED, PageType::SECRETS, PageType::VMSA];
    let pages = types.into_iter().fold(begun(1), |seed, page_type| update(seed, 1, page_type, 2));
    let pages = update(pages, 1, PageType::CPUID, 4);
    finish(pages, 1, 4).put([5, 1, 7, 1]).write("launch", "guest");
    finish(begun(2), 2, 1 | 2 | 16).write("launch", "id-block");
    let agent = finish(begun(1), 1, 0).put([0, 2]);
    let policy = Seed::default().put([1, 2, 1 | 2 | 1 << 4]).words(&[0x7_0000]).0;
    activate(agent.put(policy).put([0; 20]), 2).write("launch", "migration-agent");
    finish(begun(1), 1, 0).put([8, 0, 3, 6, 1]).sized([1; 96]).write("launch", "request");
}

fn evidence() {
    let bundle = samples::bundle();
    let place = |place: &Option<Vec<u8>>| place.clone().expect("the bundle has it");
    Seed::default().put([0]).write("evidence_verify", "good");
    Seed::default().put([2, 0, 8, 0, 1, 0xff]).write("evidence_verify", "policy");
    Seed::default().put([0, 4, 0x00, 0x04, 1, 0xff]).write("evidence_verify", "signature");
    Seed::default().put([4, 5, 0x40, 0x00, 255]).write("evidence_verify", "short");
    let any = Seed::default().put([1]).sized(&bundle.report);
    any.sized([]).sized([]).sized(place(&bundle.vcek)).write("evidence_verify", "report-and-vcek");
    write("evidence_show", "report", &bundle.report);
    write("evidence_show", "vcek", &place(&bundle.vcek));
    write("evidence_show", "crl", &place(&bundle.crl));
    write("evidence_show", "table", &place(&bundle.table));
    write("evidence_show", "pem", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    // Two entries of one byte each, and the closing one.
    let entry =
        |guid: u8, offset: u32| Seed::default().put([guid; 16]).put(offset.to_le_bytes()).put([1, 0, 0, 0]).0;
    let table = Seed::default().put(entry(1, 72)).put(entry(2, 73)).put([0; 24]).put([5, 6]);
    write("cert_table", "two", &table.0);
    write("cert_table", "empty", &[0; 24]);
}

/// An image of one segment at these addresses, with the code at offset 0x100, where it begins. Offsets are those of the ELF-64
/// header and program header.
fn elf(virtual_address: u64, physical_address: u64, code: &[u8]) -> Vec<u8> {
    let mut elf = vec![0; 0x120];
    let mut set = |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
    set(0, b"\x7fELF\x02\x01\x01");
    set(0x10, &[2, 0, 0x3e, 0, 1]);
    let words: [(usize, u64); 8] = [
        (0x18, physical_address + 0x100),
        (0x20, 0x40),
        (0x48, 0),
        (0x50, virtual_address),
        (0x58, physical_address),
        (0x60, 0x120),
        (0x68, 0x2000),
        (0x70, 0x1000),
    ];
    words.into_iter().for_each(|(offset, word)| set(offset, &word.to_le_bytes()));
    set(0x34, &[64, 0, 56, 0, 1, 0, 64]);
    set(0x40, &[1, 0, 0, 0, 5]);
    set(0x100, code);
    elf
}

fn images() {
    // VMGEXIT, HLT.
    let elf = elf(0x1_0000, 0x1_0000, &[0xf3, 0x0f, 0x01, 0xd9, 0xf4]);
    write("elf_image", "small", &elf);

    let sections: [[u32; 3]; 3] = [[0x80_0000, 0x1000, 1], [0x80_1000, 0x1000, 2], [0x80_2000, 0x1000, 3]];
    let mut metadata = Seed::default().put(b"ASEV");
    for word in [16 + 36, 1, 3].into_iter().chain(sections.into_iter().flatten()) {
        metadata = metadata.put(word.to_le_bytes());
    }
    let entry = |guid: Guid, word: u32| Seed::default().put(word.to_le_bytes()).put([22, 0]).put(guid.0).0;
    let table = [
        entry(ovmf::METADATA_GUID, 0x100),
        entry(ovmf::RESET_BLOCK_GUID, 0x80_b004),
        entry(ovmf::HASH_TABLE_AREA_GUID, 0x80_3c00),
    ]
    .concat();
    let size = u16::try_from(table.len() + 18).expect("few entries");
    let footer = Seed::default().put(&table).put(size.to_le_bytes()).put(ovmf::FOOTER_GUID.0).0;
    let mut tail = vec![0; 0x100];
    tail[..metadata.0.len()].copy_from_slice(&metadata.0);
    let end = tail.len() - ovmf::FOOTER_FROM_END;
    tail[end - footer.len()..end].copy_from_slice(&footer);
    write("ovmf_image", "qemu", &Seed::default().put([0]).put(&tail).0);
    write("ovmf_image", "hashes", &Seed::default().put([0x80]).put(&tail).0);
}

fn walk() {
    const PAGING: u64 = 1 << 31 | 1;
    let registers = SystemRegisters { cr0: PAGING, cr3: 0x1000, cr4: 1 << 5, efer: 1 << 10 | 1 << 8, cpl: 0 };
    let SystemRegisters { cr0, cr3, cr4, efer, .. } = registers;
    let entry = |seed: Seed, frame: u8, entry: u64| seed.put([frame, 0, 0]).words(&[entry]);
    let start = |entries| Seed::default().words(&[cr0, cr3, cr4, efer]).put([0x80 | 51, entries]);
    let upper = |seed| entry(entry(entry(seed, 1, 0x2003), 2, 0x3003), 3, 0x4003);
    entry(upper(start(4)), 4, 1 << 51 | 0x5003).words(&[0x123]).write("page_walk", "4k");
    entry(entry(entry(start(3), 1, 0x2003), 2, 0x3003), 3, 0x20_0083)
        .words(&[0x1234])
        .write("page_walk", "2m");
    entry(entry(start(2), 1, 0x2003), 2, 0x83).words(&[0x1234, 1 << 47]).write("page_walk", "1g");
}

fn dispatch() {
    let msr = |seed: Seed, msr: GhcbMsr| seed.put([3]).words(&[msr.0]).put([0]);
    let seed = msr(Seed::default(), GhcbMsr::request(GhcbInfo::SEV_INFO_REQUEST));
    let seed = msr(seed, GhcbMsr::page_state_change(0x10, PscOperation::PRIVATE.0));
    // PVALIDATE and RMPADJUST with RAX, RCX, RDX.
    let seed = seed.put([0x81]).words(&[0x1_0000, 0, 1]).put([0x82]).words(&[0x1_0000, 0, 1]);
    seed.put([6]).put(MSR_GHCB.to_le_bytes()).put([11]).write("machine_dispatch", "pages");
    let ports = Seed::default().put([7, 0xf8, 3, 0, 1, 8, 0xf8, 3, 0]).sized([0x41]);
    let memory = ports.put([9]).words(&[0xfee0_0000]).put([3, 10]).words(&[0xfee0_0000, 1]);
    memory.put([14]).put([0; 8]).put([12]).write("machine_dispatch", "devices");
}

/// Steps of `tdx_tdcall`: any registers of a leaf, RAX, RCX, RDX, R8 to R15; a TDVMCALL by its sub-function, R12 to R15.
fn tdcalls() {
    let call = |seed: Seed, leaf: TdcallLeaf, operands: [u64; 3]| {
        seed.put([0]).words(&[leaf.0.into()]).words(&operands).words(&[0; 8])
    };
    let vmcall = |seed: Seed, sub_function: VmcallSubFunction, operands: [u64; 2]| {
        let number = u32::try_from(sub_function.0).expect("numbers are small");
        seed.put([1]).put(number.to_le_bytes()).words(&operands).words(&[0; 2])
    };
    let (report, data) = (PRIVATE_GPA, PRIVATE_GPA + 0x400);
    let seed = call(Seed::default(), TdcallLeaf::TDG_VP_INFO, [0; 3]);
    let seed = call(seed, TdcallLeaf::TDG_MR_RTMR_EXTEND, [data, 2, 0]);
    let seed = call(seed, TdcallLeaf::TDG_MR_REPORT, [report, data, 0]);
    let seed = call(seed, TdcallLeaf::TDG_MR_VERIFYREPORT, [report, 0, 0]);
    call(seed, TdcallLeaf::TDG_VM_RD, [0, u64::MAX, 0]).write("tdx_tdcall", "report");
    let seed = call(Seed::default(), TdcallLeaf::TDG_MEM_PAGE_ACCEPT, [0x20_0001, 0, 0]);
    let seed = vmcall(seed, VmcallSubFunction::MAP_GPA, [0x20_0000 | 1 << 47, 0x2000]);
    let seed = vmcall(seed, VmcallSubFunction::MAP_GPA, [0x20_0000, 0x2000]);
    call(seed, TdcallLeaf::TDG_MEM_PAGE_ACCEPT, [0x20_0000, 0, 0]).write("tdx_tdcall", "pages");
    let seed = vmcall(Seed::default(), VmcallSubFunction::GET_TD_VM_CALL_INFO, [1, 0]);
    let seed = vmcall(seed, VmcallSubFunction::INSTRUCTION_CPUID, [1, 0]);
    let seed = vmcall(seed, VmcallSubFunction::GET_QUOTE, [SHARED_GPA | 1 << 47, 0x2000]);
    vmcall(seed, VmcallSubFunction::REPORT_FATAL_ERROR, [0, 0]).write("tdx_tdcall", "host");
}

fn get_quote() {
    // Kind, pages, then the edit's offset and bytes; or the request; or the buffer from its header on.
    Seed::default().put([1, 2, 0, 0, 0, 0]).write("tdx_get_quote", "report");
    Seed::default().put([5, 2, 0x80, 0, 1, 0, 0xff, 5, 0]).write("tdx_get_quote", "changed-and-in-flight");
    let header = Seed::default().words(&[1, 0]).put([16, 0, 0, 0, 0, 0, 0, 0]).0;
    Seed::default().put([2, 2]).sized(header).write("tdx_get_quote", "raw");
}

fn qgs() {
    let message = |message: &Message<'_>| {
        let mut bytes = vec![0; message.size()];
        message.write(&mut bytes).expect("it fits");
        bytes
    };
    let platform = message(&Message::GetPlatformInfoReq);
    write("qgs_message", "platform-info", &platform);
    let size = u32::try_from(platform.len()).expect("it is small");
    let framed = Seed::default().put(FrameHeader { size: size.into() }.as_bytes()).put(platform);
    framed.write("qgs_message", "framed");
    let report = tdx::report(&[7; 64]);
    let request = Message::GetQuoteReq { report: report.as_bytes(), id_list: &[] };
    write("qgs_message", "quote", &message(&request));
    let platform = tdx::platform(SignatureMode::Randomized);
    let request = Message::GetCollateralReq {
        fmspc: &platform.identity().fmspc,
        pck_ca: platform.identity().ca().name().as_bytes(),
    };
    write("qgs_message", "collateral", &message(&request));
}

fn quotes() {
    let bundle = tdx::bundle();
    write("evidence_show", "quote", &bundle.quote);
    write("evidence_show", "tdreport", &bundle.td_report.expect("the bundle has it"));
    write("evidence_show", "collateral", &bundle.collateral.expect("the bundle has it"));
    write("evidence_show", "ccel", &event_log());
    Seed::default().put([0]).write("quote_verify", "good");
    Seed::default().put([8, 0, 0x40, 0x00, 1, 0xff]).write("quote_verify", "body");
    Seed::default().put([0, 3, 0x00, 0x10, 255]).write("quote_verify", "short-collateral");
}

/// A log of two records, and padding.
fn event_log() -> Vec<u8> {
    let mut area = vec![0xff; 256];
    let mut log = LogWriter::new(&mut area).expect("the area is large enough");
    for (register, event) in
        [(MeasurementRegister::RTMR0, &b"a"[..]), (MeasurementRegister::RTMR2, b"kernel")]
    {
        log.event(register, EventType::EV_ACTION, &[7; 48], event).expect("the area is large enough");
    }
    area
}

fn configfs() {
    let blob = |what: u8| [[what, 9].as_slice(), &[7; 62]].concat();
    let entry = Seed::default().put([5, 0, 0]).sized(b"entry");
    let report = |what| entry.clone().put([10, 0]).sized(blob(what)).put([11, 0]);
    for (name, what) in [("refused", 0), ("nothing", 1), ("empty", 2), ("all-blobs", 3), ("report", 4)] {
        report(what).write("userland_configfs", name);
    }
    let pieces = entry.clone().put([2, 0, 3, 1, 4, 0, 32, 0]).sized([1; 32]).put([4, 0, 0, 0]).sized([2; 32]);
    pieces.put([5, 0, 11, 0]).write("userland_configfs", "inblob-in-pieces");
    let removed = report(4).put([2, 0, 2, 0, 1, 0, 3, 0, 0, 0, 64, 0, 5, 0]);
    removed.write("userland_configfs", "read-after-rmdir");
    let text = entry.put([2, 0, 8, 1, 4, 0, 0, 0]).sized(b"2\n").put([5, 0, 9, 0, 11, 0, 9, 1, 11, 0]);
    text.write("userland_configfs", "privlevel-and-provider");
}

fn ioctls() {
    let known = |seed: Seed, command, pages, request: &[u8]| seed.put([1, command, 1, pages]).sized(request);
    let report = |seed| known(seed, 0, 0, &[7; 64]);
    for (name, style) in [("linux-6.12", 0), ("linux-6.16", 1)] {
        let seed = known(report(Seed::default().put([style])), 1, 0, &[0; 32]);
        let seed = known(known(seed, 2, 1, &[7; 64]), 2, 4, &[7; 64]);
        let by_configfs = seed.put([5, 0, 0, 0, 0, 0]).sized([7; 64]);
        let wild = by_configfs.put([0]).put(SNP_GET_REPORT.to_le_bytes()).sized([1; 32]);
        wild.put([2]).put(SNP_GET_REPORT.to_le_bytes()).put([0; 2]).write("sev_guest_ioctl", name);
    }
    // Point 10: the host's error of a guest request; 6: the response page; 5: the report.
    let busy = Seed::default().put([0, 4, 10, 0]).words(&[2]).put([3]);
    report(busy).write("sev_guest_ioctl", "busy-host");
    let flipped = Seed::default().put([0, 4, 6, 1, 0, 2, 1]);
    report(report(flipped)).write("sev_guest_ioctl", "response-with-a-flipped-bit");
    for (name, first) in
        [("linux-6.12", 0), ("linux-6.16-delayed", 2 | 2 << 2), ("linux-7.1-late", 3 | 4 << 2)]
    {
        let seed = Seed::default().put([first, 1]).put([7; 64]);
        let seed =
            seed.put([5, 0, 0, 0, 0, 0]).sized([7; 64]).put([15, 0, 0]).sized([3; 48]).put([7, 0, 0, 48]);
        let wild = seed.put([0]).put(TDX_CMD_GET_REPORT0.to_le_bytes()).sized([1; 64]).put([2, 0, 0, 0]);
        wild.write("tdx_guest_ioctl", name);
    }
}
