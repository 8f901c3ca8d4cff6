//! Which kernel is copied, where kernels differ.

use crate::provider::Attribute;

/// The line of kernels whose `tsm` core is copied.
///
/// | | [`V6_7`](Self::V6_7) | [`V6_12`](Self::V6_12) | [`V6_16`](Self::V6_16) |
/// |---|---|---|---|
/// | source | `drivers/virt/coco/tsm.c` of 6.7 | the same of the 6.12 long-term series (6.12.117) | `drivers/virt/coco/guest/report.c` |
/// | attributes of an entry | one of two item types (see [`attributes`](Self::attributes)) | each as the provider shows it | as 6.12 |
/// | `service_*`, `manifestblob` | do not exist | since 6.10 | as 6.12 |
/// | report wanted without a provider | ENOTTY | ENXIO | ENXIO |
/// | registering while entries exist | works | EBUSY | EBUSY |
/// | largest blob (`TSM_OUTBLOB_MAX`, `TSM_REPORT_OUTBLOB_MAX`) | 32 KiB | 32 KiB | 32 KiB |
///
/// configfs itself (`fs/configfs`) is the same in all three. 6.12 and 6.16 differ in what the drivers offer beside
/// configfs (measurement registers, buffers of GetQuote), not in this part. Kernels of the 6.7 line dereference a null
/// pointer where `provider`, `privlevel` or `privlevel_floor` is used after the provider has gone; this copy answers
/// ENXIO there, as the later kernels do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum KernelStyle {
    /// Linux 6.7, the first with configfs-tsm.
    V6_7,
    /// The 6.12 long-term series.
    #[default]
    V6_12,
    /// Linux 6.16, which moved the core to `guest/report.c`.
    V6_16,
}

/// Every attribute, in the order in which configfs makes them: `ct_attrs`, then `ct_bin_attrs`.
pub(super) const ATTRIBUTES: [Attribute; 11] = [
    Attribute::Generation,
    Attribute::Provider,
    Attribute::Privlevel,
    Attribute::PrivlevelFloor,
    Attribute::ServiceProvider,
    Attribute::ServiceGuid,
    Attribute::ServiceManifestVersion,
    Attribute::Inblob,
    Attribute::Outblob,
    Attribute::Auxblob,
    Attribute::Manifestblob,
];

impl KernelStyle {
    /// The attributes of a new entry, in the order in which configfs makes them, for a provider that shows those for
    /// which `is_visible` holds.
    ///
    /// Linux 6.7 knows two item types, which a driver picks when it registers: `tsm_report_default_type` and
    /// `tsm_report_extra_type` with `privlevel`, `privlevel_floor` and `auxblob`. A provider that shows `privlevel` has
    /// the latter.
    pub fn attributes(self, is_visible: impl Fn(Attribute) -> bool) -> Vec<Attribute> {
        let extra = is_visible(Attribute::Privlevel);
        let shown = |attribute: &Attribute| match (self, *attribute) {
            (Self::V6_12 | Self::V6_16, attribute) => is_visible(attribute),
            (
                Self::V6_7,
                Attribute::Generation | Attribute::Provider | Attribute::Inblob | Attribute::Outblob,
            ) => true,
            (Self::V6_7, Attribute::Privlevel | Attribute::PrivlevelFloor | Attribute::Auxblob) => extra,
            (Self::V6_7, _) => false,
        };
        ATTRIBUTES.into_iter().filter(shown).collect()
    }

    /// The largest `outblob`, `auxblob` or `manifestblob` that can be read, in bytes: a larger one answers EFBIG.
    pub const fn outblob_max(self) -> usize {
        match self {
            Self::V6_7 | Self::V6_12 | Self::V6_16 => 32 << 10,
        }
    }

    /// Whether a provider may register while entries exist (`provider.count` came later than 6.7).
    pub(super) const fn registers_beside_entries(self) -> bool {
        matches!(self, Self::V6_7)
    }
}
