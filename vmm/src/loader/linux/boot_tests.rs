use proptest::prelude::*;
use rstest::rstest;
use tsmsim_abi::{linux_boot::E820_MAX_ENTRIES, tdx::ccel::CCEL_SIGNATURE};
use tsmsim_simulator::snp::launch::LaunchDigest;
use zerocopy::FromBytes;

use super::*;
use crate::{
    engine::cpuid::CpuidEntry,
    loader::linux::image::tests::{ENTRY, kernel},
    paging::Walk,
};

const RAM: u64 = 8 << 20;

fn cpuid() -> CpuidTable {
    [CpuidEntry { function: 1, eax: 0x00a0_0f11, ..CpuidEntry::default() }].into_iter().collect()
}

/// What a case changes.
#[derive(Clone)]
struct Case {
    tdx: bool,
    ram: u64,
    initrd: Vec<u8>,
    command_line: String,
    acpi: bool,
    task: Vec<u8>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            tdx: false,
            ram: RAM,
            initrd: vec![0xaa; 5000],
            command_line: "console=ttyS0".to_owned(),
            acpi: true,
            task: b"nonce".to_vec(),
        }
    }
}

impl Case {
    fn load(&self) -> Result<(GuestRam, LoadedLinux), LinuxLoadError> {
        let ram = GuestRam::new(self.ram).unwrap();
        let kernel = KernelImage::read(&kernel()).unwrap();
        let table = cpuid();
        let guest = LinuxGuest {
            kernel: &kernel,
            initrd: &self.initrd,
            command_line: &self.command_line,
            tee: if self.tdx { Tee::Tdx } else { Tee::Snp { cpuid: &table } },
            acpi: self.acpi,
            task: &self.task,
        };
        load(&ram, &guest).map(|loaded| (ram, loaded))
    }

    fn loaded(&self) -> (GuestRam, LoadedLinux) {
        self.load().unwrap()
    }

    fn digest(&self) -> LaunchDigest {
        let (ram, loaded) = self.loaded();
        loaded.snp_plan(GuestPolicy::DEFAULT).measure(&ram).unwrap()
    }
}

fn read<T: FromBytes + IntoBytes>(ram: &GuestRam, gpa: u64) -> T {
    let mut value = T::new_zeroed();
    ram.read(gpa, value.as_mut_bytes()).unwrap();
    value
}

#[test]
fn the_kernel_finds_what_the_protocol_promises() {
    let (ram, loaded) = Case::default().loaded();
    let state = loaded.state();
    assert_eq!((state.initial.registers.rip, state.initial.registers.rsi), (ENTRY, BOOT_PARAMS));
    let parameters: BootParams = read(&ram, BOOT_PARAMS);
    let header = parameters.hdr;
    assert_eq!((header.header, header.boot_flag.get(), header.type_of_loader), (*b"HdrS", 0xaa55, 0xff));
    let (start, size) = (u64::from(header.ramdisk_image.get()), header.ramdisk_size.get());
    assert_eq!((start, size), (RAM - 8192, 5000));
    assert_eq!(read::<[u8; 4]>(&ram, start), [0xaa; 4]);
    assert_eq!(read::<[u8; 14]>(&ram, header.cmd_line_ptr.get().into()), *b"console=ttyS0\0");
    assert_eq!(read::<[u8; 8]>(&ram, parameters.acpi_rsdp_addr.get()), *b"RSD PTR ");
    let gdt: [u64; 4] = read(&ram, state.gdt.base);
    assert_eq!(gdt, descriptors());
    assert_eq!(gdt[usize::from(state.cs / 8)] >> 53 & 1, 1, "the code segment is one of 64 bits");
}

#[test]
fn the_memory_map_has_no_gaps_and_no_overlaps() {
    let (ram, loaded) = Case::default().loaded();
    let parameters: BootParams = read(&ram, BOOT_PARAMS);
    let count = usize::from(parameters.e820_entries);
    assert!(count < E820_MAX_ENTRIES);
    let map = &parameters.e820_table[..count];
    let end = map.iter().fold(0, |end, entry| {
        assert_eq!(entry.addr.get(), end);
        end + entry.size.get()
    });
    assert_eq!(end, RAM);
    let kind = |gpa: u64| {
        let entry =
            map.iter().find(|entry| (entry.addr.get()..entry.addr.get() + entry.size.get()).contains(&gpa));
        E820Type(entry.unwrap().kind.get())
    };
    for gpa in [CC_SETUP_DATA, CC_BLOB, SECRETS, CPUID, TASK, 0xa0000] {
        assert_eq!(kind(gpa), E820Type::RESERVED, "{gpa:#x}");
    }
    for gpa in [BOOT_PARAMS, PAGE_TABLES, GDT, COMMAND_LINE, 0x10_0000, RAM - 1] {
        assert_eq!(kind(gpa), E820Type::RAM, "{gpa:#x}");
    }
    assert_eq!(kind(ACPI.start), E820Type::ACPI);
    assert_eq!(loaded.ram_ranges(), [0..0xa0000, 0x10_0000..RAM]);
}

#[test]
fn an_snp_guest_finds_its_pages_by_the_list() {
    let (ram, _) = Case::default().loaded();
    let parameters: BootParams = read(&ram, BOOT_PARAMS);
    let first = parameters.hdr.setup_data.get();
    let node: SetupData = read(&ram, first);
    assert_eq!((SetupDataType(node.kind.get()), node.len.get()), (SetupDataType::CC_BLOB, 4));
    let blob: CcBlob = read(&ram, u32::from_le_bytes(read(&ram, first + 16)).into());
    assert_eq!(blob.magic.get(), CC_BLOB_MAGIC);
    assert_eq!((blob.secrets_phys.get(), blob.cpuid_phys.get()), (SECRETS, CPUID));
    let task: SetupData = read(&ram, node.next.get());
    assert_eq!(
        (SetupDataType(task.kind.get()), task.len.get(), task.next.get()),
        (SetupDataType::TSMSIM_TASK, 5, 0)
    );
    assert_eq!(read::<[u8; 5]>(&ram, node.next.get() + 16), *b"nonce");
    assert_eq!(read::<[u8; 4]>(&ram, CPUID), 1_u32.to_le_bytes());
}

#[rstest]
#[case::task(b"nonce")]
#[case::empty_task(b"")]
fn a_td_has_a_task_and_no_blob(#[case] task: &[u8]) {
    let (ram, _) = Case { tdx: true, task: task.to_vec(), ..Case::default() }.loaded();
    let parameters: BootParams = read(&ram, BOOT_PARAMS);
    let node: SetupData = read(&ram, parameters.hdr.setup_data.get());
    assert_eq!((SetupDataType(node.kind.get()), node.next.get()), (SetupDataType::TSMSIM_TASK, 0));
    assert_eq!(usize::try_from(node.len.get()), Ok(task.len()));
    let tables: [u8; 0x400] = read(&ram, ACPI.start);
    assert!(tables.windows(4).any(|bytes| bytes == CCEL_SIGNATURE));
    let log: [u8; 0x60] = read(&ram, EVENT_LOG);
    assert!(log.windows(15).any(|bytes| bytes == b"Spec ID Event03"));
}

#[test]
fn without_acpi_nothing_is_named() {
    let (ram, _) = Case { acpi: false, ..Case::default() }.loaded();
    assert_eq!(read::<BootParams>(&ram, BOOT_PARAMS).acpi_rsdp_addr.get(), 0);
    assert_eq!(read::<[u8; 8]>(&ram, ACPI.start), [0; 8]);
}

#[test]
fn every_page_of_memory_is_launched_once() {
    let (_, loaded) = Case::default().loaded();
    let plan = loaded.snp_plan(GuestPolicy::DEFAULT);
    let (vmsa, pages) = plan.pages.split_last().unwrap();
    assert_eq!(vmsa.page_type, PageType::VMSA);
    let gpas: Vec<u64> = pages.iter().map(|page| page.attributes.gpa).collect();
    let expected: Vec<u64> = (0..0xa0000).chain(0x10_0000..RAM).step_by(4096).collect();
    // A step over two ranges in a row would stumble if the first were no whole number of pages.
    assert_eq!(gpas, expected);
    let of = |kind| pages.iter().filter(move |page| page.page_type == kind).map(|page| page.attributes.gpa);
    assert_eq!(of(PageType::SECRETS).collect::<Vec<_>>(), [SECRETS]);
    assert_eq!(of(PageType::CPUID).collect::<Vec<_>>(), [CPUID]);
    assert_eq!(of(PageType::UNMEASURED).next(), Some(TASK));
    let kernel: Vec<_> = of(PageType::NORMAL).filter(|gpa| (0x10_0000..0x30_0000).contains(gpa)).collect();
    assert_eq!(kernel, [0x10_0000, 0x10_1000, 0x10_2000, 0x20_0000], "what is zero is a ZERO page");
    let td = Case { tdx: true, ..Case::default() }.loaded().1;
    let plan = td.tdx_plan(tdx::guest::default_params());
    assert_eq!(plan.pages.iter().map(|page| page.gpa).collect::<Vec<_>>(), expected);
    let unmeasured: Vec<_> =
        plan.pages.iter().filter(|page| page.gpa >= TASK && page.gpa < RESERVED.end).collect();
    assert!(unmeasured.iter().all(|page| !page.measured) && !unmeasured.is_empty());
}

#[rstest]
#[case::task(Case { task: b"another, longer nonce".to_vec(), ..Case::default() }, true)]
#[case::no_task(Case { task: Vec::new(), ..Case::default() }, true)]
#[case::command_line(Case { command_line: "console=ttyS1".to_owned(), ..Case::default() }, false)]
#[case::initrd(Case { initrd: vec![0xab; 5000], ..Case::default() }, false)]
#[case::memory(Case { ram: RAM + 4096, ..Case::default() }, false)]
#[case::acpi(Case { acpi: false, ..Case::default() }, false)]
fn only_the_task_is_not_measured(#[case] case: Case, #[case] same: bool) {
    assert_eq!(case.digest() == Case::default().digest(), same);
}

#[test]
fn the_vmsa_says_what_the_state_says() {
    let (ram, loaded) = Case::default().loaded();
    let (state, vmsa) = (loaded.state(), loaded.vmsa());
    let registers = state.initial.registers;
    assert_eq!(
        (vmsa.rip.get(), vmsa.rsi.get(), vmsa.rsp.get()),
        (registers.rip, registers.rsi, registers.rsp)
    );
    assert_eq!((vmsa.cr0.get(), vmsa.cr3.get()), (state.initial.cr0, state.initial.cr3));
    assert_eq!(vmsa.cr4.get() & !0x40, state.initial.cr4);
    assert_eq!(vmsa.efer.get() & !0x1000, state.initial.efer);
    assert_eq!((vmsa.cs.selector.get(), vmsa.ds.selector.get(), vmsa.ss.selector.get()), (0x10, 0x18, 0x18));
    assert_eq!((vmsa.gdtr.base.get(), vmsa.gdtr.limit.get()), (state.gdt.base, 31));
    let walk = crate::engine::SystemRegisters {
        cr0: state.initial.cr0,
        cr3: state.initial.cr3,
        cr4: state.initial.cr4,
        efer: state.initial.efer,
        cpl: 0,
    };
    let entry = Walk::new(&ram, &walk, None).translate(registers.rip).unwrap();
    assert_eq!(entry.gpa, ENTRY);
}

#[rstest]
#[case::ram(Case { ram: 3 << 20, initrd: vec![1; 1 << 20], ..Case::default() })]
#[case::tiny_ram(Case { ram: 1 << 20, ..Case::default() })]
#[case::long_line(Case { command_line: "x".repeat(COMMAND_LINE_MAX + 1), ..Case::default() })]
#[case::zero_in_the_line(Case { command_line: "a\0b".to_owned(), ..Case::default() })]
#[case::long_task(Case { task: vec![0; TASK_MAX + 1], ..Case::default() })]
fn what_does_not_fit(#[case] case: Case) {
    let error = case.load().unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[rstest]
#[case::longest_line(Case { command_line: "x".repeat(COMMAND_LINE_MAX), ..Case::default() })]
#[case::longest_task(Case { task: vec![7; TASK_MAX], ..Case::default() })]
#[case::no_initrd(Case { initrd: Vec::new(), ..Case::default() })]
#[case::no_line(Case { command_line: String::new(), ..Case::default() })]
#[case::just_enough_ram(Case { ram: 0x20_6000, ..Case::default() })]
fn what_just_fits(#[case] case: Case) {
    let (ram, loaded) = case.loaded();
    assert!(loaded.snp_plan(GuestPolicy::DEFAULT).measure(&ram).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_sizes_are_answered(ram in 1_u64..2048, initrd in 0_usize..(3 << 20), task in 0_usize..(TASK_MAX + 10), acpi: bool, tdx: bool) {
        let case = Case { ram: ram * 4096, initrd: vec![1; initrd], task: vec![2; task], acpi, tdx, ..Case::default() };
        if let Ok((ram, loaded)) = case.load() {
            let pages = loaded.snp_plan(GuestPolicy::DEFAULT).pages;
            prop_assert!(pages.iter().take(pages.len() - 1).all(|page| ram.contains(page.attributes.gpa, 4096)));
        }
    }
}
