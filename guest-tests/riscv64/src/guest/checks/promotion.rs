//! What `promote_to_tvm` leaves behind.

use tsmsim_abi::{
    cove::{
        covg::MAX_SECRET_SIZE,
        tap::{TAP_TAG_SIZE, TapHeader},
    },
    guest_test::riscv64::{FDT_GPA, TAP_GPA},
};

use super::super::{
    arch,
    tap::{Check, Tap, ensure},
};

/// What a device tree begins with (Devicetree specification, "Header").
const FDT_MAGIC: u32 = 0xd00d_feed;

pub(super) fn run(tap: &mut Tap) {
    tap.check("promote_to_tvm: the device tree is there", device_tree());
    tap.check("promote_to_tvm: nothing is left of the attestation payload", payload());
}

fn device_tree() -> Check {
    let mut magic = [0; 4];
    arch::read(FDT_GPA, &mut magic);
    let magic = u32::from_be_bytes(magic);
    ensure!(magic == FDT_MAGIC, "it begins with {magic:#x}");
    Ok(())
}

fn payload() -> Check {
    let end = TAP_GPA + (size_of::<TapHeader>() + MAX_SECRET_SIZE + TAP_TAG_SIZE) as u64;
    for gpa in TAP_GPA..end {
        let mut byte = [0];
        arch::read(gpa, &mut byte);
        ensure!(byte == [0], "byte {gpa:#x} is not zero");
    }
    Ok(())
}
