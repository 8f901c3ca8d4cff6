//! Loading Linux: a distribution's kernel image and an initial RAM disk, as a confidential guest finds them in memory.
//!
//! | module | what |
//! |---|---|
//! | [`decompress`] | the formats in which kernels and modules are compressed |
//! | [`image`] | bzImage or ELF to segments |
//! | [`layout`] | where everything but the kernel and the RAM disk lies |
//! | [`acpi`] | the tables that make a PC |
//! | [`boot`] | everything into RAM, and the launch plans |
//! | [`reset`] | the way from a processor's reset to the kernel's entry |
//! | [`modules`] | modules of a kernel package, in the order of their dependencies |
//! | [`initramfs`] | the archive that the kernel unpacks |
//! | [`riscv_image`], [`riscv_fdt`], [`riscv_boot`] | the same for RISC-V: image, device tree, everything into RAM |

pub mod acpi;
pub mod boot;
pub mod decompress;
pub mod image;
pub mod initramfs;
pub mod layout;
pub mod modules;
pub mod reset;
pub mod riscv_boot;
pub mod riscv_fdt;
pub mod riscv_image;
