//! Pages that hold no Rust object: those of the launch, those shared with the hypervisor, those that tests play with.
#![expect(unsafe_code, reason = "memory that someone else reads and writes is accessed by volatile copies")]

use core::cell::UnsafeCell;

use tsmsim_abi::{
    guest_test::{CPUID_GPA, PARAMETERS_GPA, PARAMETERS_MAGIC, Parameters, RAM_SIZE, SECRETS_GPA},
    snp::{
        PAGE_SIZE,
        pages::{CpuidFunction, CpuidPage, SecretsPage},
        payload::CPUID_MAX,
    },
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, little_endian::U32};

/// Bytes of a large page.
pub(in crate::guest) const LARGE_PAGE: usize = 2 << 20;
/// 2 MiB of RAM that were not launched, mapped by 4 KiB pages.
pub(in crate::guest) const TEST_AREA_GPA: u64 = 4 << 20;
/// 2 MiB of RAM that were not launched, mapped by one large page.
pub(in crate::guest) const LARGE_TEST_GPA: u64 = 6 << 20;
/// Launched pages that tests may use.
const POOL_PAGES: usize = 24;

const _: () = assert!(LARGE_TEST_GPA + LARGE_PAGE as u64 <= RAM_SIZE);

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u8; PAGE_SIZE]; POOL_PAGES]>);

// SAFETY: only reached through `GuestPage`, by volatile accesses.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; PAGE_SIZE]; POOL_PAGES]));

/// A page of guest memory that holds no Rust object; whoever has a copy of this may read and write it.
#[derive(Clone, Copy)]
pub(in crate::guest) struct GuestPage(u64);

impl GuestPage {
    /// A page of the image, launched private and validated: one of [`POOL_PAGES`].
    pub(in crate::guest) fn launched(index: u32) -> Self {
        assert!((index as usize) < POOL_PAGES);
        Self(POOL.0.get() as u64 + u64::from(index) * PAGE_SIZE as u64)
    }

    /// The page behind a launched one, in the same pool.
    pub(in crate::guest) fn next(self) -> Self {
        let index = (self.0 - POOL.0.get() as u64) / PAGE_SIZE as u64;
        assert!(index + 1 < POOL_PAGES as u64);
        Self(self.0 + PAGE_SIZE as u64)
    }

    /// A page of the test area, which was not launched.
    pub(in crate::guest) fn test(index: u32) -> Self {
        assert!(index < 512);
        Self(TEST_AREA_GPA + u64::from(index) * PAGE_SIZE as u64)
    }

    /// The first 4 KiB of the large page of the test area.
    pub(in crate::guest) fn large_test() -> Self {
        Self(LARGE_TEST_GPA)
    }

    /// Guest-physical address, which is the virtual address too.
    pub(in crate::guest) fn gpa(self) -> u64 {
        self.0
    }

    /// Guest frame number.
    pub(in crate::guest) fn gfn(self) -> u64 {
        self.0 / PAGE_SIZE as u64
    }

    /// A copy of what lies at the offset.
    pub(in crate::guest) fn read<T: FromBytes + FromZeros + IntoBytes>(self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= PAGE_SIZE);
        let mut value = T::new_zeroed();
        let from = (self.0 as *const u8).wrapping_add(offset);
        for (index, byte) in value.as_mut_bytes().iter_mut().enumerate() {
            // SAFETY: inside the page, by the assertion; the constructors give out mapped pages without objects.
            *byte = unsafe { from.wrapping_add(index).read_volatile() };
        }
        value
    }

    /// Copies a value to the offset.
    pub(in crate::guest) fn write<T: IntoBytes + Immutable + ?Sized>(self, offset: usize, value: &T) {
        assert!(offset + size_of_val(value) <= PAGE_SIZE);
        let to = (self.0 as *mut u8).wrapping_add(offset);
        for (index, byte) in value.as_bytes().iter().enumerate() {
            // SAFETY: as for `read`.
            unsafe { to.wrapping_add(index).write_volatile(*byte) };
        }
    }
}

/// What the loader put into memory besides the image.
#[derive(Clone, Copy)]
pub(in crate::guest) struct Launched;

impl Launched {
    /// The agreement fixes where everything is; `parameters` is checked against it.
    pub(in crate::guest) fn at(parameters: u64) -> Self {
        assert!(parameters == PARAMETERS_GPA, "parameter page not where it belongs");
        assert!(Self.parameters().magic == PARAMETERS_MAGIC, "no parameters");
        Self
    }

    /// The parameter page.
    pub(in crate::guest) fn parameters(self) -> Parameters {
        GuestPage(PARAMETERS_GPA).read(0)
    }

    /// Bytes of RAM.
    pub(in crate::guest) fn ram_size(self) -> u64 {
        self.parameters().ram_size.get()
    }

    /// The secrets page, if there is one.
    pub(in crate::guest) fn secrets(self) -> Option<SecretsPage> {
        (self.parameters().secrets_gpa.get() == SECRETS_GPA).then(|| GuestPage(SECRETS_GPA).read(0))
    }

    /// The CPUID page, if there is one.
    pub(in crate::guest) fn cpuid_page(self) -> Option<CpuidPage> {
        (self.parameters().cpuid_gpa.get() == CPUID_GPA).then(|| GuestPage(CPUID_GPA).read(0))
    }

    /// A leaf of the CPUID page; reads no more of it than it must, since ring 0 may be slow.
    pub(in crate::guest) fn cpuid(self, leaf: u32, subleaf: u32) -> Option<CpuidFunction> {
        let page = GuestPage(CPUID_GPA);
        let count = (page.read::<U32>(0).get() as usize).min(CPUID_MAX);
        (0..count)
            .map(|index| core::mem::offset_of!(CpuidPage, functions) + index * size_of::<CpuidFunction>())
            .find(|&at| page.read::<U32>(at).get() == leaf && page.read::<U32>(at + 4).get() == subleaf)
            .map(|at| page.read(at))
    }

    /// Where the C-bit is, by CPUID Fn8000_001F_EBX, bits 5 to 0.
    pub(in crate::guest) fn c_bit(self) -> Option<u32> {
        self.cpuid(0x8000_001f, 0).map(|function| function.ebx.get() & 0x3f)
    }
}
