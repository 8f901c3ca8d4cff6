//! PVALIDATE and RMPADJUST: operands and results (APM volume 3, 24594).

use bitfield_struct::bitfield;

open_codes! {
    /// What PVALIDATE and RMPADJUST leave in EAX (APM volume 3, "PVALIDATE", "RMPADJUST").
    pub struct RmpReturn(u32);
    /// Done; for PVALIDATE the carry flag says that the page already was in the wanted state.
    SUCCESS = 0;
    /// An operand is invalid.
    FAIL_INPUT = 1;
    /// The VMPL that executes the instruction may not do this.
    FAIL_PERMISSION = 2;
    /// A 2 MiB page is meant, but the RMP holds 4 KiB entries.
    FAIL_SIZEMISMATCH = 6;
}

/// ECX of PVALIDATE and RMPADJUST: a 4 KiB page.
pub const RMP_PAGE_SIZE_4K: u64 = 0;
/// ECX of PVALIDATE and RMPADJUST: a 2 MiB page.
pub const RMP_PAGE_SIZE_2M: u64 = 1;

/// RDX of RMPADJUST.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RmpAdjustOperand {
    /// `TARGET_VMPL`: whose permissions change; above the VMPL that executes.
    pub target_vmpl: u8,
    /// `TARGET_PERM_MASK`: the bits of [`super::launch::VmplPermissions`].
    pub permissions: u8,
    /// The page is, from now on, a VMSA; only VMPL0 may change this.
    pub vmsa: bool,
    /// Reserved, zero.
    #[bits(47)]
    pub reserved: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operand_bits_are_where_linux_sets_them() {
        let operand = RmpAdjustOperand::new().with_target_vmpl(1).with_permissions(0xf).with_vmsa(true);
        assert_eq!(u64::from(operand), 1 | 0xf << 8 | 1 << 16);
        assert_eq!(RmpReturn(3).name(), None);
    }
}
