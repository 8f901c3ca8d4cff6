//! Types that hold secrets cannot be printed. That they can is a compile error here.

use tsmsim_keys::amd::{EndorsementKey, Hierarchy, HierarchyBuilder};
use tsmsim_keys::{CertificateDraft, CrlDraft, EcdsaP256Key, EcdsaP384Key, RsaKey, Secret, Seed};
use tsmsim_keys::{cove, intel};

/// If the type implements the trait, two implementations of `Ambiguous` fit, inference fails, and so does the build.
macro_rules! assert_not_implemented {
    ($trait:path: $($type:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait Ambiguous<Marker> {
                fn check() {}
            }
            struct Implemented;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $trait> Ambiguous<Implemented> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        };
    )+};
}

assert_not_implemented!(
    std::fmt::Debug: Seed, Secret<32>, RsaKey, EcdsaP256Key, EcdsaP384Key, EndorsementKey, Hierarchy, HierarchyBuilder,
    CertificateDraft, CrlDraft, intel::PckKey, intel::Hierarchy, intel::HierarchyBuilder, intel::JsonDraft<()>,
    cove::Cdi, cove::Device, cove::AttestationKey, cove::Chain, cove::Hierarchy, cove::HierarchyBuilder,
);
assert_not_implemented!(
    std::fmt::Display: Seed, Secret<32>, RsaKey, EcdsaP256Key, EcdsaP384Key, EndorsementKey, Hierarchy, HierarchyBuilder,
    CertificateDraft, CrlDraft, intel::PckKey, intel::Hierarchy, intel::HierarchyBuilder, intel::JsonDraft<()>,
    cove::Cdi, cove::Device, cove::AttestationKey, cove::Chain, cove::Hierarchy, cove::HierarchyBuilder,
);
// Comparing secrets byte by byte tells by its time how much was right.
assert_not_implemented!(
    PartialEq: Seed, Secret<32>, RsaKey, EcdsaP256Key, EcdsaP384Key, EndorsementKey, intel::PckKey, cove::Cdi, cove::AttestationKey
);

fn assert_wiped_when_dropped<T: zeroize::ZeroizeOnDrop>() {}

#[test]
fn seeds_and_secrets_are_wiped_when_dropped() {
    assert_wiped_when_dropped::<Seed>();
    assert_wiped_when_dropped::<Secret<48>>();
    assert_wiped_when_dropped::<cove::Cdi>();
}

#[test]
fn hierarchies_go_across_threads() {
    fn check<T: Send + Sync>() {}
    check::<Hierarchy>();
    check::<HierarchyBuilder>();
    check::<EndorsementKey>();
    check::<intel::Hierarchy>();
    check::<intel::HierarchyBuilder>();
    check::<intel::PckKey>();
    check::<cove::Hierarchy>();
    check::<cove::HierarchyBuilder>();
    check::<cove::Chain>();
}
