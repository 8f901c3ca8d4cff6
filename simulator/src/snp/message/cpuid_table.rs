//! Which CPUID values each product line lets pass: facts, one row per function.
//!
//! Genoa's are those of AMD's published firmware (AMD-ASPFW, which follows the processor programming reference). Milan's and
//! Turin's firmware is not published; their rows are Genoa's but for what these cores lack or add, as listed.

use tsmsim_abi::snp::tcb::ProductLine;

use self::Rule::{AtMost, CompactedXsaveSize, Exact, Fields, Mask, Signature, XsaveSize};

/// What one register of a function may be.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// This value.
    Exact(u32),
    /// Any of these bits.
    Mask(u32),
    /// At most this value.
    AtMost(u32),
    /// Bits outside the fields are zero.
    Fields(&'static [Field]),
    /// Family, model and stepping at most the CPU's.
    Signature,
    /// By XCR0.
    XsaveSize,
    /// By XCR0 and XSS.
    CompactedXsaveSize,
}

/// Some bits of a register, and values in their place (not shifted down).
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// These bits are free.
    Any(u32),
    /// This value, in bits that no other field has.
    Is(u32),
    /// These bits have at most this value.
    UpTo(u32, u32),
    /// The position of the C-bit, in bits 5:0.
    CBit,
}

impl Field {
    /// The field of a value, corrected.
    pub(super) fn apply(self, value: u32, c_bit: u8) -> u32 {
        match self {
            Self::Any(bits) => value & bits,
            Self::Is(exact) => exact,
            Self::UpTo(bits, most) => (value & bits).min(most),
            Self::CBit => c_bit.into(),
        }
    }
}

const ANY: Rule = Mask(u32::MAX);
const ZERO: Rule = Exact(0);

struct Row {
    leaf: u32,
    subleaf: u32,
    rules: [Rule; 4],
}

const fn row(leaf: u32, subleaf: u32, eax: Rule, ebx: Rule, ecx: Rule, edx: Rule) -> Row {
    Row { leaf, subleaf, rules: [eax, ebx, ecx, edx] }
}

/// The rules for EAX, EBX, ECX and EDX of a function. What is not listed is zero.
pub(super) fn rules(line: ProductLine, leaf: u32, subleaf: u32) -> [Rule; 4] {
    let own: &[Row] = match line {
        ProductLine::Milan => MILAN,
        ProductLine::Genoa => &[],
        ProductLine::Turin => TURIN,
    };
    let found = own.iter().chain(GENOA).find(|row| (row.leaf, row.subleaf) == (leaf, subleaf));
    found.map_or([ZERO; 4], |row| row.rules)
}

const CLFLUSH_SIZE: Rule = Fields(&[Field::Is(0x0800), Field::Any(0xffff_0000)]);
const SEV_MEMORY_ENCRYPTION: Rule = Fields(&[Field::CBit, Field::Any(0xfc0), Field::UpTo(0xf000, 0x4000)]);
const INVLPGB_AND_RDPRU: Rule = Fields(&[Field::UpTo(0xffff, 7), Field::UpTo(0x00ff_0000, 0x0001_0000)]);

#[rustfmt::skip]
const GENOA: &[Row] = &[
    row(0x0000_0000, 0, AtMost(0x10), ANY, ANY, ANY),
    row(0x0000_0001, 0, Signature, CLFLUSH_SIZE, Mask(0xfefa_320b), Mask(0x178b_fbff)),
    row(0x0000_0002, 0, ANY, ANY, ANY, ANY),
    row(0x0000_0004, 0, ANY, ANY, ANY, ANY),
    row(0x0000_0005, 0, Mask(0xffff), Mask(0xffff), Mask(3), Mask(0xff)),
    row(0x0000_0006, 0, Mask(4), ZERO, Mask(1), ZERO),
    row(0x0000_0007, 0, AtMost(1), Mask(0xf1bf_97a9), Mask(0x0041_5fde), Mask(0x1000_0010)),
    row(0x0000_0007, 1, Mask(0x20), ZERO, ZERO, ZERO),
    row(0x0000_000b, 0, Mask(0x1f), Mask(0xffff), Mask(0xffff), ANY),
    row(0x0000_000b, 1, Mask(0x1f), Mask(0xffff), Mask(0xffff), ANY),
    row(0x0000_000b, 2, Mask(0x1f), Mask(0xffff), Mask(0xffff), ANY),
    row(0x0000_000d, 0, Fields(&[Field::Is(3), Field::Any(0x2e4)]), XsaveSize, ANY, ZERO),
    row(0x0000_000d, 1, Mask(0xf), CompactedXsaveSize, Mask(0x1800), ZERO),
    row(0x0000_000d, 2, Exact(0x100), Exact(0x240), ZERO, ZERO),
    row(0x0000_000d, 5, Exact(0x40), Exact(0x340), Mask(3), ZERO),
    row(0x0000_000d, 6, Exact(0x200), Exact(0x380), Mask(3), ZERO),
    row(0x0000_000d, 7, Exact(0x400), Exact(0x580), Mask(3), ZERO),
    row(0x0000_000d, 9, Exact(8), Exact(0x980), ZERO, ZERO),
    row(0x0000_000d, 11, Exact(0x10), ZERO, Exact(1), ZERO),
    row(0x0000_000d, 12, Exact(0x18), ZERO, Exact(1), ZERO),
    row(0x0000_000f, 0, ZERO, ANY, ZERO, Mask(2)),
    row(0x0000_000f, 1, Mask(0x1ff), ANY, ANY, Mask(7)),
    row(0x0000_0010, 0, ZERO, Mask(6), ZERO, ZERO),
    row(0x0000_0010, 1, Mask(0x1f), ANY, Mask(4), Mask(0xffff)),
    row(0x8000_0000, 0, AtMost(0x8000_0028), ANY, ANY, ANY),
    row(0x8000_0001, 0, Signature, Mask(0xf000_0000), Mask(0x75c2_37ff), Mask(0x2fd3_fbff)),
    row(0x8000_0002, 0, ANY, ANY, ANY, ANY),
    row(0x8000_0003, 0, ANY, ANY, ANY, ANY),
    row(0x8000_0004, 0, ANY, ANY, ANY, ANY),
    row(0x8000_0005, 0, ANY, ANY, ANY, ANY),
    row(0x8000_0006, 0, ANY, ANY, ANY, Mask(!0x3_0000)),
    row(0x8000_0007, 0, ZERO, Mask(0x3b), ANY, Mask(0x6799)),
    row(0x8000_0008, 0,
        Fields(&[Field::UpTo(0xff, 0x34), Field::UpTo(0xff00, 0x3900), Field::Any(0x00ff_0000)]),
        Mask(0x79be_f35f), Mask(0x0003_f0ff), INVLPGB_AND_RDPRU),
    row(0x8000_000a, 0, Mask(0xff), ANY, ZERO, Mask(0x1fbf_bcff)),
    row(0x8000_0019, 0, ANY, ANY, ZERO, ZERO),
    row(0x8000_001a, 0, Mask(7), ZERO, ZERO, ZERO),
    row(0x8000_001b, 0, Mask(0xbff), ZERO, ZERO, ZERO),
    row(0x8000_001d, 0, Mask(0x03ff_c3ff), ANY, ANY, Mask(3)),
    row(0x8000_001d, 1, Mask(0x03ff_c3ff), ANY, ANY, Mask(3)),
    row(0x8000_001d, 2, Mask(0x03ff_c3ff), ANY, ANY, Mask(3)),
    row(0x8000_001d, 3, Mask(0x03ff_c3ff), ANY, ANY, Mask(3)),
    row(0x8000_001d, 4, Mask(0xf), ZERO, ANY, ZERO),
    row(0x8000_001e, 0, ANY, Mask(0xffff), Mask(0x7ff), ZERO),
    row(0x8000_001f, 0, Mask(0x030f_ffff), SEV_MEMORY_ENCRYPTION, ANY, ANY),
    row(0x8000_0020, 0, ZERO, Mask(0x1e), ZERO, ZERO),
    row(0x8000_0020, 1, ANY, ZERO, ZERO, ANY),
    row(0x8000_0020, 2, ANY, ZERO, ZERO, ANY),
    row(0x8000_0020, 3, ZERO, ANY, Mask(0x7f), ZERO),
    row(0x8000_0021, 0, Mask(0x1806_2fcf), Mask(0xfff), ZERO, ZERO),
    row(0x8000_0022, 0, Mask(7),
        Fields(&[Field::UpTo(0xf, 6), Field::UpTo(0x3f0, 0x100), Field::Any(!0x3ff)]), ANY, ZERO),
    row(0x8000_0023, 0, Mask(1), ANY, ZERO, ZERO),
    row(0x8000_0024, 0, AtMost(1), Mask(1), Mask(3), ZERO),
    row(0x8000_0024, 1, Mask(0x1ff), ZERO, ZERO, ZERO),
    row(0x8000_0026, 0, ANY, ANY, ANY, ANY),
    row(0x8000_0026, 1, ANY, ANY, ANY, ANY),
    row(0x8000_0026, 2, ANY, ANY, ANY, ANY),
    row(0x8000_0026, 3, ANY, ANY, ANY, ANY),
];

/// Zen 3: no AVX-512, VNNI or BF16, no five-level paging, 48 bits of physical addresses, earlier SEV features, no
/// functions after 8000_0023h.
#[rustfmt::skip]
const MILAN: &[Row] = &[
    row(0x0000_0007, 0, ZERO, Mask(0x219c_97a9), Mask(0x0040_069c), Mask(0x10)),
    row(0x0000_0007, 1, ZERO, ZERO, ZERO, ZERO),
    row(0x0000_000d, 0, Fields(&[Field::Is(3), Field::Any(0x204)]), XsaveSize, ANY, ZERO),
    row(0x0000_000d, 5, ZERO, ZERO, ZERO, ZERO),
    row(0x0000_000d, 6, ZERO, ZERO, ZERO, ZERO),
    row(0x0000_000d, 7, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0000, 0, AtMost(0x8000_0023), ANY, ANY, ANY),
    row(0x8000_0008, 0,
        Fields(&[Field::UpTo(0xff, 0x30), Field::UpTo(0xff00, 0x3000), Field::Any(0x00ff_0000)]),
        Mask(0x191e_f257), Mask(0x0003_f0ff), INVLPGB_AND_RDPRU),
    row(0x8000_001f, 0, Mask(0x0101_fd3f), SEV_MEMORY_ENCRYPTION, ANY, ANY),
    row(0x8000_0021, 0, Mask(0x1806_204f), Mask(0xfff), ZERO, ZERO),
    row(0x8000_0022, 0, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0024, 0, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0024, 1, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0026, 0, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0026, 1, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0026, 2, ZERO, ZERO, ZERO, ZERO),
    row(0x8000_0026, 3, ZERO, ZERO, ZERO, ZERO),
];

/// Zen 5: MOVDIRI, MOVDIR64B, AVX512_VP2INTERSECT and AVX-VNNI, IBPB on entry to SEV guests, ERAPS.
#[rustfmt::skip]
const TURIN: &[Row] = &[
    row(0x0000_0007, 0, AtMost(1), Mask(0xf1bf_97a9), Mask(0x1841_5fde), Mask(0x1000_0110)),
    row(0x0000_0007, 1, Mask(0x30), ZERO, ZERO, ZERO),
    row(0x8000_001f, 0, Mask(0x032f_ffff), SEV_MEMORY_ENCRYPTION, ANY, ANY),
    row(0x8000_0021, 0, Mask(0x1906_2fcf), ANY, ZERO, ZERO),
];
