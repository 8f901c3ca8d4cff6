//! Sub-functions that stand for one instruction: CPUID, port I/O, MSRs, memory-mapped I/O.

use tsmsim_abi::tdx::vmcall::{Direction, VmcallStatus, VmcallSubFunction};

use super::Request;
use crate::{
    env::HostDevices,
    tdx::{PAGE_SIZE, registers::Gpr},
};

type Served = Result<(), VmcallStatus>;

/// `XCR0` bits of XFAM; the others are `IA32_XSS`'s.
const XCR0: u64 = 0x6_02e7;

pub(super) fn serve(sub_function: VmcallSubFunction, request: &mut Request<'_, '_>) -> Served {
    match sub_function {
        VmcallSubFunction::INSTRUCTION_CPUID => cpuid(request),
        VmcallSubFunction::INSTRUCTION_IO => io(request),
        VmcallSubFunction::INSTRUCTION_RDMSR => rdmsr(request),
        VmcallSubFunction::INSTRUCTION_WRMSR => wrmsr(request),
        VmcallSubFunction::VE_REQUEST_MMIO => mmio(request),
        // Caches are coherent here.
        VmcallSubFunction::INSTRUCTION_WBINVD => Ok(()),
        _ => Err(VmcallStatus::SUBFUNC_UNSUPPORTED),
    }
}

/// An operand of 32 bits or less.
fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, VmcallStatus> {
    T::try_from(value).map_err(|_| VmcallStatus::INVALID_OPERAND)
}

fn cpuid(request: &mut Request<'_, '_>) -> Served {
    const OUT: [Gpr; 4] = [Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
    let (leaf, subleaf) = (narrow(request.registers[Gpr::R12])?, narrow(request.registers[Gpr::R13])?);
    let xfam = u64::from(request.td.xfam());
    let values = request.devices.cpuid(leaf, subleaf, xfam & XCR0, xfam & !XCR0);
    for (register, value) in OUT.into_iter().zip(values) {
        request.registers[register] = value.into();
    }
    Ok(())
}

fn io(request: &mut Request<'_, '_>) -> Served {
    let size @ (1 | 2 | 4) = narrow::<u8>(request.registers[Gpr::R12])? else {
        return Err(VmcallStatus::INVALID_OPERAND);
    };
    let port = narrow(request.registers[Gpr::R14])?;
    let mask = u32::MAX >> (32 - 8 * u32::from(size));
    match Direction(request.registers[Gpr::R13]) {
        Direction::READ => {
            request.registers[Gpr::R11] = (request.devices.port_in(port, size) & mask).into();
            Ok(())
        }
        Direction::WRITE => {
            let value = request.registers[Gpr::R15] & u64::from(mask);
            request.devices.port_out(port, size, narrow(value)?);
            Ok(())
        }
        _ => Err(VmcallStatus::INVALID_OPERAND),
    }
}

fn rdmsr(request: &mut Request<'_, '_>) -> Served {
    let value = request.devices.read_msr(narrow(request.registers[Gpr::R12])?);
    request.registers[Gpr::R11] = value.ok_or(VmcallStatus::INVALID_OPERAND)?;
    Ok(())
}

fn wrmsr(request: &mut Request<'_, '_>) -> Served {
    let written =
        request.devices.write_msr(narrow(request.registers[Gpr::R12])?, request.registers[Gpr::R13]);
    written.ok_or(VmcallStatus::INVALID_OPERAND)
}

/// Memory-mapped I/O at a shared address, within a page. Where nothing answers, reads give ones and writes are lost.
fn mmio(request: &mut Request<'_, '_>) -> Served {
    let size @ (1 | 2 | 4 | 8) = narrow::<usize>(request.registers[Gpr::R12])? else {
        return Err(VmcallStatus::INVALID_OPERAND);
    };
    let Some((gpa, true)) = request.td.split_gpa(request.registers[Gpr::R14]) else {
        return Err(VmcallStatus::INVALID_OPERAND);
    };
    if gpa % PAGE_SIZE as u64 + size as u64 > PAGE_SIZE as u64 {
        return Err(VmcallStatus::INVALID_OPERAND);
    }
    match Direction(request.registers[Gpr::R13]) {
        Direction::READ => {
            request.registers[Gpr::R11] = mmio_read(request.devices, gpa, size);
            Ok(())
        }
        Direction::WRITE => {
            let value = request.registers[Gpr::R15].to_le_bytes();
            // A bus does not say that nobody took the write.
            let _ = request.devices.mmio_write(gpa, &value[..size]);
            Ok(())
        }
        _ => Err(VmcallStatus::INVALID_OPERAND),
    }
}

fn mmio_read(devices: &mut dyn HostDevices, gpa: u64, size: usize) -> u64 {
    let mut bytes = [0; 8];
    if devices.mmio_read(gpa, &mut bytes[..size]).is_none() {
        bytes[..size].fill(0xff);
    }
    u64::from_le_bytes(bytes)
}
