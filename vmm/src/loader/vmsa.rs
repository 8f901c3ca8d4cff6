//! The initial VMSA of a vCPU: measured at launch, and what the engine starts from.

use tsmsim_abi::snp::vmsa::{SEV_FEATURE_SNP_ACTIVE, Vmsa, VmsaSegment};
use zerocopy::{
    FromZeros,
    little_endian::{U16, U32, U64},
};

/// PAT at reset (APM volume 2, section 7.8.1).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// The address from which a processor starts after reset, bits 31:0.
const RESET_VECTOR: u32 = 0xffff_fff0;

/// Whose hypervisor starts the guest: they differ in the reset state that they put into the VMSA.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VmmType {
    /// QEMU (and what imitates it).
    #[default]
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

/// A reset state's differences between hypervisors.
struct Reset {
    cs: u16,
    ss: u16,
    tr: u16,
    pat: u64,
    rdx: u32,
    mxcsr: u32,
    fcw: u16,
}

impl VmmType {
    fn reset(self, eip: u32, signature: u32) -> Reset {
        let common = Reset { cs: 0x9b, ss: 0x93, tr: 0x8b, pat: PAT_RESET, rdx: 0x600, mxcsr: 0, fcw: 0 };
        match self {
            Self::Qemu => Reset { rdx: signature, mxcsr: 0x1f80, fcw: 0x37f, ..common },
            Self::Ec2 => {
                Reset { cs: if eip == RESET_VECTOR { 0x9a } else { 0x9b }, ss: 0x92, tr: 0x83, ..common }
            }
            Self::Gce => Reset { pat: 0x0007_0106, ..common },
        }
    }
}

/// The VMSA of a vCPU at the reset vector (`eip` `None`), or of an application processor that starts at `eip`.
///
/// `signature` is CPUID Fn0000_0001_EAX of the guest's CPU model, `features` the `SEV_FEATURES`.
#[must_use]
pub fn reset_vmsa(vmm: VmmType, eip: Option<u32>, signature: u32, features: u64) -> Vmsa {
    let eip = eip.unwrap_or(RESET_VECTOR);
    let reset = vmm.reset(eip, signature);
    let data = VmsaSegment::new(0, 0x93, 0xffff, 0);
    let table = VmsaSegment::new(0, 0, 0xffff, 0);
    Vmsa {
        es: data,
        cs: VmsaSegment::new(0xf000, reset.cs, 0xffff, u64::from(eip & 0xffff_0000)),
        ss: VmsaSegment::new(0, reset.ss, 0xffff, 0),
        ds: data,
        fs: data,
        gs: data,
        gdtr: table,
        ldtr: VmsaSegment::new(0, 0x82, 0xffff, 0),
        idtr: table,
        tr: VmsaSegment::new(0, reset.tr, 0xffff, 0),
        efer: U64::new(0x1000),
        cr4: U64::new(0x40),
        cr0: U64::new(0x10),
        rip: U64::new(u64::from(eip & 0xffff)),
        g_pat: U64::new(reset.pat),
        rdx: U64::new(u64::from(reset.rdx)),
        sev_features: U64::new(features),
        mxcsr: U32::new(reset.mxcsr),
        x87_fcw: U16::new(reset.fcw),
        ..common_vmsa()
    }
}

/// The VMSA of a vCPU that starts in 64-bit mode: flat segments, paging on with the given CR3, interrupts off, one
/// argument in RDI.
#[must_use]
pub fn long_mode_vmsa(entry: u64, cr3: u64, rdi: u64) -> Vmsa {
    let data = VmsaSegment::new(0x10, 0xc93, 0xffff_ffff, 0);
    Vmsa {
        es: data,
        cs: VmsaSegment::new(0x8, 0xa9b, 0xffff_ffff, 0),
        ss: data,
        ds: data,
        fs: data,
        gs: data,
        ldtr: VmsaSegment::new(0, 0x82, 0xffff, 0),
        tr: VmsaSegment::new(0, 0x8b, 0xffff, 0),
        // SVME (KVM sets it for every guest), LMA, LME.
        efer: U64::new(0x1500),
        // MCE, PAE.
        cr4: U64::new(0x60),
        cr3: U64::new(cr3),
        // PG, WP, NE, ET, PE.
        cr0: U64::new(0x8001_0031),
        rip: U64::new(entry),
        rdi: U64::new(rdi),
        g_pat: U64::new(PAT_RESET),
        sev_features: U64::new(SEV_FEATURE_SNP_ACTIVE),
        mxcsr: U32::new(0x1f80),
        x87_fcw: U16::new(0x37f),
        ..common_vmsa()
    }
}

fn common_vmsa() -> Vmsa {
    Vmsa {
        dr7: U64::new(0x400),
        dr6: U64::new(0xffff_0ff0),
        rflags: U64::new(0x2),
        xcr0: U64::new(0x1),
        ..Vmsa::new_zeroed()
    }
}

/// CPU models of QEMU by name, with their family, model and stepping.
const CPU_MODELS: [(&str, u32, u32, u32); 16] = [
    ("EPYC", 23, 1, 2),
    ("EPYC-v1", 23, 1, 2),
    ("EPYC-v2", 23, 1, 2),
    ("EPYC-IBPB", 23, 1, 2),
    ("EPYC-v3", 23, 1, 2),
    ("EPYC-v4", 23, 1, 2),
    ("EPYC-Rome", 23, 49, 0),
    ("EPYC-Rome-v1", 23, 49, 0),
    ("EPYC-Rome-v2", 23, 49, 0),
    ("EPYC-Rome-v3", 23, 49, 0),
    ("EPYC-Milan", 25, 1, 1),
    ("EPYC-Milan-v1", 25, 1, 1),
    ("EPYC-Milan-v2", 25, 1, 1),
    ("EPYC-Genoa", 25, 17, 0),
    ("EPYC-Genoa-v1", 25, 17, 0),
    ("EPYC-Turin", 26, 0, 0),
];

/// The names of the CPU models that [`cpu_signature`] knows.
pub fn cpu_models() -> impl Iterator<Item = &'static str> {
    CPU_MODELS.iter().map(|(name, ..)| *name)
}

/// CPUID Fn0000_0001_EAX of a QEMU CPU model.
#[must_use]
pub fn cpu_signature(model: &str) -> Option<u32> {
    let (_, family, model, stepping) = CPU_MODELS.iter().find(|(name, ..)| *name == model)?;
    Some(signature_of(*family, *model, *stepping))
}

/// CPUID Fn0000_0001_EAX of a combined family, a combined model and a stepping (APM volume 3, appendix E.3.2).
#[must_use]
pub const fn signature_of(family: u32, model: u32, stepping: u32) -> u32 {
    let (base, extended) = if family > 0xf { (0xf, (family - 0xf) & 0xff) } else { (family, 0) };
    extended << 20 | (model >> 4 & 0xf) << 16 | base << 8 | (model & 0xf) << 4 | stepping & 0xf
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("EPYC-v4", Some(0x0080_0f12))]
    #[case("EPYC-Rome", Some(0x0083_0f10))]
    #[case("EPYC-Milan", Some(0x00a0_0f11))]
    #[case("EPYC-Genoa", Some(0x00a1_0f10))]
    #[case("EPYC-Turin", Some(0x00b0_0f00))]
    #[case("Opteron", None)]
    fn signatures(#[case] model: &str, #[case] signature: Option<u32>) {
        assert_eq!(cpu_signature(model), signature);
    }
}
