//! `MSG_CPUID_REQ`, and the policy by which the firmware judges CPUID values, there and in the CPUID page of a launch (56860
//! rev. 1.58, sections 7.1 and 8.17.2.6).

use tsmsim_abi::snp::{
    message::MAX_PAYLOAD,
    pages::CpuidFunction,
    payload::{CPUID_MAX, CpuidReq, CpuidRsp},
    status::FirmwareStatus,
    tcb::ProductLine,
};
use zerocopy::{FromZeros, little_endian::U32};

use super::{
    Request,
    cpuid_table::{Rule, rules},
};
use crate::snp::{firmware::Firmware, platform::CpuSignature};

/// Which CPUID values a guest may be given on a platform.
///
/// Functions outside 0000_0000h to 0000_FFFFh and 8000_0000h to 8000_FFFFh are not looked at. A function of these ranges that
/// the policy does not list must be all zero. Values that the hardware would not give are corrected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidPolicy {
    line: ProductLine,
    cpu: CpuSignature,
    c_bit: u8,
}

/// What became of a list of CPUID functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sanitised {
    /// How many were of the ranges that are looked at.
    pub checked: u32,
    /// Whether all were as they should be. A reserved field that is set is wrong, but left as it is.
    pub unchanged: bool,
}

impl Sanitised {
    /// The status that stands for this.
    ///
    /// # Errors
    /// [`FirmwareStatus::INVALID_PARAM`] if anything was wrong.
    pub const fn status(self) -> Result<(), FirmwareStatus> {
        if self.unchanged { Ok(()) } else { Err(FirmwareStatus::INVALID_PARAM) }
    }
}

impl CpuidPolicy {
    /// The policy of a platform, whose C-bit is at this position of a page-table entry.
    #[must_use]
    pub const fn new(line: ProductLine, cpu: CpuSignature, c_bit: u8) -> Self {
        Self { line, cpu, c_bit }
    }

    /// Judges functions and corrects them in place.
    pub fn sanitise(&self, functions: &mut [CpuidFunction]) -> Sanitised {
        let mut result = Sanitised { checked: 0, unchanged: true };
        for function in functions {
            if !matches!(function.eax_in.get(), 0..=0xffff | 0x8000_0000..=0x8000_ffff) {
                continue;
            }
            result.checked = result.checked.saturating_add(1);
            let corrected = self.correct(function);
            result.unchanged &= corrected == *function && function.reserved_0x28.get() == 0;
            *function = corrected;
        }
        result
    }

    fn correct(&self, function: &CpuidFunction) -> CpuidFunction {
        let (leaf, subleaf) = (function.eax_in.get(), function.ecx_in.get());
        let [eax, ebx, ecx, edx] = rules(self.line, leaf, subleaf);
        let apply = |rule: Rule, value: U32| U32::new(self.apply(rule, value.get(), function));
        CpuidFunction {
            eax: apply(eax, function.eax),
            ebx: apply(ebx, function.ebx),
            ecx: apply(ecx, function.ecx),
            edx: apply(edx, function.edx),
            ..*function
        }
    }

    /// The value that a rule makes of a value; the same value if it obeys the rule.
    fn apply(&self, rule: Rule, value: u32, function: &CpuidFunction) -> u32 {
        match rule {
            Rule::Exact(exact) => exact,
            Rule::Mask(mask) => value & mask,
            Rule::AtMost(most) => value.min(most),
            Rule::Fields(fields) => fields.iter().fold(0, |all, field| all | field.apply(value, self.c_bit)),
            Rule::Signature => self.correct_signature(value),
            Rule::XsaveSize => xsave_size(function.xcr0_in.get()),
            Rule::CompactedXsaveSize => compacted_xsave_size(function.xcr0_in.get(), function.xss_in.get()),
        }
    }

    /// A guest may be told of an older CPU than the real one, by family, then model, then stepping.
    fn correct_signature(&self, eax: u32) -> u32 {
        const RESERVED: u32 = 0xf000_f000;
        let real = self.cpu.eax();
        if signature_key(eax) > signature_key(real) { real } else { eax & !RESERVED }
    }
}

/// Family, model and stepping in the order in which they weigh.
const fn signature_key(eax: u32) -> u32 {
    let family = (eax >> 20 & 0xff) + (eax >> 8 & 0xf);
    let model = (eax >> 16 & 0xf) << 4 | (eax >> 4 & 0xf);
    family << 12 | model << 4 | (eax & 0xf)
}

/// State components that have a size here: bit of XCR0 or XSS, bytes, and end in the standard XSAVE area.
const XCR0_COMPONENTS: [(u32, u32, u32); 5] =
    [(2, 0x100, 0x340), (5, 0x40, 0x380), (6, 0x200, 0x580), (7, 0x400, 0x980), (9, 0x8, 0x988)];
const XSS_COMPONENTS: [(u32, u32); 2] = [(11, 0x10), (12, 0x18)];
/// Legacy area and header.
const XSAVE_MINIMUM: u32 = 0x240;

/// Size of the standard XSAVE area for an XCR0 (CPUID Fn0000_000D_EBX, subleaf 0).
fn xsave_size(xcr0: u64) -> u32 {
    let enabled = XCR0_COMPONENTS.iter().filter(|(bit, ..)| xcr0 >> bit & 1 != 0);
    enabled.map(|(.., end)| *end).max().unwrap_or(XSAVE_MINIMUM)
}

/// Size of the compacted XSAVE area for XCR0 and XSS (CPUID Fn0000_000D_EBX, subleaf 1).
fn compacted_xsave_size(xcr0: u64, xss: u64) -> u32 {
    let user = XCR0_COMPONENTS.iter().filter(|(bit, ..)| xcr0 >> bit & 1 != 0).map(|(_, size, _)| size);
    let supervisor = XSS_COMPONENTS.iter().filter(|(bit, _)| xss >> bit & 1 != 0).map(|(_, size)| size);
    XSAVE_MINIMUM + user.chain(supervisor).sum::<u32>()
}

/// Bytes that a request needs for the functions that it counts.
pub(super) fn request_size(payload: &[u8; MAX_PAYLOAD]) -> usize {
    let count = payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let count = usize::try_from(count).unwrap_or(CPUID_MAX).min(CPUID_MAX);
    size_of::<CpuidReq>() - (CPUID_MAX - count) * size_of::<CpuidFunction>()
}

pub(super) fn respond(firmware: &Firmware, request: &Request<'_>) -> CpuidRsp {
    let message = request.read::<CpuidReq>();
    let mut response = CpuidRsp::new_zeroed();
    let count = usize::try_from(message.count.get()).unwrap_or(usize::MAX);
    let reserved = message.reserved_0x4.get() != 0 || message.reserved_0x8.get() != 0;
    let status = match (response.functions.get_mut(..count), message.functions.get(..count)) {
        (Some(to), Some(from)) if !reserved => {
            to.copy_from_slice(from);
            let sanitised = firmware.platform.cpuid_policy().sanitise(to);
            response.count = U32::new(sanitised.checked);
            sanitised.status()
        }
        _ => Err(FirmwareStatus::INVALID_PARAM),
    };
    response.status = U32::new(status.err().unwrap_or(FirmwareStatus::SUCCESS).0);
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use zerocopy::{FromBytes, little_endian::U64};

    use super::*;

    const GENOA: CpuidPolicy =
        CpuidPolicy::new(ProductLine::Genoa, CpuSignature { family: 0x19, model: 0x11, stepping: 1 }, 51);

    fn function(leaf: u32, subleaf: u32, xcr0: u64, xss: u64, values: [u32; 4]) -> CpuidFunction {
        let [eax, ebx, ecx, edx] = values.map(U32::new);
        let (xcr0_in, xss_in) = (U64::new(xcr0), U64::new(xss));
        let (eax_in, ecx_in) = (U32::new(leaf), U32::new(subleaf));
        CpuidFunction { eax_in, ecx_in, xcr0_in, xss_in, eax, ebx, ecx, edx, ..CpuidFunction::new_zeroed() }
    }

    fn corrected(function: CpuidFunction) -> ([u32; 4], bool) {
        let mut list = [function];
        let result = GENOA.sanitise(&mut list);
        let [CpuidFunction { eax, ebx, ecx, edx, .. }] = list;
        ([eax, ebx, ecx, edx].map(U32::get), result.unchanged)
    }

    /// Leaf, subleaf, XCR0, XSS, what is asked, what comes back.
    #[rstest]
    #[case::maximum_leaf(0, 0, [0x11, 1, 2, 3], [0x10, 1, 2, 3])]
    #[case::lower_maximum_leaf(0, 0, [7, 1, 2, 3], [7, 1, 2, 3])]
    #[case::same_cpu(1, 0, [0x00a1_0f11, 0x800, 0, 0], [0x00a1_0f11, 0x800, 0, 0])]
    #[case::older_cpu(1, 0, [0x00a0_0f11, 0x800, 0, 0], [0x00a0_0f11, 0x800, 0, 0])]
    #[case::newer_stepping(1, 0, [0x00a1_0f12, 0x800, 0, 0], [0x00a1_0f11, 0x800, 0, 0])]
    #[case::newer_family(1, 0, [0x00b0_0f00, 0x800, 0, 0], [0x00a1_0f11, 0x800, 0, 0])]
    #[case::signature_reserved(1, 0, [0x1000_0000, 0x800, 0, 0], [0, 0x800, 0, 0])]
    #[case::cache_line_size(1, 0, [0, 0xffff_40ff, 0, 0], [0, 0xffff_0800, 0, 0])]
    #[case::osxsave_and_hypervisor_unchecked(1, 0, [0, 0x800, 0x8800_0000, 0], [0, 0x800, 0x8800_0000, 0])]
    #[case::vmx_is_not_there(1, 0, [0, 0x800, 0x20, 0], [0, 0x800, 0, 0])]
    #[case::rtm_is_not_there(7, 0, [1, 0x801, 0, 0], [1, 1, 0, 0])]
    #[case::subleaves(7, 0, [2, 0, 0, 0], [1, 0, 0, 0])]
    #[case::x87_and_sse_must_be(0xd, 0, [4, 0x240, 0, 0], [7, 0x240, 0, 0])]
    #[case::deterministic(0xd, 2, [0, 0, 0, 0], [0x100, 0x240, 0, 0])]
    #[case::address_sizes(0x8000_0008, 0, [0x3540, 0, 0, 0], [0x3534, 0, 0, 0])]
    #[case::sev_c_bit(0x8000_001f, 0, [2, 0x33, 9, 9], [2, 0x33, 9, 9])]
    #[case::sev_other_c_bit(0x8000_001f, 0, [2, 0x2f, 0, 0], [2, 0x33, 0, 0])]
    #[case::sev_vmpls(0x8000_001f, 0, [2, 0x5033, 0, 0], [2, 0x4033, 0, 0])]
    #[case::brand_string(0x8000_0002, 0, [u32::MAX; 4], [u32::MAX; 4])]
    #[case::unlisted(0x14, 0, [1, 2, 3, 4], [0, 0, 0, 0])]
    #[case::unlisted_zero(0x14, 0, [0; 4], [0; 4])]
    #[case::hypervisor_range(0x4000_0000, 0, [1, 2, 3, 4], [1, 2, 3, 4])]
    fn corrections(
        #[case] leaf: u32,
        #[case] subleaf: u32,
        #[case] asked: [u32; 4],
        #[case] expected: [u32; 4],
    ) {
        let (values, unchanged) = corrected(function(leaf, subleaf, 0, 0, asked));
        assert_eq!(values.map(|v| format!("{v:#x}")), expected.map(|v| format!("{v:#x}")));
        assert_eq!(unchanged, asked == expected);
    }

    #[rstest]
    #[case::legacy(0, 1, 0, 0x240)]
    #[case::avx(0, 7, 0, 0x340)]
    #[case::avx512(0, 0xe7, 0, 0x980)]
    #[case::protection_keys(0, 0x207, 0, 0x988)]
    #[case::compacted_legacy(1, 1, 0, 0x240)]
    #[case::compacted_protection_keys(1, 0x207, 0, 0x348)]
    #[case::compacted_shadow_stacks(1, 7, 0x1800, 0x368)]
    #[case::compacted_all(1, 0x2e7, 0x1800, 0x9b0)]
    fn xsave_sizes_follow_xcr0_and_xss(
        #[case] subleaf: u32,
        #[case] xcr0: u64,
        #[case] xss: u64,
        #[case] size: u32,
    ) {
        let eax = if subleaf == 0 { 7 } else { 0xf };
        let (values, unchanged) = corrected(function(0xd, subleaf, xcr0, xss, [eax, size, 0, 0]));
        assert_eq!((values[1], unchanged), (size, true));
        let (values, unchanged) = corrected(function(0xd, subleaf, xcr0, xss, [eax, size + 1, 0, 0]));
        assert_eq!((values[1], unchanged), (size, false));
    }

    #[test]
    fn a_reserved_field_is_wrong_but_stays() {
        let mut list = [CpuidFunction { reserved_0x28: U64::new(1), ..function(0x14, 0, 0, 0, [0; 4]) }];
        let result = GENOA.sanitise(&mut list);
        assert_eq!(result, Sanitised { checked: 1, unchanged: false });
        assert_eq!(list[0].reserved_0x28.get(), 1);
    }

    #[test]
    fn avx512_is_on_genoa_and_turin_only() {
        let avx512 = function(7, 0, 0, 0, [0, 1 << 16, 0, 0]);
        for line in ProductLine::ALL {
            let policy = CpuidPolicy { line, ..GENOA };
            assert_eq!(policy.sanitise(&mut [avx512]).unchanged, line != ProductLine::Milan, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_corrected_is_accepted(bytes: [u8; 40], leaf in 0u32..0x30, extended: bool, subleaf in 0u32..16) {
            let mut raw = [0; 48];
            raw[..40].copy_from_slice(&bytes);
            let eax_in = U32::new(leaf | if extended { 0x8000_0000 } else { 0 });
            let function = CpuidFunction::read_from_bytes(&raw).unwrap();
            let function = CpuidFunction { eax_in, ecx_in: U32::new(subleaf), ..function };
            for line in ProductLine::ALL {
                let policy = CpuidPolicy { line, ..GENOA };
                let mut list = [function];
                policy.sanitise(&mut list);
                prop_assert!(policy.sanitise(&mut list).unchanged);
            }
        }
    }
}
