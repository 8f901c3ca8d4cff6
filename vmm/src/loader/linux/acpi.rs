//! The tables that make a PC of one processor: RSDP, XSDT, FADT, DSDT (empty), MADT, and CCEL for a TD.
//!
//! Linux without ACPI wants a multiprocessor table, or takes the machine for one without a local APIC. The MADT here names
//! the local APIC and no I/O APIC, so interrupts come from the 8259 through LINT0, and no I/O APIC has to be reached
//! through shared addresses. The fixed hardware that the FADT has to name (Linux gives ACPI up without it) is at ports
//! where nothing answers: there are no events, no power button, no timer. There is no PCI host either: serial ports are
//! where they have always been.

use acpi_tables::{
    Aml,
    fadt::{FADTBuilder, Flags},
    madt::{EnabledStatus, LocalInterruptController, MADT, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use tsmsim_abi::tdx::ccel::{CCEL_SIGNATURE, CcType, CcelTable};
use zerocopy::{FromZeros, IntoBytes};

const OEM: [u8; 6] = *b"TSMSIM";
const OEM_TABLE: [u8; 8] = *b"TSMSIMPC";
const LOCAL_APIC: u32 = 0xfee0_0000;
/// MADT flags: the machine has 8259 interrupt controllers as well.
const PCAT_COMPAT: u32 = 1;
/// Offset of the MADT's flags.
const MADT_FLAGS: usize = 40;
/// FADT `IAPC_BOOT_ARCH` (ACPI 6.5, table 5.11): devices of old PCs, no VGA, no message-signalled interrupts, no PCIe
/// ASPM.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;
/// The fixed hardware's events and control: ports, and how many.
const PM1A_EVENT: (u32, u8) = (0x600, 4);
const PM1A_CONTROL: (u32, u8) = (0x604, 2);
/// The interrupt of the fixed hardware.
const SCI: u16 = 9;
/// Tables begin at multiples of this.
const ALIGNMENT: usize = 64;

/// The log area that CCEL names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventLogArea {
    /// Guest-physical address.
    pub gpa: u64,
    /// Its size.
    pub size: u64,
}

/// The tables, RSDP first, for this guest-physical address.
#[must_use]
pub fn tables(gpa: u64, event_log: Option<EventLogArea>) -> Vec<u8> {
    let mut area = Area { gpa, bytes: vec![0; ALIGNMENT] };
    let dsdt = area.put(Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, 1).as_slice());
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, 1);
    xsdt.add_entry(area.put(&fadt(dsdt)));
    xsdt.add_entry(area.put(&madt()));
    if let Some(log) = event_log {
        xsdt.add_entry(area.put(ccel(log).as_bytes()));
    }
    let xsdt = area.put(&bytes(&xsdt));
    let rsdp = Rsdp::new(OEM, xsdt);
    area.bytes.splice(..Rsdp::len(), rsdp.as_bytes().iter().copied());
    area.bytes
}

struct Area {
    gpa: u64,
    bytes: Vec<u8>,
}

impl Area {
    /// Appends a table; gives its guest-physical address.
    fn put(&mut self, table: &[u8]) -> u64 {
        let offset = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(table);
        self.gpa + u64::try_from(offset).unwrap_or(0)
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, 1)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.sci_int = SCI.into();
    (fadt.pm1a_evt_blk, fadt.pm1_evt_len) = (PM1A_EVENT.0.into(), PM1A_EVENT.1);
    (fadt.pm1a_cnt_blk, fadt.pm1_cnt_len) = (PM1A_CONTROL.0.into(), PM1A_CONTROL.1);
    bytes(&fadt.finalize())
}

fn madt() -> Vec<u8> {
    let mut madt = MADT::new(OEM, OEM_TABLE, 1, LocalInterruptController::Address(LOCAL_APIC));
    madt.add_structure(ProcessorLocalApic::new(0, 0, EnabledStatus::Enabled));
    let mut bytes = bytes(&madt);
    // The crate leaves the flags zero.
    if let Some(flags) = bytes.get_mut(MADT_FLAGS..MADT_FLAGS + 4) {
        flags.copy_from_slice(&PCAT_COMPAT.to_le_bytes());
    }
    set_checksum(&mut bytes);
    bytes
}

fn ccel(log: EventLogArea) -> CcelTable {
    let mut table = CcelTable {
        signature: CCEL_SIGNATURE,
        length: 56.into(),
        revision: 1,
        oem_id: OEM,
        oem_table_id: OEM_TABLE,
        oem_revision: 1.into(),
        cc_type: CcType::TDX.0,
        log_area_minimum_length: log.size.into(),
        log_area_start_address: log.gpa.into(),
        ..CcelTable::new_zeroed()
    };
    set_checksum(table.as_mut_bytes());
    table
}

/// Makes the sum of all bytes zero, by the tenth.
fn set_checksum(table: &mut [u8]) {
    if let Some(checksum) = table.get_mut(9) {
        *checksum = 0;
    }
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(9) {
        *checksum = sum.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPA: u64 = 0x9_8000;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table at an address, by its own length; its sum is zero.
    fn table(area: &[u8], gpa: u64) -> &[u8] {
        let from = usize::try_from(gpa - GPA).unwrap();
        let length = u32::from_le_bytes(area[from + 4..from + 8].try_into().unwrap());
        let table = &area[from..from + usize::try_from(length).unwrap()];
        assert_eq!(sum(table), 0);
        table
    }

    /// From the RSDP to the tables that the XSDT names.
    fn walk(area: &[u8]) -> Vec<&[u8]> {
        assert_eq!(&area[..8], b"RSD PTR ");
        assert_eq!((sum(&area[..20]), sum(&area[..36]), area[15]), (0, 0, 2));
        let xsdt = table(area, u64_at(area, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        xsdt[36..].chunks(8).map(|entry| table(area, u64_at(entry, 0))).collect()
    }

    #[test]
    fn a_kernel_finds_processor_and_fixed_hardware() {
        let area = tables(GPA, None);
        let found = walk(&area);
        let names: Vec<_> = found.iter().map(|table| &table[..4]).collect();
        assert_eq!(names, [b"FACP", b"APIC"]);
        let dsdt = table(&area, u64_at(found[0], 140));
        assert_eq!((&dsdt[..4], dsdt.len()), (&b"DSDT"[..], 36));
        let madt = found[1];
        assert_eq!(madt[36..44], [0, 0, 0xe0, 0xfe, 1, 0, 0, 0]);
        // One structure: a local APIC, ID 0, enabled.
        assert_eq!(madt[44..], [0, 8, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_td_finds_its_log() {
        let area = tables(GPA, Some(EventLogArea { gpa: 0x83000, size: 0x1000 }));
        let found = walk(&area);
        let (ccel, _) = zerocopy::FromBytes::read_from_prefix(found[2]).unwrap();
        let ccel: CcelTable = ccel;
        assert_eq!((ccel.cc_type, ccel.log_area_start_address.get()), (CcType::TDX.0, 0x83000));
        assert!(ccel.checksum_holds());
    }
}
