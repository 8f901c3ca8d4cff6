//! Engines that run a guest, and what surrounds them: guest RAM, loader, port bus, devices, the page walk.
//!
//! An [`engine::Engine`] is one virtual CPU. It runs until something needs an answer and hands that over as an owned
//! [`engine::Exit`]; whoever dispatches exits never sees a hypervisor's types, and devices never name an engine. For RISC-V an
//! [`engine::riscv::Hart`] does the same.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | what executes the guest: `engine::kvm` (x86-64 Linux only), `engine::qemu` (Linux), [`engine::riscv`], and [`engine::scripted`] for tests |
//! | [`memory`] | guest RAM |
//! | [`loader`] | bare-metal ELF images, Linux kernels for x86-64 and RISC-V, OVMF images, VMSAs, boot page tables, patching of instructions |
//! | [`bus`], [`device`] | port I/O and the devices on it |
//! | [`paging`] | page walks |
//! | [`cc`] | confidential machines: exits turned into calls of the simulator |
//! | [`guest_channel`] | what a Linux guest sends: output, files, exit status |
//!
//! Guest RAM lies at guest-physical address zero (on RISC-V at [`engine::riscv::RAM_BASE`]) and, for guests that believe in
//! memory encryption, a second time at the address that is the C-bit or the shared bit alone: both names reach the same bytes, so a page can be used as private
//! and as shared without any encryption. That models the guest's view; it isolates nothing.

pub mod bus;
pub mod cc;
pub mod device;
pub mod engine;
pub mod guest_channel;
pub mod loader;
pub mod memory;
pub mod paging;
