//! `get_attcaps`.

use tsmsim_abi::{
    cove::{
        attcaps::{
            AttestationCapabilities, MAX_INITIAL_MEASUREMENT_REGISTERS, MAX_RUNTIME_MEASUREMENT_REGISTERS,
            MeasurementRegisterDescriptor, MeasurementType, UNMAPPED_TCG_PCR,
        },
        covg::CertificateFormats,
        sbi::SbiError,
    },
    guest_test::riscv64::{RAM_END, RAM_GPA},
};
use zerocopy::FromZeros;

use super::super::{
    arch,
    place::{BEYOND, CAPABILITIES, PAGE, SHARED},
    tap::{Check, Tap, ensure, equal},
    tvm::{Tvm, capabilities, get_attcaps},
};

pub(super) fn run(tvm: &Tvm, tap: &mut Tap) {
    tap.check("get_attcaps", judge(&tvm.capabilities));
    tap.check("get_attcaps: the same again", again(tvm));
    tap.check("get_attcaps: a larger buffer", get_attcaps().with(1, 4 * PAGE).gives(336));
    for (name, position, value, error) in [
        ("get_attcaps: unaligned address", 0, CAPABILITIES + 8, SbiError::INVALID_ADDRESS),
        ("get_attcaps: below the TVM's memory", 0, RAM_GPA, SbiError::INVALID_ADDRESS),
        ("get_attcaps: behind RAM", 0, RAM_END, SbiError::INVALID_ADDRESS),
        ("get_attcaps: beyond the address space", 0, BEYOND, SbiError::INVALID_ADDRESS),
        ("get_attcaps: unaligned size", 1, 336, SbiError::INVALID_PARAM),
        ("get_attcaps: no size", 1, 0, SbiError::INVALID_PARAM),
        ("get_attcaps: shared memory", 0, SHARED, SbiError::INVALID_PARAM),
        ("get_attcaps: size beyond the address space", 1, BEYOND, SbiError::INVALID_ADDRESS),
    ] {
        tap.check(name, get_attcaps().with(position, value).refused(error));
    }
}

fn judge(capabilities: &AttestationCapabilities) -> Check {
    let formats = CertificateFormats::from(capabilities.certificate_formats.get());
    ensure!((formats.cbor() || formats.x509()) && formats.reserved() == 0, "formats {formats:?}");
    let [initial, runtime] =
        [capabilities.initial_measurements, capabilities.runtime_measurements].map(usize::from);
    ensure!((1..=MAX_INITIAL_MEASUREMENT_REGISTERS).contains(&initial), "{initial} initial registers");
    ensure!(runtime <= MAX_RUNTIME_MEASUREMENT_REGISTERS, "{runtime} runtime registers");
    for (index, register) in capabilities.msmt_regs.iter().enumerate() {
        if index >= initial + runtime {
            let zero = *register == MeasurementRegisterDescriptor::new_zeroed();
            ensure!(zero, "descriptor {index} is not zero");
            continue;
        }
        let expected = if index < initial { MeasurementType::INITIAL } else { MeasurementType::RUNTIME };
        equal("type", MeasurementType(register.measurement_type.get()), expected)?;
        equal("hash", register.hash_algorithm, capabilities.hash_algorithm)?;
        let pcr = register.tcg_pcr_index;
        ensure!(matches!(pcr, 0..=16 | 23 | UNMAPPED_TCG_PCR), "register {index} is PCR {pcr}");
    }
    Ok(())
}

/// The second answer is the first, and nothing behind it is written.
fn again(tvm: &Tvm) -> Check {
    const BEHIND: u64 = CAPABILITIES + size_of::<AttestationCapabilities>() as u64;
    arch::write(BEHIND, &[0x5a; 16]);
    ensure!(capabilities()? == tvm.capabilities, "it differs");
    let mut behind = [0; 16];
    arch::read(BEHIND, &mut behind);
    ensure!(behind == [0x5a; 16], "more is written than the value says");
    Ok(())
}
