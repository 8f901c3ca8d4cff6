//! Bringing a guest into RAM: ELF images, the boot page tables, and the patching of instructions that need hardware.

pub mod bare_metal;
pub mod boot;
pub mod elf;
pub mod linux;
pub mod ovmf;
pub mod patch;
pub mod td;
pub mod tvm;
pub mod vmsa;
