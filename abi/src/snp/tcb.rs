//! Product lines and `TCB_VERSION` (56860 rev. 1.58, section 2.2, tables 3 and 4).

use zerocopy::little_endian::U64;

/// A line of AMD server processors, as the key distribution service names them.
///
/// Siena and Bergamo use Genoa's keys and certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProductLine {
    /// Zen 3: family 19h, models 00h-0Fh.
    Milan,
    /// Zen 4 (also Bergamo and Siena): family 19h, models 10h-1Fh and A0h-AFh.
    Genoa,
    /// Zen 5: family 1Ah, models 00h-11h.
    Turin,
}

impl ProductLine {
    /// Every line.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in certificates and key distribution URLs: `Milan`, `Genoa`, `Turin`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// How this line lays out `TCB_VERSION`.
    #[must_use]
    pub const fn tcb_layout(self) -> TcbLayout {
        match self {
            Self::Milan | Self::Genoa => TcbLayout::MilanGenoa,
            Self::Turin => TcbLayout::Turin,
        }
    }

    /// Bytes of the chip identifier that are meaningful (the rest of the 64 are zero): 64, on Turin 8.
    #[must_use]
    pub const fn hwid_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }

    /// The line of a processor by its combined family and combined model (CPUID Fn0000_0001_EAX).
    #[must_use]
    pub const fn from_family_model(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }
}

/// Which of the two layouts a `TCB_VERSION` has; the eight bytes do not say it themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TcbLayout {
    /// Table 3: boot loader in byte 0, TEE 1, SNP 6, microcode 7.
    MilanGenoa,
    /// Table 4: FMC in byte 0, boot loader 1, TEE 2, SNP 3, microcode 7.
    Turin,
}

/// `TCB_VERSION` as it stands in a structure: eight bytes, little-endian as a `u64`, whose meaning depends on the
/// product line. Compare the parts ([`TcbParts`]), never the integers: the specification compares component-wise.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct TcbVersion(pub U64);

impl TcbVersion {
    /// From the integer form.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(U64::new(value))
    }

    /// The integer form.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The security patch levels in it. Reserved bytes are dropped; see [`Self::reserved_is_zero`].
    #[must_use]
    pub const fn parts(self, layout: TcbLayout) -> TcbParts {
        let b = self.get().to_le_bytes();
        match layout {
            TcbLayout::MilanGenoa => {
                TcbParts { fmc: None, boot_loader: b[0], tee: b[1], snp: b[6], microcode: b[7] }
            }
            TcbLayout::Turin => {
                TcbParts { fmc: Some(b[0]), boot_loader: b[1], tee: b[2], snp: b[3], microcode: b[7] }
            }
        }
    }

    /// Whether the bytes that the layout reserves are zero.
    #[must_use]
    pub const fn reserved_is_zero(self, layout: TcbLayout) -> bool {
        let mask: u64 = match layout {
            TcbLayout::MilanGenoa => 0x0000_ffff_ffff_0000,
            TcbLayout::Turin => 0x00ff_ffff_0000_0000,
        };
        self.get() & mask == 0
    }
}

impl core::fmt::Debug for TcbVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TcbVersion({:#018x})", self.get())
    }
}

/// The security patch levels (SPL) of a `TCB_VERSION`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TcbParts {
    /// Firmware of the FMC; Turin only.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub boot_loader: u8,
    /// TEE (PSP operating system).
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbParts {
    /// The eight bytes in the given layout. `fmc` is ignored where the layout has none, zero where it is `None`.
    #[must_use]
    pub const fn pack(self, layout: TcbLayout) -> TcbVersion {
        let fmc = match self.fmc {
            Some(fmc) => fmc,
            None => 0,
        };
        let bytes = match layout {
            TcbLayout::MilanGenoa => [self.boot_loader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            TcbLayout::Turin => [fmc, self.boot_loader, self.tee, self.snp, 0, 0, 0, self.microcode],
        };
        TcbVersion::new(u64::from_le_bytes(bytes))
    }

    /// Whether every component is at most the other's (the specification's "less than or equal", section 2.2).
    #[must_use]
    pub fn at_most(self, other: Self) -> bool {
        self.fmc.unwrap_or(0) <= other.fmc.unwrap_or(0)
            && self.boot_loader <= other.boot_loader
            && self.tee <= other.tee
            && self.snp <= other.snp
            && self.microcode <= other.microcode
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0x19, 0x01, Some(ProductLine::Milan))]
    #[case(0x19, 0x11, Some(ProductLine::Genoa))]
    #[case(0x19, 0xa0, Some(ProductLine::Genoa))]
    #[case(0x1a, 0x02, Some(ProductLine::Turin))]
    #[case(0x17, 0x31, None)]
    fn line_by_family_and_model(#[case] family: u8, #[case] model: u8, #[case] line: Option<ProductLine>) {
        assert_eq!(ProductLine::from_family_model(family, model), line);
    }

    #[test]
    fn comparison_is_by_component_not_by_integer() {
        let low = TcbParts { microcode: 9, boot_loader: 1, ..TcbParts::default() };
        let high = TcbParts { microcode: 8, boot_loader: 2, ..TcbParts::default() };
        assert!(!low.at_most(high) && !high.at_most(low));
    }

    proptest! {
        #[test]
        fn parts_round_trip(value: u64, turin: bool) {
            let layout = if turin { TcbLayout::Turin } else { TcbLayout::MilanGenoa };
            let tcb = TcbVersion::new(value);
            let again = tcb.parts(layout).pack(layout);
            prop_assert_eq!(again == tcb, tcb.reserved_is_zero(layout));
            prop_assert_eq!(again.parts(layout), tcb.parts(layout));
        }
    }
}
