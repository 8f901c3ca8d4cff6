//! The device tree of a RISC-V guest: the devices of QEMU's `virt` machine that a guest needs, described by us, so that the
//! measurement depends on no version of QEMU.
//!
//! Addresses and interrupts are those of QEMU's `hw/riscv/virt.c`; the bindings are those of Linux,
//! `Documentation/devicetree/bindings`.

use std::ops::Range;

use vm_fdt::{Error, FdtWriter};

use crate::engine::riscv::RAM_BASE;

/// Ticks of the timer in a second.
const TIMEBASE_FREQUENCY: u32 = 10_000_000;
/// What the hart can do, as far as guests are told: the base that Linux distributions need.
const ISA_BASE: &str = "rv64i";
const ISA_EXTENSIONS: [&str; 8] = ["i", "m", "a", "f", "d", "c", "zicsr", "zifencei"];
const ISA: &str = "rv64imafdc_zicsr_zifencei";

const TEST: Range<u64> = 0x10_0000..0x10_1000;
const RTC: Range<u64> = 0x10_1000..0x10_2000;
const CLINT: Range<u64> = 0x200_0000..0x201_0000;
const PCI_IO: Range<u64> = 0x300_0000..0x301_0000;
const PLIC: Range<u64> = 0xc00_0000..0xc60_0000;
const UART: Range<u64> = 0x1000_0000..0x1000_0100;
const PCI_ECAM: Range<u64> = 0x3000_0000..0x4000_0000;
const PCI_MEMORY: Range<u64> = 0x4000_0000..0x8000_0000;
/// The board's serial port: the console.
const CONSOLE: &str = "/soc/serial@10000000";

/// Sources of interrupts.
const INTERRUPTS: u32 = 53;
const UART_INTERRUPT: u32 = 10;
const RTC_INTERRUPT: u32 = 11;
/// The first of four, for pins A to D of the device in slot 0; each further slot is one pin on.
const PCI_INTERRUPT: u32 = 32;
const PCI_PINS: u32 = 4;
/// Interrupts of the hart: of machine and supervisor mode, from software, timer and outside.
const M_SOFTWARE: u32 = 3;
const M_TIMER: u32 = 7;
const S_EXTERNAL: u32 = 9;
const M_EXTERNAL: u32 = 11;

const HART_PHANDLE: u32 = 1;
const PLIC_PHANDLE: u32 = 2;

/// A cell of `ranges`: which space of PCI (IEEE 1275, PCI bus binding, "phys.hi").
const PCI_SPACE_IO: u32 = 0x0100_0000;
const PCI_SPACE_MEMORY: u32 = 0x0200_0000;

/// For whom a device tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader<'a> {
    /// The guest's kernel.
    Kernel {
        /// The command line.
        command_line: &'a str,
        /// Where the RAM disk is; empty: none.
        initrd: &'a Range<u64>,
    },
    /// Firmware in machine mode, which has the timer and the reset device to itself.
    Firmware,
}

/// The device tree of a machine with one hart and `ram_size` bytes of RAM.
///
/// # Errors
/// If the command line has a zero in it, or is far too long.
pub fn device_tree(ram_size: u64, reader: Reader<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    cells(&mut fdt, 2, 2)?;
    fdt.property_string("compatible", "riscv-virtio")?;
    fdt.property_string("model", "tsmsim,tvm")?;
    chosen(&mut fdt, reader)?;
    let memory = fdt.begin_node(&format!("memory@{RAM_BASE:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM_BASE, ram_size])?;
    fdt.end_node(memory)?;
    hart(&mut fdt)?;
    let soc = fdt.begin_node("soc")?;
    cells(&mut fdt, 2, 2)?;
    fdt.property_string("compatible", "simple-bus")?;
    fdt.property_null("ranges")?;
    plic(&mut fdt)?;
    uart(&mut fdt)?;
    match reader {
        Reader::Kernel { .. } => {
            rtc(&mut fdt)?;
            pci(&mut fdt)?;
        }
        Reader::Firmware => {
            clint(&mut fdt)?;
            test(&mut fdt)?;
        }
    }
    fdt.end_node(soc)?;
    fdt.end_node(root)?;
    fdt.finish()
}

fn cells(fdt: &mut FdtWriter, address: u32, size: u32) -> Result<(), Error> {
    fdt.property_u32("#address-cells", address)?;
    fdt.property_u32("#size-cells", size)
}

fn reg(fdt: &mut FdtWriter, range: &Range<u64>) -> Result<(), Error> {
    fdt.property_array_u64("reg", &[range.start, range.end - range.start])
}

fn strings(fdt: &mut FdtWriter, name: &str, values: &[&str]) -> Result<(), Error> {
    fdt.property_string_list(name, values.iter().map(|&value| value.to_owned()).collect())
}

fn chosen(fdt: &mut FdtWriter, reader: Reader<'_>) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("stdout-path", CONSOLE)?;
    if let Reader::Kernel { command_line, initrd } = reader {
        fdt.property_string("bootargs", command_line)?;
        if !initrd.is_empty() {
            fdt.property_u64("linux,initrd-start", initrd.start)?;
            fdt.property_u64("linux,initrd-end", initrd.end)?;
        }
    }
    fdt.end_node(node)
}

fn hart(fdt: &mut FdtWriter) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    cells(fdt, 1, 0)?;
    fdt.property_u32("timebase-frequency", TIMEBASE_FREQUENCY)?;
    let cpu = fdt.begin_node("cpu@0")?;
    fdt.property_string("device_type", "cpu")?;
    fdt.property_u32("reg", 0)?;
    fdt.property_string("status", "okay")?;
    fdt.property_string("compatible", "riscv")?;
    fdt.property_string("riscv,isa", ISA)?;
    fdt.property_string("riscv,isa-base", ISA_BASE)?;
    strings(fdt, "riscv,isa-extensions", &ISA_EXTENSIONS)?;
    fdt.property_string("mmu-type", "riscv,sv48")?;
    let controller = fdt.begin_node("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_string("compatible", "riscv,cpu-intc")?;
    fdt.property_phandle(HART_PHANDLE)?;
    fdt.end_node(controller)?;
    fdt.end_node(cpu)?;
    fdt.end_node(cpus)
}

fn plic(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("plic@{:x}", PLIC.start))?;
    strings(fdt, "compatible", &["sifive,plic-1.0.0", "riscv,plic0"])?;
    reg(fdt, &PLIC)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_array_u32("interrupts-extended", &[HART_PHANDLE, M_EXTERNAL, HART_PHANDLE, S_EXTERNAL])?;
    fdt.property_u32("riscv,ndev", INTERRUPTS)?;
    fdt.property_phandle(PLIC_PHANDLE)?;
    fdt.end_node(node)
}

fn interrupt(fdt: &mut FdtWriter, number: u32) -> Result<(), Error> {
    fdt.property_u32("interrupt-parent", PLIC_PHANDLE)?;
    fdt.property_u32("interrupts", number)
}

fn uart(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("serial@{:x}", UART.start))?;
    fdt.property_string("compatible", "ns16550a")?;
    reg(fdt, &UART)?;
    fdt.property_u32("clock-frequency", 3_686_400)?;
    interrupt(fdt, UART_INTERRUPT)?;
    fdt.end_node(node)
}

fn rtc(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("rtc@{:x}", RTC.start))?;
    fdt.property_string("compatible", "google,goldfish-rtc")?;
    reg(fdt, &RTC)?;
    interrupt(fdt, RTC_INTERRUPT)?;
    fdt.end_node(node)
}

fn clint(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("clint@{:x}", CLINT.start))?;
    strings(fdt, "compatible", &["sifive,clint0", "riscv,clint0"])?;
    reg(fdt, &CLINT)?;
    fdt.property_array_u32("interrupts-extended", &[HART_PHANDLE, M_SOFTWARE, HART_PHANDLE, M_TIMER])?;
    fdt.end_node(node)
}

fn test(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("test@{:x}", TEST.start))?;
    strings(fdt, "compatible", &["sifive,test1", "sifive,test0", "syscon"])?;
    reg(fdt, &TEST)?;
    fdt.end_node(node)
}

/// The bus with the second serial port. Its port I/O and its memory are where the host sees them.
fn pci(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("pci@{:x}", PCI_ECAM.start))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    cells(fdt, 3, 2)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    reg(fdt, &PCI_ECAM)?;
    fdt.property_array_u32("bus-range", &[0, 0xff])?;
    fdt.property_u32("linux,pci-domain", 0)?;
    fdt.property_null("dma-coherent")?;
    let window = |space: u32, bus: u64, range: &Range<u64>| {
        let [bus, host, size] = [bus, range.start, range.end - range.start].map(halves);
        [space, bus[0], bus[1], host[0], host[1], size[0], size[1]]
    };
    let windows = [window(PCI_SPACE_IO, 0, &PCI_IO), window(PCI_SPACE_MEMORY, PCI_MEMORY.start, &PCI_MEMORY)];
    fdt.property_array_u32("ranges", &windows.concat())?;
    let pins = (0..PCI_PINS).flat_map(|slot| (0..PCI_PINS).map(move |pin| (slot, pin)));
    let map: Vec<u32> = pins
        .flat_map(|(slot, pin)| {
            [slot << 11, 0, 0, pin + 1, PLIC_PHANDLE, PCI_INTERRUPT + (slot + pin) % PCI_PINS]
        })
        .collect();
    fdt.property_array_u32("interrupt-map", &map)?;
    fdt.property_array_u32("interrupt-map-mask", &[(PCI_PINS - 1) << 11, 0, 0, 7])?;
    fdt.end_node(node)
}

/// The two cells of a number.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(fdt: &[u8], text: &str) -> bool {
        memchr::memmem::find(fdt, text.as_bytes()).is_some()
    }

    fn kernel(command_line: &str, initrd: &Range<u64>) -> Result<Vec<u8>, Error> {
        device_tree(512 << 20, Reader::Kernel { command_line, initrd })
    }

    #[test]
    fn a_kernel_is_told_its_own() {
        let fdt = kernel("console=ttyS0", &(0x9000_0000..0x9000_1000)).unwrap();
        for text in ["console=ttyS0\0", "linux,initrd-start\0", "pci@30000000\0", "plic@c000000\0"] {
            assert!(has(&fdt, text), "{text}");
        }
        assert!(!has(&fdt, "clint") && !has(&fdt, "sifive,test"));
        assert_eq!(fdt[..4], 0xd00d_feed_u32.to_be_bytes());
        let without = kernel("", &(0..0)).unwrap();
        assert!(!has(&without, "initrd"));
    }

    #[test]
    fn firmware_has_timer_and_reset() {
        let fdt = device_tree(512 << 20, Reader::Firmware).unwrap();
        assert!(has(&fdt, "clint@2000000\0") && has(&fdt, "sifive,test0\0"));
        assert!(!has(&fdt, "bootargs") && !has(&fdt, "pci@"));
    }

    #[test]
    fn a_number_has_two_cells() {
        assert_eq!(halves(0x1_8000_0000), [1, 0x8000_0000]);
    }

    proptest! {
        #[test]
        fn any_command_line_is_answered(command_line: String, start: u64, length in 0_u64..1000) {
            let initrd = start..start.saturating_add(length);
            let fdt = kernel(&command_line, &initrd);
            prop_assert_eq!(fdt.is_ok(), !command_line.contains('\0'));
        }
    }
}
